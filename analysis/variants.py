"""Variants by name: which runs share a table or a row, and what each is called.

The base of every name is the paper's row. Tables add in what a row differs from most
rows; pictures add in what a run differs from others of its name; a study names the
variants that it trains. `labels` and `describe` are two, as the first reads records of
any version, of which many runs make a row, the second options of this one, run by run.
"""

import dataclasses
import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from models.train.options import PLACES, ModelOptions, TrainOptions
from models.train.record import Run

# (residual, regularizer): the rows of the paper's Tables 1 and 2, in their order.
PAPER_ROWS = {
    (False, "none"): "(a) No residual",
    (True, "none"): "(b) No regularization",
    (True, "mask"): "(c) Full diagonal mask",
    (True, "dropout"): "(d) Diagonal dropout",
    (True, "penalty"): "(e) Diagonal penalty",
}
# Cures of neighbouring works and ours, each of one setting of `models.train`.
CURES = {
    ("regularizer", "query"): "(f) Query penalty",
    ("regularizer", "spectrum"): "(g) Spectrum penalty",
    ("head_norm", "rms"): "(h) Head norm",
    ("regularizer", "learned-mask"): "(i) Learned mask",
    ("attention", "conjoint"): "(j) Conjoint attention",
    ("attention", "softmax-1"): "(k) Softmax-1",
}
# What `describe` says of a run, and its seed: the first columns of tidy tables.
COLUMNS = (
    *("run", "label", "variant", "model", "stack", "graph", "residual"),
    *("regularizer", "layers", "window", "horizon", "seed"),
)
# What a regularizer's strengths are called; they mean nothing to the others.
_STRENGTHS = {
    "dropout": ("diagonal_dropout",),
    "penalty": ("penalty",),
    "query": ("query_weight",),
    "spectrum": ("spectrum_weight", "spectrum_size", "trace_weight", "trace_target"),
    "learned-mask": ("mask_weight",),
}
# Named in the label of a row where it differs from most rows of the table.
_ARCHITECTURE = (
    *("model", "graph", "stack", "layers", "heads", "position", "attention"),
    *("head_norm", "structure_weight", "hops", "embedding", "taps"),
    "adjacency_sha256",
)
# Of some graphs alone, which have it all the same as a rule.
_OF_A_GRAPH = ("structure_weight", "adjacency_sha256")
# Of a path only the last part counts: a copy is the same data.
_PATHS = ("dataset", "data")
_FINGERPRINT = "data_sha256"
# Where and how a run is done: two runs that differ in nothing else are comparable.
_NO_SETTINGS = (
    *("out", "seed", "seeds", "first_seed", "resume", "overwrite", "devices"),
    *("preset", "predictions", "seeds_at_once", "adjacency"),
)
# What the name of a run's model says already.
_NAMED_BY_BASE = ("model", "residual", "regularizer", "stack", "layers")


class Variant(NamedTuple):
    """What makes a row: equal variants are one row, their seeds taken together."""

    residual: bool
    regularizer: str
    strength: tuple[tuple[str, Any], ...]  # names and values, of a regularizer
    architecture: tuple[tuple[str, Any], ...]  # other settings a row may differ in

    @property
    def is_b(self) -> bool:
        """Whether it has a residual and no regularizer: the paper's (b)."""
        return (self.residual, self.regularizer) == (True, "none")

    @property
    def base_label(self) -> str:
        """The paper's name, that of a cure, or words for what neither has."""
        return _base_name(self.residual, self.regularizer, dict(self.architecture))


def variant_of(run: Run) -> Variant:
    """The row a run belongs to."""
    arguments = run.arguments
    names = _STRENGTHS.get(arguments["regularizer"], ())
    return Variant(
        residual=arguments["residual"],
        regularizer=arguments["regularizer"],
        strength=tuple((name, arguments[name]) for name in names if name in arguments),
        architecture=tuple(
            (name, arguments[name]) for name in _ARCHITECTURE if name in arguments
        ),
    )


def shared_settings(run: Run) -> dict[str, Any]:
    """What all runs of a table must have in common, by name.

    Every argument counts that is not known to name a row or to leave the numbers
    alone, so that a new one parts tables rather than mix them.

    Args:
        run: The run.

    Returns:
        The settings by name.
    """
    left_out = {*_ARCHITECTURE, *_NO_SETTINGS, "residual", "regularizer"}
    left_out |= {name for names in _STRENGTHS.values() for name in names}
    settings = {k: v for k, v in run.arguments.items() if k not in left_out}
    for name in _PATHS:
        if settings.get(name) is not None:
            settings[name] = PurePath(settings[name]).name
    return settings


def group_runs(runs: Sequence[Run]) -> list[list[Run]]:
    """Part runs into tables.

    Args:
        runs: All runs.

    Returns:
        Groups of equal `shared_settings`, short windows first, else as given.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        key = json.dumps(shared_settings(run), sort_keys=True)
        groups.setdefault(key, []).append(run)
    return sorted(groups.values(), key=lambda group: _size(group[0].arguments))


def telling_settings(groups: Sequence[Sequence[Run]]) -> list[list[str]]:
    """What tells each table from the others of its window and horizon.

    Args:
        groups: Runs by table.

    Returns:
        For each table the names of the settings in which these differ; none where it
        is the only one of its window and horizon.
    """
    settings = [shared_settings(group[0]) for group in groups]
    telling = []
    for own in settings:
        peers = [other for other in settings if _size(other) == _size(own)]
        names = dict.fromkeys(name for peer in peers for name in peer)
        differing = [n for n in names if any(p.get(n) != own.get(n) for p in peers)]
        # A fingerprint tells only what has no other name.
        telling.append([n for n in differing if n != _FINGERPRINT] or differing)
    return telling


def main_architecture(variants: Sequence[Variant]) -> tuple[tuple[str, Any], ...]:
    """The architecture of most rows; of equals one without cures, with the full graph.

    Args:
        variants: The rows, no two alike.

    Returns:
        Its settings.
    """
    found = [variant.architecture for variant in variants]

    def place(own: tuple[tuple[str, Any], ...]) -> tuple[int, bool, bool]:
        plain = not any(setting in CURES for setting in own)
        return found.count(own), plain, dict(own).get("graph") == "full"

    return max(found, key=place)


def labels(variants: Sequence[Variant]) -> dict[Variant, str]:
    """A label for each row: the paper's, and in what it differs from most rows.

    Args:
        variants: The rows, no two alike.

    Returns:
        The labels, in the order of the paper, (a) to (e), and of the cures after it,
        each with the architecture of most rows first.
    """
    main = main_architecture(variants)
    usual, order = dict(main), [*PAPER_ROWS.values(), *CURES.values()]

    def label(variant: Variant) -> str:
        base, own = variant.base_label, dict(variant.architecture)
        told = {k: own.get(k) for k in _ARCHITECTURE if own.get(k) != usual.get(k)}
        told = _unnamed(base, told, [dict(v.architecture) for v in variants])
        peers = [dict(v.strength) for v in variants if v.base_label == base]
        differing = {
            name: value
            for name, value in variant.strength
            if any(peer.get(name) != value for peer in peers)
        }
        told = differing | told
        return _name(base, told)

    def place(variant: Variant) -> tuple[int, bool]:
        base = variant.base_label
        known = order.index(base) if base in order else len(order)
        return known, variant.architecture != main

    return {variant: label(variant) for variant in sorted(variants, key=place)}


def partner(variant: Variant, variants: Sequence[Variant]) -> Variant | None:
    """The (b) that a row is compared with.

    A variant is compared with the (b) of its own architecture, and a (b) of another
    architecture with the (b) that most rows have: one change at a time, or None.

    Args:
        variant: The row.
        variants: All rows.

    Returns:
        The other row; None for the main (b) itself and where there is no such row.
    """
    wanted = main_architecture(variants) if variant.is_b else variant.architecture
    found = (v for v in variants if v.is_b and v.architecture == wanted)
    return next((v for v in found if v != variant), None)


def settings_in_words(settings: Mapping[str, Any]) -> str:
    """Settings as a phrase.

    Args:
        settings: Values by name.

    Returns:
        ``epochs 30, time of week no``.

    Example:
        >>> settings_in_words({"epochs": 30, "time_of_week": False})
        'epochs 30, time of week no'
    """
    return ", ".join(_words(*setting) for setting in settings.items())


def describe(runs: Sequence[TrainOptions]) -> list[dict[str, Any]]:
    """Columns that say what each run is.

    Args:
        runs: All runs that are shown together.

    Returns:
        For each its folder as ``run``, its settings, ``variant``, the paper's name and
        in what it differs from others of that name, and ``label``, the same with the
        stack and the depth where runs differ in these.
    """
    bases = [_base(run.model) for run in runs]
    settings = [_settings(run) for run in runs]
    stacks, depths = {r.model.stack for r in runs}, {r.model.layers for r in runs}
    found = []
    for run, base, own in zip(runs, bases, settings, strict=True):
        peers = [s for s, b in zip(settings, bases, strict=True) if b == base]
        told = {k: v for k, v in own.items() if any(peer[k] != v for peer in peers)}
        told = _unnamed(base, told, settings)
        variant = _name(base, told)
        parts = [variant]
        if len(stacks) > 1:
            parts.append(_stack(run.model))
        if len(depths) > 1:
            parts.append(depth_in_words(run.model.layers))
        found.append(
            {"run": str(run.out), "label": ", ".join(parts), "variant": variant}
            | {name: getattr(run.model, name) for name in COLUMNS[3:9]}
            | {"window": run.series.window, "horizon": run.series.horizon}
        )
    return found


def name_of(model: ModelOptions) -> str:
    """The name of a model by itself, without others that it must be told from.

    Args:
        model: The model.

    Returns:
        The paper's name, and its graph and its stack where the paper has others.

    Example:
        >>> name_of(ModelOptions(regularizer="mask"))
        '(c) Full diagonal mask'
        >>> name_of(ModelOptions(model="convolution", stack="time-then-space"))
        'Convolution, time then space'
    """
    parts = [_base(model)]
    if model.spectrum_size == "norm":
        parts.append(_words("spectrum_size", model.spectrum_size))
    if model.graph != "full":
        parts.append(_words("graph", model.graph))
    if model.stack != "time-and-space":
        parts.append(_stack(model))
    return ", ".join(parts)


def depth_in_words(layers: int) -> str:
    """A number of layers in words."""
    return f"{layers} layer" + ("" if layers == 1 else "s")


def check_each_folder_once(folders: Iterable[Path]) -> None:
    """Refuse ``RUNS`` that name a folder twice, by whatever paths.

    Args:
        folders: What is typed.

    Raises:
        ValueError: Naming the folder.
    """
    seen = set()
    for folder in folders:
        if folder.resolve() in seen:
            raise ValueError(f"RUNS must name each folder once, got {folder} twice.")
        seen.add(folder.resolve())


def check_each_seed_once(
    runs: Iterable[tuple[Hashable, str, Iterable[int], Path]],
) -> None:
    """Refuse the same seed of the same variant twice: it would count double.

    Args:
        runs: Of each its variant, what that is called, its seeds and its folder.

    Raises:
        ValueError: Naming the seed, the variant and both folders.
    """
    seen: dict[tuple[Hashable, int], int] = {}
    folders = []
    for place, (variant, label, seeds, folder) in enumerate(runs):
        folders.append(folder)
        for seed in seeds:
            if (first := seen.setdefault((variant, seed), place)) != place:
                raise ValueError(
                    f"each seed of a variant may come once, but seed {seed} of "
                    f"{label} is in {folders[first]} and in {folder}."
                )


def _name(base: str, told: Mapping[str, Any]) -> str:
    return f"{base}, {settings_in_words(told)}" if told else base


def _unnamed(
    base: str, told: Mapping[str, Any], every: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Settings without what the name says, and what all graphs that have it share."""

    def differs(name: str) -> bool:
        return len({own.get(name) for own in every} - {None}) > 1

    return {
        name: value
        for name, value in told.items()
        if not ((name, value) in CURES and base.endswith(CURES[name, value]))
        and (name not in _OF_A_GRAPH or (value is not None and differs(name)))
    }


def _base_name(residual: bool, regularizer: str, others: Mapping[str, Any]) -> str:
    """What a row or model is called before its settings, of which one may name it."""
    # A form of attention names what has no regularizer.
    cure = CURES.get(("regularizer", regularizer), "")
    if regularizer == "none":
        names = ("attention", "head_norm")
        forms = (CURES.get((k, others.get(k, "")), "") for k in names)
        cure = next(filter(None, forms), "")
    if cure:
        return cure if residual else f"No residual, {cure}"
    other = f"No residual, diagonal {regularizer}"
    return PAPER_ROWS.get((residual, regularizer), other)


def _base(model: ModelOptions) -> str:
    """What a model is called before its settings; a convolution has no paper row."""
    if model.model == "convolution":
        return "Convolution" + ", no residual" * (not model.residual)
    return _base_name(model.residual, model.regularizer, dataclasses.asdict(model))


def _stack(model: ModelOptions) -> str:
    return model.stack.replace("-", " ")


def _words(name: str, value: Any) -> str:
    said = {True: "yes", False: "no", None: "none"}
    if isinstance(value, bool) or value is None:
        value = said[value]
    if name.endswith("_sha256"):
        value = str(value)[:12]
    return f"{name.replace('_', ' ')} {value}"


def _size(settings: Mapping[str, Any]) -> tuple[int, int]:
    return settings["window"], settings["horizon"]


def _settings(run: TrainOptions) -> dict[str, Any]:
    """What may tell two runs of one name apart, the model first."""
    found: dict[str, Any] = {}
    for group in (run.model, run.series, run.fit):
        found |= dataclasses.asdict(group)
    left_out = (*_NAMED_BY_BASE, *_NO_SETTINGS, *PLACES)
    return {k: v for k, v in found.items() if k not in left_out}


def seeds_in_words(count: int, several: str = "mean over seeds") -> str:
    """What a line of so many seeds is."""
    return several if count > 1 else "one seed"


def some_layers(layers: Iterable[Any], most: int = 3) -> list[int]:
    """Layers to show: all of a few, else evenly spaced ones from first to last."""
    there = sorted({int(layer) for layer in layers})
    last, count = len(there) - 1, min(most, len(there))
    return [there[round(k * last / max(1, count - 1))] for k in range(count)]
