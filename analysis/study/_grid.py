"""The grid of a study: which variants are trained, at which windows, with which seeds.

A cell of the grid is one variant at one window; its seeds may lie in several runs, so
that a study can be continued with more of them.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

from models.train.folder import differs
from models.train.options import PRESETS, FitOptions, Preset, TrainOptions
from models.train.record import read_run
from sensitivity.arguments import ArgumentError, check_at_least

PaperName = Literal["a", "b", "c", "d", "e"]
CureName = Literal["f", "g", "g-norm", "h", "i", "j", "k"]
OtherName = Literal[
    "b-diagonal", "b-conjoint", "b-tts", "convolution", "convolution-tts"
]
VariantName = PaperName | CureName | OtherName
PAPER: tuple[VariantName, ...] = ("a", "b", "c", "d", "e", "b-diagonal")

_CONVOLUTION = {"model": "convolution", "heads": None}
# What sets a variant apart from (b), as options of models.train.
VARIANTS: dict[str, dict[str, Any]] = {
    "a": {"residual": False},
    "b": {},
    "c": {"regularizer": "mask"},
    "d": {"regularizer": "dropout"},
    "e": {"regularizer": "penalty"},
    "f": {"regularizer": "query"},
    "g": {"regularizer": "spectrum"},
    "g-norm": {"regularizer": "spectrum", "spectrum_size": "norm"},
    "h": {"head_norm": "rms"},
    "i": {"regularizer": "learned-mask"},
    "j": {"attention": "conjoint"},
    "k": {"attention": "softmax-1"},
    "b-diagonal": {"graph": "diagonal"},
    "b-conjoint": {"graph": "conjoint"},
    "b-tts": {"stack": "time-then-space"},
    "convolution": _CONVOLUTION,
    "convolution-tts": _CONVOLUTION | {"stack": "time-then-space"},
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StudyOptions:
    """Train the paper's variants on one data set, and compare them over seeds.

    The same command goes on where it stopped and skips what is finished; with more
    windows, variants or seeds it trains what is missing.

    Attributes:
        dataset: As for models.train: metr-la, pems-bay, payne-whitham or a file.
        data: Folder of the data set's files.
        preset: Sizes and training of models.train.
        windows: Window lengths.
        horizon: Steps that are forecast; by default as many as the window has.
        variants: (a) without residual, (b) baseline, (c) diagonal mask, (d) diagonal
            dropout, (e) diagonal penalty; the cures that the paper does not have: (f)
            the query path in the loss, (g) the query-key spectrum in the loss, by its
            eigenvalues or its norm, (h) a norm of each head's values, (i) a mask
            learned by lag, (j) conjoint attention, (k) a softmax with an extra 1; (b)
            with the diagonal graph, which mixes no nodes, with the conjoint graph, and
            with all temporal layers first (tts); the causal convolution in place of
            attention, both ways.
        layers: Depths; by default the preset's.
        seeds: Seeds 0, 1, ... of every variant.
        epochs: Epochs of every run; by default the preset's.
        steps_per_epoch: Training steps in an epoch; by default every batch.
        batch_size: Windows in a training step; by default the preset's.
        time_of_week: Whether the average by time of week is an input.
        keep_epochs: Epochs after which weights are kept, as of models.train.
        out: Folder of the runs, and of the tables and pictures made of them.
    """

    dataset: str = "metr-la"
    data: Path | None = None
    preset: Preset = "small"
    windows: tuple[int, ...] = (12, 36)
    horizon: int | None = None
    variants: tuple[VariantName, ...] = PAPER
    layers: tuple[int, ...] = ()
    seeds: int = 4
    epochs: int | None = None
    steps_per_epoch: int | None = None
    batch_size: int | None = None
    time_of_week: bool = False
    keep_epochs: tuple[int, ...] = ()
    out: Path = Path("runs/study")

    def __post_init__(self) -> None:
        """Refuse a study that cannot be done, before anything is trained."""
        if not self.layers:
            preset = PRESETS[self.preset].model.layers
            object.__setattr__(self, "layers", (preset,))
        for name in ("windows", "variants", "layers"):
            values = getattr(self, name)
            if not values:
                raise ArgumentError(name, "must name at least one, got none.")
            if len(set(values)) < len(values):
                raise ArgumentError(name, f"must not repeat one, got {list(values)}.")
        check_at_least(1, windows=min(self.windows), layers=min(self.layers))
        check_at_least(1, seeds=self.seeds, horizon=self.horizon)
        for key in self.keys():
            self.cell(key, 0, 1)

    def keys(self) -> list["CellKey"]:
        """The cells asked for, short windows and shallow models first."""
        return [
            CellKey(window, variant, layers)
            for window in sorted(self.windows)
            for layers in sorted(self.layers)
            for variant in self.variants
        ]

    def folder(self, window: int) -> Path:
        """Where the cells of a window are."""
        horizon = window if self.horizon is None else self.horizon
        return self.out / f"{window}-{horizon}"

    def cell(self, key: "CellKey", first: int, count: int) -> TrainOptions:
        """The run of so many of a cell's seeds; it goes on where it stopped."""
        preset, (window, variant, layers) = PRESETS[self.preset], key
        names = ("epochs", "steps_per_epoch", "batch_size")
        given = {name: getattr(self, name) for name in names}
        given = {name: value for name, value in given.items() if value is not None}
        fit: FitOptions = dataclasses.replace(
            preset.fit, seeds=count, first_seed=first, **given
        )
        series = dataclasses.replace(
            preset.series,
            dataset=self.dataset,
            data=self.data,
            window=window,
            horizon=window if self.horizon is None else self.horizon,
            time_of_week=self.time_of_week,
        )
        model = {"layers": layers} | VARIANTS[variant]
        place = variant + f"-{layers}-layers" * (layers != preset.model.layers)
        return TrainOptions(
            preset=self.preset,
            series=series,
            model=dataclasses.replace(preset.model, **model),
            fit=fit,
            out=self.folder(window) / place / f"seeds-{first}-{first + count - 1}",
            resume=True,
            keep_epochs=self.keep_epochs,
        )


class CellKey(NamedTuple):
    """Where in the grid a cell is."""

    window: int
    variant: str
    layers: int


class Cell(NamedTuple):
    """One variant at one window and depth."""

    key: CellKey
    finished: list[TrainOptions]  # runs that are complete
    missing: list[TrainOptions]  # runs that train the seeds no complete run has


def plan(options: StudyOptions) -> list[Cell]:
    """What is finished and what is missing, in the order in which it is done."""
    return [_cell(options, key) for key in options.keys()]


def _cell(options: StudyOptions, key: CellKey) -> Cell:
    """Cover the wanted seeds with the runs there are, complete ones first."""
    there = _runs_there(options, key)
    wanted, covered = set(range(options.seeds)), set()
    finished, missing = [], []
    for is_complete, chosen in ((True, finished), (False, missing)):
        for run, complete in there:
            own = set(run.fit.seed_list())
            if complete is is_complete and own & wanted and not own & covered:
                chosen.append(run)
                covered |= own
    lacking = [seed for seed in range(options.seeds) if seed not in covered]
    for first in lacking:
        if first - 1 not in lacking:  # of a gap between covered ones
            count = 1
            while first + count in lacking:
                count += 1
            missing.append(options.cell(key, first, count))
    return Cell(key, finished, missing)


def _runs_there(options: StudyOptions, key: CellKey) -> list[tuple[TrainOptions, bool]]:
    """The runs of a cell that have been begun, and whether each is complete."""
    # Those of most seeds come first.
    found = []
    for folder in options.cell(key, 0, 1).out.parent.glob("seeds-*-*"):
        numbers = re.fullmatch(r"seeds-(\d+)-(\d+)", folder.name)
        if numbers is None or not (folder / "run.json").exists():
            continue
        there = read_run(folder, complete=False)
        first, last = map(int, numbers.groups())
        run = options.cell(key, first, last - first + 1)
        if different := differs(there.arguments, run):
            raise ValueError(
                f"{folder} holds a run with other settings than this study "
                f"({different}); choose another --out."
            )
        found.append((run, there.complete))
    return sorted(found, key=lambda each: (-each[0].fit.seeds, each[0].fit.first_seed))


def all_finished(options: StudyOptions) -> list[Cell]:
    """Every cell under the study's folder that has complete runs, each seed once."""
    # Asked for or not: all of a study that was trained piece by piece is shown.
    cells = []
    for key in _keys_there(options):
        runs, covered = [], set()
        for run, complete in _runs_there(options, key):
            own = set(run.fit.seed_list())
            if complete and not own & covered:
                runs.append(run)
                covered |= own
        if runs:
            cells.append(Cell(key, runs, []))
    return cells


def _keys_there(options: StudyOptions) -> list[CellKey]:
    """The cells that have a folder, short windows and shallow models first."""
    found = []
    preset = PRESETS[options.preset].model.layers
    for folder in options.out.glob("[0-9]*-[0-9]*/*"):
        window = folder.parent.name.partition("-")[0]
        named = re.fullmatch(r"([a-z-]+?)(?:-(\d+)-layers)?", folder.name)
        if not (window.isdecimal() and named and named[1] in VARIANTS):
            continue
        if folder.parent == options.folder(int(window)):
            layers = preset if named[2] is None else int(named[2])
            found.append(CellKey(int(window), named[1], layers))
    names = list(VARIANTS)
    return sorted(found, key=lambda k: (k.window, k.layers, names.index(k.variant)))
