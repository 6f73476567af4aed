"""What rows may attend to, worked out before anything is traced, and who shares a step.

NumPy only. A finite bias such as -1e9 forbids a step where it is far below the row's
largest, and nothing where all entries of the row are as low.
"""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import Bool, Int

from sensitivity.weights import ScoreBias, least_bias


def with_row_groups(
    score_bias: ScoreBias, given: ScoreBias, T: int, dtype: Any
) -> ScoreBias:
    """A bias with its groups of rows, if what it was made from is no tracer."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(given)):
        return score_bias
    grouped = ScoreBias(score_bias.diagonal, score_bias.causal, score_bias.array)
    object.__setattr__(grouped, "row_groups", _row_groups(given, T, least_bias(dtype)))
    return grouped


def empty_rows(score_bias: ScoreBias, T: int) -> Bool[np.ndarray, "*batch T"]:
    """Which rows have nothing to attend to; only -inf forbids all."""
    if score_bias.array is not None:
        allowed = _open(score_bias, np.asarray(score_bias.array) > -np.inf, T)
        return np.logical_not(np.asarray(allowed.any(-1)))
    masked = float(score_bias.diagonal) == -np.inf
    empty = masked and (T == 1 or score_bias.causal)
    return np.arange(T) < (1 if empty else 0)


def groups_of(allowed: Bool[np.ndarray, "*batch T T"]) -> Int[np.ndarray, "G R"]:
    """Positions of query rows, in groups that share a step they may attend to."""
    # In order, the last repeated where a group has fewer than R. Rows that may attend
    # to nothing go with any. Every sample and head has the same groups.
    T = allowed.shape[-1]
    rows = np.moveaxis(allowed, -2, 0).reshape(T, -1, T)
    rows = rows | ~rows.any(-1, keepdims=True)

    def together(start: int, end: int) -> bool:
        return bool(rows[start:end].all(0).any(-1).all())

    starts, common = [0], rows[0]
    for i in range(0 if together(0, T) else T):
        common = common & rows[i]
        if not common.any(-1).all():
            starts.append(i)
            common = rows[i]
    size = -(-T // len(starts))
    even = range(0, T, size)
    if all(together(start, start + size) for start in even):
        return _pieces([*even], size, T)
    lengths = np.diff([*starts, T])
    sizes = np.arange(size, lengths.max() + 1)
    padded = sizes * (-(-lengths[:, None] // sizes)).sum(0)
    return _pieces(starts, int(sizes[np.argmin(padded)]), T)


def _pieces(starts: list[int], size: int, T: int) -> Int[np.ndarray, "G R"]:
    """Rows from start to start, at most ``size`` of them at once."""
    pieces = [
        np.arange(piece, piece + size).clip(max=min(piece + size, end) - 1)
        for start, end in zip(starts, [*starts[1:], T], strict=True)
        for piece in range(start, end, size)
    ]
    return np.array(pieces, np.int32)


def _row_groups(score_bias: ScoreBias, T: int, least: float) -> Int[np.ndarray, "G R"]:
    masked = float(score_bias.diagonal) <= least
    if score_bias.array is not None:
        return groups_of(_near(score_bias, T, least))
    if score_bias.causal or not masked or T == 1:
        return _pieces([0], T, T)
    half = -(-T // 2)  # each half shares the other's steps
    return _pieces([0, half], half, T)


def _near(
    score_bias: ScoreBias, T: int, least: float
) -> Bool[np.ndarray, "*batch T T"]:
    """Steps whose bias alone does not drive their weight to 0."""
    array, diagonal = np.asarray(score_bias.array), float(score_bias.diagonal)
    allowed = _open(score_bias, array > -np.inf, T)
    sizes = np.abs(np.where(array > -np.inf, array, 0))
    if diagonal in (0.0, -np.inf) and (sizes < -least / 2).all():
        return allowed
    bias = np.where(allowed, array, -np.inf)
    bias = bias + np.where(np.eye(T, dtype=bool), max(diagonal, np.finfo(float).min), 0)
    top = bias.max(-1, keepdims=True)
    return (bias > -np.inf) & (bias - np.where(top > -np.inf, top, 0) > least)


def _open(
    score_bias: ScoreBias, allowed: np.ndarray, T: int
) -> Bool[np.ndarray, "*batch T T"]:
    """What of an array is left by the diagonal mask and the causal one."""
    allowed = allowed.reshape((1,) * max(0, 2 - allowed.ndim) + allowed.shape)
    allowed = np.broadcast_to(allowed, (*allowed.shape[:-2], T, T))
    if float(score_bias.diagonal) == -np.inf:
        allowed = allowed & ~np.eye(T, dtype=bool)
    return allowed & np.tri(T, dtype=bool) if score_bias.causal else allowed
