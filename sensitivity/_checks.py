"""What the public functions refuse, each in a sentence: argument, rule, value."""

from collections.abc import Callable
from typing import Any

import numpy as np

from sensitivity.weights import AttentionWeights, ScoreBias


def check_weights(weights: object) -> None:
    """Refuse what is no layer.

    Raises:
        ValueError: If ``weights`` is not an `AttentionWeights`.
    """
    if not isinstance(weights, AttentionWeights):
        raise ValueError(
            "weights must be an AttentionWeights and comes after the inputs, got "
            f"{type(weights).__name__}; arrays go into AttentionWeights(query=..., "
            "key=..., value=...)."
        )


def check_inputs(name: str, x: Any, weights: AttentionWeights) -> None:
    """Refuse inputs of another width than the layer's, and empty ones.

    Args:
        name: What the inputs are called.
        x: The inputs.
        weights: The layer.

    Raises:
        ValueError: If ``x`` is not (..., T, D) with the layer's D, or has no entry.
    """
    if np.ndim(x) < 2 or np.shape(x)[-1] != weights.model_width:
        raise ValueError(
            f"{name} must have shape (..., T, D={weights.model_width}), as the layer "
            f"takes inputs of that width; got {np.shape(x)}."
        )
    if 0 in np.shape(x):
        raise ValueError(
            f"{name} must have at least one of everything, got {np.shape(x)}."
        )


def check_table(name: str, table: Any, x: Any, weights: AttentionWeights) -> None:
    """Refuse a table of pairs of steps that does not fit the inputs.

    Args:
        name: What the table is called.
        table: The table.
        x: The inputs, shape (..., T, D).
        weights: The layer.

    Raises:
        ValueError: If the table does not broadcast to (..., H, T, T).
    """
    *batch, T, _ = np.shape(x)
    full = (*batch, weights.heads, T, T)
    try:
        fits = np.broadcast_shapes(np.shape(table), full) == full
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{name} must broadcast to (..., H, T, T) = {full}, got shape "
            f"{np.shape(table)}."
        )


def check_finite(x: Any, weights: AttentionWeights) -> None:
    """Refuse values that are no numbers; the first such place is named.

    Raises:
        ValueError: If a value is NaN or infinite.
    """
    arrays = {"x": x} | {f"weights.{n}": a for n, a in vars(weights).items()}
    for name, array in arrays.items():
        if array is not None:
            _refuse(name, np.asarray(array), np.isfinite, "finite everywhere")


def check_sizes(weights: AttentionWeights) -> None:
    """Refuse heads whose values are so small that their norms would be lost.

    Squares are taken in units of their own, so that they never vanish, but a norm
    needs digits above the smallest number of the dtype. A head of zeros is one.

    Raises:
        ValueError: If the value kernel of a head, or its product with the head's output
            projection, is not zero and below the smallest normal number over eps.
    """
    kernel = np.asarray(weights.value)
    least = np.finfo(kernel.dtype).tiny / np.finfo(kernel.dtype).eps
    sizes = np.abs(kernel).max((0, 2)).astype(np.float64)
    zero = sizes == 0
    name = "weights.value"
    if weights.out is not None:
        outputs = np.abs(np.asarray(weights.out)).max((1, 2))
        sizes, zero = sizes * outputs, zero | (outputs == 0)
        name = "weights.value times weights.out"
    small = ~zero & (sizes < least)
    if small.any():
        n = int(np.argmax(small))
        raise ValueError(
            f"{name} must be 0 or reach {least:.2g} in every head for its norms to "
            f"keep their digits in {kernel.dtype}; in head {n} it reaches "
            f"{sizes[n]:.2g}: set it to 0, or scale it up."
        )


def check_bias(T: int, score_bias: ScoreBias, dtype: np.dtype) -> None:
    """Refuse biases that are no numbers, or leave a row nothing to attend to.

    Args:
        T: Number of time steps.
        score_bias: The bias, as it was given.
        dtype: What it will be computed in.

    Raises:
        ValueError: If a number is NaN, positive infinity, or finite but not so in
            ``dtype``, or a row has nothing to attend to; the first such place is named.
    """
    for name in ("diagonal", "array"):
        if (given := getattr(score_bias, name)) is None:
            continue
        given = np.asarray(given)
        name = f"score_bias.{name}"
        _refuse(name, given, lambda a: a < np.inf, "finite or -inf everywhere")
        with np.errstate(over="ignore"):
            inside = np.isfinite(given.astype(dtype)) | ~np.isfinite(given)
        words = f"finite in {dtype.name} too (-np.inf forbids an entry)"
        _refuse(name, given, lambda _, inside=inside: inside, words)
    _check_rows(T, score_bias)


def _refuse(name: str, array: np.ndarray, rule: Callable, words: str) -> None:
    good = np.asarray(rule(array))
    if not good.all():
        place = tuple(int(i) for i in np.argwhere(~good)[0])
        where = f"at index {place} it is" if place else "got"
        raise ValueError(f"{name} must be {words}; {where} {array[place]}.")


def _check_rows(T: int, score_bias: ScoreBias) -> None:
    masked = float(score_bias.diagonal) == -np.inf
    if score_bias.array is None:
        if masked and (T == 1 or score_bias.causal):
            raise ValueError(
                "score_bias leaves row i=0 nothing to attend to: the diagonal is "
                "masked and "
                + ("T = 1." if T == 1 else "the mask is causal; drop one of them.")
            )
        return
    array = np.asarray(score_bias.array)
    allowed = np.broadcast_to(
        array > -np.inf, (*array.shape[:-2], T, T)[-max(2, array.ndim) :]
    )
    if masked:
        allowed = allowed & ~np.eye(T, dtype=bool)
    if score_bias.causal:
        allowed = allowed & np.tri(T, dtype=bool)
    empty = ~allowed.any(-1)
    if empty.any():
        place = tuple(int(i) for i in np.argwhere(empty)[0])
        raise ValueError(
            f"score_bias leaves row i={place[-1]} nothing to attend to"
            + (f" (index {place[:-1]} of its leading axes)." if place[:-1] else ".")
        )
