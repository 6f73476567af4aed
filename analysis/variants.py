"""Which runs share a table, and which row of it a run belongs to."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from models.train.options import TrainOptions
from models.train.record import Run

# (residual, regularizer): the rows of the paper's Tables 1 and 2, in their order.
PAPER_ROWS = {
    (False, "none"): "(a) No residual",
    (True, "none"): "(b) No regularization",
    (True, "mask"): "(c) Full diagonal mask",
    (True, "dropout"): "(d) Diagonal dropout",
    (True, "penalty"): "(e) Diagonal penalty",
}
# What a regularizer's strength is called; it means nothing to the others.
STRENGTHS = {"dropout": "diagonal_dropout", "penalty": "penalty"}
# Named in the label of a row where it differs from most rows of the table.
ARCHITECTURE = (
    *("model", "graph", "stack", "layers", "heads", "position"),
    *("hops", "embedding", "taps", "adjacency_sha256"),
)
# Of a path only the last part counts: a copy is the same data.
PATHS = ("dataset", "data")
FINGERPRINT = "data_sha256"
# Where and how a run is done: two runs that differ in nothing else are comparable.
NO_SETTINGS = (
    *("out", "seed", "seeds", "first_seed", "resume", "overwrite", "devices"),
    *("preset", "predictions", "seeds_at_once", "adjacency"),
)


class Variant(NamedTuple):
    """What makes a row: equal variants are one row, their seeds taken together.

    Attributes:
        residual: Whether the temporal layers have a residual.
        regularizer: What is done to the diagonal.
        strength: Name and value of the regularizer's strength, or None.
        architecture: Names and values of the other settings a row may differ in.
    """

    residual: bool
    regularizer: str
    strength: tuple[str, Any] | None
    architecture: tuple[tuple[str, Any], ...]

    @property
    def is_b(self) -> bool:
        """Whether it has a residual and no regularizer: the paper's (b)."""
        return (self.residual, self.regularizer) == (True, "none")

    @property
    def base_label(self) -> str:
        """The paper's name, or words for what the paper does not have."""
        key = (self.residual, self.regularizer)
        return PAPER_ROWS.get(key, f"No residual, diagonal {self.regularizer}")


def variant_of(run: Run) -> Variant:
    """The row a run belongs to.

    Args:
        run: The run.

    Returns:
        The variant.
    """
    arguments = run.arguments
    name = STRENGTHS.get(arguments["regularizer"])
    return Variant(
        residual=arguments["residual"],
        regularizer=arguments["regularizer"],
        strength=(name, arguments[name]) if name and name in arguments else None,
        architecture=tuple(
            (name, arguments[name]) for name in ARCHITECTURE if name in arguments
        ),
    )


def shared_settings(run: Run) -> dict[str, Any]:
    """What all runs of a table must have in common.

    Every argument counts that is not known to name a row or to leave the numbers
    alone, so that a new one parts tables rather than mix them.

    Args:
        run: The run.

    Returns:
        The settings by name.
    """
    left_out = {*ARCHITECTURE, *STRENGTHS.values(), *NO_SETTINGS}
    left_out |= {"residual", "regularizer"}
    settings = {k: v for k, v in run.arguments.items() if k not in left_out}
    for name in PATHS:
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
    size = [
        (g[0].arguments["window"], g[0].arguments["horizon"]) for g in groups.values()
    ]
    order = sorted(range(len(groups)), key=lambda k: size[k])
    return [list(groups.values())[k] for k in order]


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
        size = (own["window"], own["horizon"])
        peers = [s for s in settings if (s["window"], s["horizon"]) == size]
        names = dict.fromkeys(name for peer in peers for name in peer)
        differing = [n for n in names if any(p.get(n) != own.get(n) for p in peers)]
        # A fingerprint tells only what has no other name.
        telling.append([n for n in differing if n != FINGERPRINT] or differing)
    return telling


def main_architecture(variants: Sequence[Variant]) -> tuple[tuple[str, Any], ...]:
    """The architecture of most rows; of equals one with the full graph, then the first.

    Args:
        variants: The rows, no two alike.

    Returns:
        Its settings.
    """
    found = [variant.architecture for variant in variants]
    return max(found, key=lambda a: (found.count(a), dict(a).get("graph") == "full"))


def labels(variants: Sequence[Variant]) -> dict[Variant, str]:
    """A label for each row: the paper's, and in what it differs from most rows.

    Args:
        variants: The rows, no two alike.

    Returns:
        The labels, in the order of the paper: (a) to (e), each with the architecture of
        most rows first.
    """
    main = dict(main_architecture(variants))
    strengths: dict[str, set[Any]] = {}
    for variant in variants:
        strengths.setdefault(variant.base_label, set()).add(variant.strength)
    named = {}
    for variant in variants:
        parts = [variant.base_label]
        if variant.strength is not None and len(strengths[variant.base_label]) > 1:
            parts.append(_words(*variant.strength))
        own = dict(variant.architecture)
        differing = [k for k in ARCHITECTURE if own.get(k) != main.get(k)]
        parts += [_words(name, own.get(name)) for name in differing]
        named[variant] = ", ".join(parts)
    order = [*PAPER_ROWS.values()]

    def place(variant: Variant) -> tuple[int, bool]:
        label = variant.base_label
        known = order.index(label) if label in order else len(order)
        return known, variant.architecture != tuple(main.items())

    return {variant: named[variant] for variant in sorted(variants, key=place)}


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
    return ", ".join(_words(name, value) for name, value in settings.items())


def _words(name: str, value: Any) -> str:
    said = {True: "yes", False: "no", None: "none"}
    if isinstance(value, bool) or value is None:
        value = said[value]
    if name.endswith("_sha256"):
        value = str(value)[:12]
    return f"{name.replace('_', ' ')} {value}"


COLUMNS = (
    *("run", "label", "variant", "model", "stack", "graph", "residual"),
    *("regularizer", "layers", "window", "horizon", "seed"),
)
_NAMED_BY_BASE = ("model", "residual", "regularizer", "stack", "layers")
_LEAVE_OUT = ("data", "adjacency", "seeds", "first_seed", "seeds_at_once", "devices")


def describe(runs: Sequence[TrainOptions]) -> list[dict[str, Any]]:
    """Columns that say what each run is.

    Args:
        runs: All runs that are shown together.

    Returns:
        For each its folder as ``run``, its settings, ``variant``, the paper's name and
        in what it differs from others of that name, and ``label``, the same with the
        stack and the depth where runs differ in these.
    """
    bases = [_base(run) for run in runs]
    settings = [_settings(run) for run in runs]
    several = {
        name: len({getattr(run.model, name) for run in runs}) > 1
        for name in ("stack", "layers")
    }
    found = []
    for run, base, own in zip(runs, bases, settings, strict=True):
        peers = [s for s, b in zip(settings, bases, strict=True) if b == base]
        words = [
            settings_in_words({name: value})
            for name, value in own.items()
            if any(peer[name] != value for peer in peers)
        ]
        variant = ", ".join([base, *words])
        parts = [variant]
        if several["stack"]:
            parts.append(run.model.stack.replace("-", " "))
        if several["layers"]:
            parts.append(depth_in_words(run.model.layers))
        found.append(
            {"run": str(run.out), "label": ", ".join(parts), "variant": variant}
            | {name: getattr(run.model, name) for name in COLUMNS[3:9]}
            | {"window": run.series.window, "horizon": run.series.horizon}
        )
    return found


def check_seeds(runs: Sequence[TrainOptions]) -> None:
    """Refuse the same seed of the same variant twice: it would count double.

    Args:
        runs: All runs that are shown together.

    Raises:
        ValueError: Naming the seed, the variant and both folders.
    """
    seen: dict[tuple[str, int], TrainOptions] = {}
    for run, words in zip(runs, describe(runs), strict=True):
        for seed in run.fit.seed_list():
            first = seen.setdefault((words["label"], seed), run)
            if first is not run:
                raise ValueError(
                    f"each seed of a variant may come once, but seed {seed} of "
                    f"{words['label']} is in {first.out} and in {run.out}."
                )


def depth_in_words(layers: int) -> str:
    """A number of layers in words."""
    return f"{layers} layer" + ("" if layers == 1 else "s")


def _base(run: TrainOptions) -> str:
    model = run.model
    if model.model == "convolution":
        return "Convolution" + ", no residual" * (not model.residual)
    key = (model.residual, model.regularizer)
    return PAPER_ROWS.get(key, f"No residual, diagonal {model.regularizer}")


def _settings(run: TrainOptions) -> dict[str, Any]:
    """What may tell two runs of one name apart, the model first."""
    groups = [run.model, run.series, run.fit]
    found: dict[str, Any] = {}
    for group in groups:
        found |= dataclasses.asdict(group)
    return {k: v for k, v in found.items() if k not in (*_NAMED_BY_BASE, *_LEAVE_OUT)}
