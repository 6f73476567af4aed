"""A window as it might have been if the order of its steps said nothing."""

from typing import Literal

import numpy as np
from jaxtyping import Float

Null = Literal["steps", "shift", "gaussian"]


def count_resamples(null: Null, count: int, T: int) -> int:
    """How many of these resamples there are: a circle has T - 1 other shifts."""
    return min(count, T - 1) if null == "shift" else count


def resampled_windows(
    x: Float[np.ndarray, "S T D"], null: Null, count: int, rng: np.random.Generator
) -> Float[np.ndarray, "S M T D"]:
    r"""Resample every window from itself.

    Args:
        x: The windows, shape (S, T, D): what an attention layer is given, with all that
            was added to it before, such as positions.
        null: ``"steps"`` draws T steps with replacement, their D channels together;
            ``"shift"`` turns the window in a circle, by as many steps for all windows;
            ``"gaussian"`` draws every channel of every step from a normal distribution
            with the mean and the standard deviation of that channel in the window.
        count: How many are asked for; of shifts there are T - 1 at most.
        rng: What they are drawn from.

    Returns:
        M resamples of every window, shape (S, M, T, D).

    Example:
        >>> x = np.arange(3.0).reshape(1, 3, 1)
        >>> turned = resampled_windows(x, "shift", 20, np.random.default_rng(0))
        >>> sorted(turned[0, :, :, 0].tolist())
        [[1.0, 2.0, 0.0], [2.0, 0.0, 1.0]]

    References:
        Chung and Laletin, arXiv 2604.01339: pixels of an image with replacement, and
        normal ones. Of steps, and their shifts: ours.
    """
    S, T, D = x.shape
    M = count_resamples(null, count, T)
    match null:
        case "gaussian":
            drawn = rng.normal(size=(S, M, T, D))
            centre, spread = (f(x, 1)[:, None, None] for f in (np.mean, np.std))
            return centre + spread * drawn
        case "steps":
            chosen = rng.integers(T, size=(S, M, T))
        case "shift":
            shifts = 1 + rng.permutation(T - 1)[:M]
            chosen = (np.arange(T) + shifts[:, None])[None] % T
    return np.take_along_axis(x[:, None], chosen[..., None], axis=2)
