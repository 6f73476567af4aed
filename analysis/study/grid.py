"""The grid of a study: which variants are trained, at which windows, with which seeds.

A cell of the grid is one variant at one window; its seeds may lie in several runs, so
that a study can be continued with more of them.
"""

import dataclasses
import json
from pathlib import Path
from typing import Literal, NamedTuple

from models.train.groups import DataOptions, FitOptions
from models.train.options import PRESETS, Preset, TrainOptions

VariantName = Literal["a", "b", "c", "d", "e", "b-diagonal"]

# What sets a variant apart from (b), as options of models.train.
VARIANTS: dict[str, dict] = {
    "a": {"residual": False},
    "b": {},
    "c": {"regularizer": "mask"},
    "d": {"regularizer": "dropout"},
    "e": {"regularizer": "penalty"},
    "b-diagonal": {"graph": "diagonal"},
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
        windows: Window lengths, each with a horizon as long.
        variants: (a) without residual, (b) baseline, (c) diagonal mask, (d) diagonal
            dropout, (e) diagonal penalty, and (b) with the diagonal graph, which mixes
            no nodes.
        seeds: Seeds 0, 1, ... of every variant.
        epochs: Epochs of every run; by default the preset's.
        steps_per_epoch: Training steps in an epoch; by default every batch.
        batch_size: Windows in a training step; by default the preset's.
        time_of_week: Whether the average by time of week is an input.
        out: Folder of the runs, and of the tables and pictures made of them.
    """

    dataset: str = "metr-la"
    data: Path | None = None
    preset: Preset = "small"
    windows: tuple[int, ...] = (12, 36)
    variants: tuple[VariantName, ...] = ("a", "b", "c", "d", "e", "b-diagonal")
    seeds: int = 4
    epochs: int | None = None
    steps_per_epoch: int | None = None
    batch_size: int | None = None
    time_of_week: bool = False
    out: Path = Path("runs/study")

    def __post_init__(self) -> None:
        """Refuse a study that cannot be done, before anything is trained.

        Raises:
            ValueError: Naming the option, its rule and the value.
        """
        for name in ("windows", "variants"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"--{name} must name at least one, got none.")
            if len(set(values)) < len(values):
                raise ValueError(f"--{name} must not repeat one, got {list(values)}.")
        if min(self.windows) < 1:
            raise ValueError(f"--windows must be at least 1, got {min(self.windows)}.")
        if self.seeds < 1:
            raise ValueError(f"--seeds must be at least 1, got {self.seeds}.")
        for window in self.windows:
            for variant in self.variants:
                self.cell(window, variant, 0, 1)

    def cell(self, window: int, variant: str, first: int, count: int) -> TrainOptions:
        """One run of the study.

        Args:
            window: Its window and horizon.
            variant: Its variant.
            first: Its first seed.
            count: Number of its seeds.

        Returns:
            The run, as models.train takes it; it goes on where it stopped.

        Raises:
            ValueError: Naming the option, its rule and the value.
        """
        preset = PRESETS[self.preset]
        given = {
            name: getattr(self, name)
            for name in ("epochs", "steps_per_epoch", "batch_size")
            if getattr(self, name) is not None
        }
        fitting: FitOptions = dataclasses.replace(
            preset.fit, seeds=count, first_seed=first, **given
        )
        name = f"seeds-{first}-{first + count - 1}"
        return TrainOptions(
            preset=self.preset,
            series=DataOptions(
                dataset=self.dataset,
                data=self.data,
                window=window,
                horizon=window,
                scale=preset.series.scale,
                time_of_week=self.time_of_week,
            ),
            model=dataclasses.replace(preset.model, **VARIANTS[variant]),
            fit=fitting,
            out=self.out / f"{window}-{window}" / variant / name,
            resume=True,
        )


class Cell(NamedTuple):
    """One variant at one window.

    Attributes:
        window: Its window and horizon.
        variant: Its variant.
        finished: Runs that are complete.
        missing: The run that trains the seeds no complete run has, or None.
    """

    window: int
    variant: str
    finished: list[TrainOptions]
    missing: TrainOptions | None


def plan(options: StudyOptions) -> list[Cell]:
    """See what is finished and what is missing, in the order in which it is done.

    Args:
        options: The study.

    Returns:
        Every cell; short windows first.
    """
    cells = []
    for window in sorted(options.windows):
        for variant in options.variants:
            finished, first = [], 0
            while first < options.seeds:
                count = _finished_from(options, window, variant, first)
                if count is None:
                    break
                finished.append(options.cell(window, variant, first, count))
                first += count
            missing = None
            if first < options.seeds:
                missing = options.cell(window, variant, first, options.seeds - first)
            cells.append(Cell(window, variant, finished, missing))
    return cells


def _finished_from(
    options: StudyOptions, window: int, variant: str, first: int
) -> int | None:
    """How many seeds from ``first`` on the longest fitting complete run has."""
    for count in range(options.seeds - first, 0, -1):
        if is_finished(options.cell(window, variant, first, count)):
            return count
    return None


def is_finished(run: TrainOptions) -> bool:
    """Whether a run is complete, and is the run that is asked for."""
    record = run.out / "run.json"
    if not record.exists():
        return False
    try:
        kept = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        return False
    if not isinstance(kept, dict) or kept.get("complete") is not True:
        return False
    arguments = kept.get("arguments", {})
    return all(arguments.get(name) == value for name, value in run.identity().items())
