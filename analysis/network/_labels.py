"""What runs are called, by what tells them apart."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from analysis.variants import PAPER_ROWS, settings_in_words
from models.train.options import TrainOptions

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
