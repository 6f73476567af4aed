"""Which windows train, which validate and which test: the field's two conventions."""

from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Int32

Convention = Literal["windows", "time"]


class Split(NamedTuple):
    """First steps of the windows of each part, in order of time.

    A window that starts at s reads steps s to s+T-1 and forecasts s+T to s+T+H-1.

    Attributes:
        train: Starts of the training windows.
        validation: Starts of the validation windows.
        test: Starts of the test windows.
    """

    train: Int32[np.ndarray, " train"]
    validation: Int32[np.ndarray, " validation"]
    test: Int32[np.ndarray, " test"]


def split_windows(
    steps: int, window: int, horizon: int, convention: Convention = "windows"
) -> Split:
    r"""Split a series into windows for training, validation and test, in that order.

    ``"windows"``, the field's habit: all :math:`n = S - T - H + 1` windows first, then
    the last ``round(0.2 n)`` of them test, the first ``round(0.7 n)`` train, and those
    between validate. Neighbouring parts share the T + H - 1 steps at their border.

    ``"time"``: the steps first, ``int(0.7 S)``, ``int(0.1 S)`` and ``int(0.2 S)`` of
    them (the last one or two may be in no part), then windows inside each part: none
    reaches across a border.

    Args:
        steps: Number S of time steps of the series.
        window: Number T of steps that a forecast reads.
        horizon: Number H of steps that it forecasts.
        convention: ``"windows"`` or ``"time"``.

    Returns:
        The starts of the windows of each part.

    Raises:
        ValueError: If ``window`` or ``horizon`` is below 1, ``convention`` is none of
            the two, or the series is too short for a window in each part.

    Example:
        >>> [len(part) for part in split_windows(34272, 12, 12)]  # METR-LA
        [23974, 3425, 6850]
        >>> [len(part) for part in split_windows(34272, 12, 12, "time")]
        [23967, 3404, 6831]

    References:
        Li et al., `Diffusion convolutional recurrent neural network
        <https://arxiv.org/abs/1707.01926>`_, ICLR 2018, whose published preprocessing
        is ``"windows"``; the code released with arXiv 2602.10956 has ``"time"``.
    """
    check_sizes(window=window, horizon=horizon)
    check_choice("convention", convention, Convention)
    length = window + horizon
    if not _has_all_parts(parts := _parts(steps, length, convention)):
        enough = max(steps, 1)
        while not _has_all_parts(_parts(enough, length, convention)):
            enough += 1
        raise ValueError(
            f"a window of {window} and a horizon of {horizon} steps need a series of "
            f"{enough} steps for a window in each part (training, validation, test), "
            f"got {steps} steps."
        )
    return Split(*(np.arange(*part, dtype=np.int32) for part in parts))


def training_rows(split: Split, window: int, horizon: int) -> slice:
    """The steps that training windows touch, as inputs or as targets.

    Whatever is fitted (scaler, averages) is fitted on these.

    Args:
        split: The windows of each part.
        window: Number T of steps that a forecast reads.
        horizon: Number H of steps that it forecasts.

    Returns:
        From the first input of the first training window to the last target of the
        last.

    Example:
        >>> training_rows(split_windows(34272, 12, 12), 12, 12)
        slice(0, 23997, None)
    """
    return slice(int(split.train[0]), int(split.train[-1]) + window + horizon)


def check_sizes(**sizes: int) -> None:
    """Refuse numbers below 1."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}.")


def check_choice(name: str, value: str, choices: object) -> None:
    """Refuse an option that is none of the choices of a ``Literal``."""
    if value not in get_args(choices):
        raise ValueError(f"{name} must be one of {get_args(choices)}, got {value!r}.")


def _parts(steps: int, length: int, convention: Convention) -> list[tuple[int, int]]:
    """First start of each part, and the start after its last."""
    if convention == "windows":
        count = steps - length + 1
        test = count - round(0.2 * count)
        borders = [0, round(0.7 * count), test, count]
        return list(zip(borders[:-1], borders[1:], strict=True))
    parts, first = [], 0
    for share in (0.7, 0.1, 0.2):
        rows = int(share * steps)
        parts.append((first, first + rows - length + 1))
        first += rows
    return parts


def _has_all_parts(parts: list[tuple[int, int]]) -> bool:
    return all(start < stop for start, stop in parts)
