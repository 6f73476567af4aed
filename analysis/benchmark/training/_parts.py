"""A part of the benchmark measured, and the rows that come out."""

import math
from collections.abc import Callable
from typing import Any

import jax
import pandas as pd

from analysis.benchmark.training._cases import Contender, contenders
from analysis.benchmark.training._epochs import Epochs
from analysis.benchmark.training._matmuls import matmul_share
from analysis.benchmark.training._sizes import Size, random_data, size_of
from analysis.benchmark.training._timing import in_turns
from analysis.benchmark.training.options import Part


def measure_part(
    part: Part, *, steps: int, rounds: int, quick: bool, note: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Measure a part.

    Args:
        part: Which part.
        steps: Training steps in a timed call of a large model.
        rounds: How often each is timed.
        quick: Whether it is a trial.
        note: Told what is left out, and why.

    Returns:
        A row for each method, see `tidy`.
    """
    size = size_of(part, quick)
    prepared = random_data(size)
    there = contenders(part, prepared, size, steps, note)
    times = in_turns({each.method: each.call for each in there}, rounds)
    in_epoch = len(prepared.split.train) // size.batch
    return [row(part, size, each, times[each.method], in_epoch) for each in there]


def row(
    part: Part, size: Size, who: Contender, times: list[float], in_epoch: int
) -> dict[str, Any]:
    """One row of the table; the epoch of ``"step"`` on one device is traced for it.

    Args:
        part: Which part.
        size: The model and its batch.
        who: What was measured.
        times: Seconds of its calls.
        in_epoch: Training steps in a whole epoch over the data.

    Returns:
        The row.
    """
    share, planned, config = math.nan, math.nan, size.config
    if isinstance(who.call, Epochs):
        if part == "step" and who.devices == 1 and jax.default_backend() == "cpu":
            share = matmul_share(who.call, who.call.program())
        if who.call.planned_bytes is not None:
            planned = who.call.planned_bytes / 2**20
    return {
        "part": part,
        "method": who.method,
        "size": size.name,
        "series_steps": size.series,
        "nodes": config.nodes,
        "window": config.window,
        "horizon": config.horizon,
        "width": config.width,
        "heads": config.temporal.heads,
        "layers": config.layers,
        "batch": size.batch,
        "seeds": who.seeds,
        "devices": who.devices,
        "steps": who.steps,
        "steps_per_epoch": in_epoch,
        "seconds": min(times),
        "seconds_per_step": min(times) / who.steps,
        "slowest_seconds": max(times),
        "rounds": len(times),
        "compile_seconds": getattr(who.call, "compile_seconds", math.nan),
        "planned_mib": planned,
        "matmul_share": share,
    }


COLUMNS = (
    *("part", "method", "size", "series_steps", "nodes", "window", "horizon", "width"),
    *("heads", "layers", "batch", "seeds", "devices", "steps", "steps_per_epoch"),
    *("seconds", "seconds_per_step", "slowest_seconds", "rounds", "compile_seconds"),
    *("planned_mib", "matmul_share"),
)


def tidy(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows of ``training.csv``, one per part and method.

    ``seconds`` is the fastest call of ``steps`` training steps, ``slowest_seconds`` the
    slowest; compiling is apart, and NaN for what is not compiled. ``planned_mib`` is
    what XLA plans between arguments and results, ``matmul_share`` in [0, 1].

    Args:
        rows: What was measured, possibly nothing.

    Returns:
        The table.
    """
    return pd.DataFrame(rows, columns=list(COLUMNS))
