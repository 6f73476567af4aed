"""Who is measured in each part of the benchmark, and the rows that come out."""

import dataclasses
import importlib.util
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from analysis import variants
from analysis.benchmark.training._epochs import (
    Batches,
    Epochs,
    Size,
    random_data,
    size_of,
    torch_steps,
)
from analysis.benchmark.training._timing import in_turns, matmul_share
from data import Prepared

OURS, OURS_ON_ALL, TORCH = "ours", "ours, a device per core", "PyTorch"
ONE_SEED, SEEDS_DEFAULT = "1 seed", "4 seeds, default"
SEEDS_IN_TURN, SEEDS_BESIDE = "4 seeds in turn", "4 seeds side by side"
WHOLE_EPOCH, BATCHES_ONLY = "whole epoch", "its batches only"
PLAIN, QUERY = "no cure", "regularizer query"
CURES_MEASURED = {f"{name} {value}": {name: value} for (name, value) in variants.CURES}

# What each method is, for the reader of a table.
MEANINGS: dict[str, str] = {
    OURS: "models.training.Trainer on one device: a step of the jitted epoch, with "
    "shuffle, gather, masked MAE in mph, gradient, clipping and AdamW",
    OURS_ON_ALL: "the same, every batch shared by as many devices (of a CPU: forced "
    "ones) as there are cores and divide it",
    TORCH: "analysis.benchmark._torch_forecaster, eager: forward, masked MAE in mph, "
    "backward, clipping and AdamW, always on the same batch (no input pipeline)",
    ONE_SEED: "one seed of the small preset",
    SEEDS_DEFAULT: "four seeds as the trainer chooses (at_once=None)",
    SEEDS_IN_TURN: "four seeds one after another (at_once=1)",
    SEEDS_BESIDE: "four seeds by vmap (at_once=4)",
    WHOLE_EPOCH: "a whole epoch of one seed of the small preset, the model for which "
    "input weighs most",
    PLAIN: "one seed of the small preset, variant (b)",
    **{
        method: f"the same with --{method.replace('_', '-')}, {variants.CURES[key]}"
        for method, key in zip(CURES_MEASURED, variants.CURES, strict=True)
    },
    BATCHES_ONLY: "a jitted scan that shuffles, cuts every batch of that epoch, adds "
    "it up, and trains nothing",
}

# So many times the steps of a timed call for the small preset, a step of which is short
# enough that the shuffle, one in a call, would weigh.
_SMALL_STEPS = 10


class Case(NamedTuple):
    """One of those that are measured in turns."""

    method: str  # a key of `MEANINGS`
    call: Callable[[], None]  # does the work and waits for it
    steps: int  # training steps in a call
    seeds: int = 1  # that each of them trains
    devices: int = 1  # that share a batch


def devices_for(batch: int, available: int) -> int:
    """The most devices that are there and divide a batch."""
    return max(n for n in range(1, available + 1) if batch % n == 0)


def cases(
    part: str, prepared: Prepared, size: Size, steps: int, note: Callable[[str], None]
) -> list[Case]:
    """Build and compile those of a part; what is left out is noted."""

    def ours(method: str, steps: int | None, seeds: int = 1, **how: Any) -> Case:
        epochs = Epochs(prepared, size, steps=steps, seeds=seeds, **how)
        return Case(method, epochs, epochs.steps, seeds, how.get("devices", 1))

    match part:
        case "step":
            found = [ours(OURS, steps)]
            devices = devices_for(size.batch, len(jax.devices()))
            if devices > 1:
                found.append(ours(OURS_ON_ALL, steps, devices=devices))
            else:
                note(f"one device only: {OURS_ON_ALL!r} is left out")
            if importlib.util.find_spec("torch") is None:
                note(f"torch is not installed: {TORCH!r} is left out")
            elif jax.default_backend() != "cpu":
                note(f"jax is not on the CPU: {TORCH!r}, which would be, is left out")
            else:
                found.append(Case(TORCH, torch_steps(prepared, size, steps), steps))
            return found
        case "seeds":
            many = _SMALL_STEPS * steps
            return [
                ours(ONE_SEED, many),
                ours(SEEDS_DEFAULT, many, seeds=4),
                ours(SEEDS_IN_TURN, many, seeds=4, at_once=1),
                ours(SEEDS_BESIDE, many, seeds=4, at_once=4),
            ]
        case "input":
            batches = Batches(prepared, size)
            whole = ours(WHOLE_EPOCH, None)
            return [whole, Case(BATCHES_ONLY, batches, batches.steps)]
        case "cures":
            many = _SMALL_STEPS * steps
            found = [ours(PLAIN, many)]
            for method, changes in CURES_MEASURED.items():
                temporal = dataclasses.replace(size.config.temporal, **changes)
                config = dataclasses.replace(size.config, temporal=temporal)
                own = dataclasses.replace(size, config=config)
                found.append(Case(method, Epochs(prepared, own, steps=many), many))
            return found
        case _:
            return [ours(OURS, steps)]


def measure_part(
    part: str, *, steps: int, rounds: int, quick: bool, note: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Measure a part: a row for each method."""
    size = size_of(part, quick)
    prepared = random_data(size)
    there = cases(part, prepared, size, steps, note)
    times = in_turns({each.method: each.call for each in there}, rounds)
    in_epoch = len(prepared.split.train) // size.batch
    return [_row(part, size, each, times[each.method], in_epoch) for each in there]


def _row(
    part: str, size: Size, case: Case, times: list[float], in_epoch: int
) -> dict[str, Any]:
    """One row; the epoch of ``"step"`` on one device is traced for it."""
    share, planned, config = math.nan, math.nan, size.config
    if isinstance(case.call, Epochs):
        if part == "step" and case.devices == 1 and jax.default_backend() == "cpu":
            share = matmul_share(case.call, case.call.program())
        if case.call.planned_bytes is not None:
            planned = case.call.planned_bytes / 2**20
    return {
        "part": part,
        "method": case.method,
        "size": size.name,
        "series_steps": size.series,
        "nodes": config.nodes,
        "window": config.window,
        "horizon": config.horizon,
        "width": config.width,
        "heads": config.temporal.heads,
        "layers": config.layers,
        "batch": size.batch,
        "seeds": case.seeds,
        "devices": case.devices,
        "steps": case.steps,
        "steps_per_epoch": in_epoch,
        "seconds": min(times),
        "seconds_per_step": min(times) / case.steps,
        "slowest_seconds": max(times),
        "rounds": len(times),
        "compile_seconds": getattr(case.call, "compile_seconds", math.nan),
        "planned_mib": planned,
        "matmul_share": share,
    }
