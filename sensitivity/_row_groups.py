"""What rows may attend to, worked out before anything is traced, and who shares a step.

NumPy only. A finite bias such as -1e9 forbids a step where it is far below the row's
largest, and nothing where all entries of the row are as low.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import Bool, Float, Int

from sensitivity.weights import ScoreBias, known_of, least_bias

_TABLE = 2**11  # steps of which a table is made


def with_row_groups(
    score_bias: ScoreBias, given: ScoreBias, T: int, dtype: Any
) -> ScoreBias:
    """A bias with its groups of rows, if what it was made from is no tracer."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(given)):
        return score_bias
    grouped = dataclasses.replace(score_bias)
    plain = grouped.window is None and grouped.slopes is None
    if plain or T <= _TABLE:  # else medians stand in, see `_centres.centre_of`
        groups = _row_groups(given, T, least_bias(dtype))
        object.__setattr__(grouped, "row_groups", groups)
    if grouped.array is None and not grouped.causal and plain:  # else no change
        object.__setattr__(grouped, "known", known_of(grouped.diagonal))
    return grouped


def empty_rows(score_bias: ScoreBias, T: int) -> Bool[np.ndarray, "*batch T"]:
    """Which rows have nothing to attend to; only -inf forbids all."""
    keys = keys_of(score_bias, T)
    if keys is None and score_bias.array is None and score_bias.window is not None:
        keys = np.zeros(T)
    if keys is not None:
        own = keys > -np.inf
        before = np.pad(np.cumsum(own, -1), [(0, 0)] * (own.ndim - 1) + [(1, 0)])
        first, last = _reach_of(score_bias, T)
        count = before[..., last + 1] - before[..., first]
        masked = float(score_bias.diagonal) == -np.inf
        return np.broadcast_to(count - own * masked == 0, own.shape)
    if score_bias.array is not None:
        allowed = _open(score_bias, np.asarray(score_bias.array) > -np.inf, T)
        return np.logical_not(np.asarray(allowed.any(-1)))
    masked = float(score_bias.diagonal) == -np.inf
    empty = masked and (T == 1 or score_bias.causal)
    return np.arange(T) < (1 if empty else 0)


def _reach_of(score_bias: ScoreBias, T: int) -> tuple[np.ndarray, np.ndarray]:
    """The first and last steps that rows may see, by their place alone."""
    steps, window = np.arange(T), score_bias.window or T
    last = steps if score_bias.causal else np.minimum(steps + window - 1, T - 1)
    return np.maximum(steps - window + 1, 0), last


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
    return _of_one_size(starts, T, together)


def keys_of(score_bias: ScoreBias, T: int) -> np.ndarray | None:
    """The bias of the steps of a mask that is the same for every row, (..., T)."""
    if score_bias.array is None:
        return None
    array = np.asarray(score_bias.array)
    if array.ndim > 1 and array.shape[-2] != 1 or T == 1:
        return None
    keys = array if array.ndim < 2 else array[..., 0, :]
    return np.broadcast_to(keys, (*keys.shape[:-1], T))


def _starts(T: int, together: Callable[[int, int], bool]) -> list[int]:
    """Where groups of rows begin, each as long as its rows are together."""
    # What is together stays so with fewer rows, and a row by itself always is.
    starts = [0]
    while not together(starts[-1], T):
        good, bad = starts[-1] + 1, T
        while bad - good > 1:
            middle = (good + bad) // 2
            if together(starts[-1], middle):
                good = middle
            else:
                bad = middle
        starts.append(good)
    return starts


def _of_one_size(
    starts: list[int], T: int, together: Callable[[int, int], bool]
) -> Int[np.ndarray, "G R"]:
    # Of a few shapes only, (2^a, T / 2^b): each shape is a program to be compiled.
    choices = []
    for halvings in range(T.bit_length() + 1):
        size = -(-T // 2**halvings)
        even = [*range(0, T, size)]
        fits = all(together(start, min(start + size, T)) for start in even)
        pieces = _pieces(even if fits else starts, size, T)
        count = 1 << (len(pieces) - 1).bit_length()
        last = np.broadcast_to(pieces[-1], (count - len(pieces), size))
        choices.append(np.concatenate([pieces, last]))
        if fits:
            break
    return min(choices, key=np.size)


def _pieces(starts: list[int], size: int, T: int) -> Int[np.ndarray, "G R"]:
    """Rows from start to start, at most ``size`` of them at once."""
    pieces = [
        np.arange(piece, piece + size).clip(max=min(piece + size, end) - 1)
        for start, end in zip(starts, [*starts[1:], T], strict=True)
        for piece in range(start, end, size)
    ]
    return np.array(pieces, np.int32)


def _row_groups(score_bias: ScoreBias, T: int, least: float) -> Int[np.ndarray, "G R"]:
    if score_bias.window is not None or score_bias.slopes is not None:
        return groups_of(_near(score_bias, T, least))
    masked = float(score_bias.diagonal) <= least
    if (keys := keys_of(score_bias, T)) is not None:
        together = _sharing(keys.reshape(-1, T), score_bias, least)
        if together is not None:
            return _of_one_size(_starts(T, together), T, together)
    if score_bias.array is not None:
        return groups_of(_near(score_bias, T, least))
    if score_bias.causal or not masked or T == 1:
        return _pieces([0], T, T)
    half = -(-T // 2)  # each half shares the other's steps
    return _pieces([0, half], half, T)


def _sharing(
    keys: Float[np.ndarray, "N T"], score_bias: ScoreBias, least: float
) -> Callable[[int, int], bool] | None:
    """Whether rows from start to end share a step, of a bias that is of steps alone."""
    # None where the diagonal may decide it too. All but it is O(N T) numbers.
    diagonal = float(score_bias.diagonal)
    forbidden, slight = diagonal == -np.inf, abs(diagonal) < -least
    if score_bias.causal:
        if not (forbidden or slight):
            return None
        tops = np.maximum.accumulate(keys, -1)  # of the steps that a row sees
        if forbidden:
            tops = np.pad(tops, ((0, 0), (1, 0)), constant_values=-np.inf)[:, :-1]
        first = (tops > -np.inf).argmax(-1)  # rows before it see nothing
        none = ~(tops > -np.inf).any(-1)
        low = least + (0 if forbidden else abs(diagonal))
        samples = np.arange(len(keys))

        def share_the_past(start: int, end: int) -> bool:
            begin = np.maximum(start, first)
            gone = none | (begin >= end) | (end - start == 1)
            with np.errstate(invalid="ignore"):  # of rows that see nothing
                apart = tops[samples, np.minimum(begin, end - 1)] - tops[:, end - 1]
            return bool((gone | (apart > low)).all())

        return share_the_past
    if slight:
        return lambda start, end: True  # the best step of all
    if not diagonal <= least:
        return None
    # Steps near the best; a row's own is not, so that its group needs another.
    seen, top = keys > -np.inf, keys.max(-1, keepdims=True)
    near = seen & (keys - np.where(top > -np.inf, top, 0) > least)
    before = np.pad(np.cumsum(near, -1), ((0, 0), (1, 0)))
    none = seen.sum(-1) < (2 if forbidden else 1)  # the rest of its rows share a step

    def share_another(start: int, end: int) -> bool:
        inside = before[:, end] - before[:, start]
        enough = none | (inside < before[:, -1])
        return end - start == 1 or bool(enough.all())

    return share_another


def _near(
    score_bias: ScoreBias, T: int, least: float
) -> Bool[np.ndarray, "*batch T T"]:
    """Steps whose bias alone does not drive their weight to 0."""
    diagonal = float(score_bias.diagonal)
    array = np.zeros((1, 1) if score_bias.array is None else 0)
    if score_bias.array is not None:
        array = np.asarray(score_bias.array)
    if score_bias.slopes is not None:
        away = np.abs(np.subtract.outer(np.arange(T), np.arange(T)))
        array = array - np.multiply.outer(np.asarray(score_bias.slopes), away)
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
    if score_bias.causal:
        allowed = allowed & np.tri(T, dtype=bool)
    if score_bias.window is not None:
        away = np.subtract.outer(np.arange(T), np.arange(T))
        allowed = allowed & (np.abs(away) < score_bias.window)
    return allowed
