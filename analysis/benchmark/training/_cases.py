"""Who is measured in each part of the benchmark."""

import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import jax

from analysis.benchmark.training._epochs import Batches, Epochs, torch_steps
from analysis.benchmark.training._sizes import Size
from analysis.benchmark.training.options import Part
from data import Prepared

OURS, OURS_ON_ALL, TORCH = "ours", "ours, a device per core", "PyTorch"
ONE_SEED, SEEDS_DEFAULT = "1 seed", "4 seeds, default"
SEEDS_IN_TURN, SEEDS_BESIDE = "4 seeds in turn", "4 seeds side by side"
WHOLE_EPOCH, BATCHES_ONLY = "whole epoch", "its batches only"

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
    BATCHES_ONLY: "a jitted scan that shuffles, cuts every batch of that epoch, adds "
    "it up, and trains nothing",
}

# So many times the steps of a timed call for the small preset, a step of which is short
# enough that the shuffle, one in a call, would weigh.
SMALL_STEPS = 10


class Contender(NamedTuple):
    """One of those that are measured in turns.

    Attributes:
        method: Its name, a key of `MEANINGS`.
        call: Does the work and waits for it.
        steps: Training steps in a call.
        seeds: Seeds that each of them trains.
        devices: Devices that share a batch.
    """

    method: str
    call: Callable[[], None]
    steps: int
    seeds: int = 1
    devices: int = 1


def devices_for(batch: int, available: int) -> int:
    """The most devices that are there and divide a batch.

    Args:
        batch: Windows in a batch.
        available: Number of devices.

    Returns:
        Their number.

    Example:
        >>> devices_for(32, 12)
        8
    """
    return max(n for n in range(1, available + 1) if batch % n == 0)


def contenders(
    part: Part, prepared: Prepared, size: Size, steps: int, note: Callable[[str], None]
) -> list[Contender]:
    """Build and compile those of a part.

    Args:
        part: Which part.
        prepared: The data.
        size: The model and its batch.
        steps: Training steps in a timed call of a large model.
        note: Told what is left out, and why.

    Returns:
        Ready to be timed.

    Raises:
        ValueError: If the part is not one of them.
    """

    def ours(method: str, steps: int | None, seeds: int = 1, **how: Any) -> Contender:
        epochs = Epochs(prepared, size, steps=steps, seeds=seeds, **how)
        return Contender(method, epochs, epochs.steps, seeds, how.get("devices", 1))

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
                call = torch_steps(prepared, size, steps)
                found.append(Contender(TORCH, call, steps))
            return found
        case "seeds":
            many = SMALL_STEPS * steps
            return [
                ours(ONE_SEED, many),
                ours(SEEDS_DEFAULT, many, seeds=4),
                ours(SEEDS_IN_TURN, many, seeds=4, at_once=1),
                ours(SEEDS_BESIDE, many, seeds=4, at_once=4),
            ]
        case "input":
            batches = Batches(prepared, size)
            return [
                ours(WHOLE_EPOCH, None),
                Contender(BATCHES_ONLY, batches, batches.steps),
            ]
        case "large":
            return [ours(OURS, steps)]
    raise ValueError(f"part must be one of {get_args(Part)}, got {part!r}.")
