"""What the public functions accept: checked once, converted once, one precision."""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from sensitivity.layer import AttentionWeights, ScoreBias

Result = TypeVar("Result")


def run(
    function: Callable[[Any, AttentionWeights, ScoreBias], Result],
    x: Any,
    weights: AttentionWeights,
    score_bias: ScoreBias | None,
) -> Result:
    """Call a function of a layer on checked arrays of one dtype.

    The dtype is the widest of ``x`` and the weights, at least float32. float64 is
    computed in float64 whatever JAX's global setting; where that setting is off the
    results come back as NumPy arrays, since JAX itself would round them. Matrix
    products run at full precision (no TF32). Under a transformation (jit, vmap) the
    values cannot be checked and are not.

    Args:
        function: Takes x, the weights and the score bias.
        x: Inputs, shape (..., T, D).
        weights: The layer.
        score_bias: What is added to the scores, or None.

    Returns:
        What the function returns.

    Raises:
        ValueError: If shapes or types do not fit, a value is NaN or infinite, a row has
            nothing to attend to, or the result overflows.
    """
    score_bias = ScoreBias() if score_bias is None else score_bias
    if not isinstance(score_bias, ScoreBias):
        raise ValueError(
            f"score_bias must be a ScoreBias, got {type(score_bias).__name__}; an "
            "array goes into ScoreBias(array=...)."
        )
    x = x if hasattr(x, "dtype") else np.asarray(x)
    check_shapes(x, weights, score_bias)
    dtype = _working_dtype(x, weights)
    given = (x, weights, score_bias)
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(given))
    double = dtype == np.float64 and not jax.config.read("jax_enable_x64")
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.default_matmul_precision("highest"))
        if not traced:
            with np.errstate(over="ignore"):  # checked below, in the dtype it has then
                given = jax.tree.map(lambda a: np.asarray(a).astype(dtype), given)
            check_values(*given)
            if double:
                stack.enter_context(jax.enable_x64(True))
        result = function(*jax.tree.map(lambda a: jnp.asarray(a, dtype), given))
    if traced:
        return result
    for field in jax.tree.leaves(result):
        if not np.isfinite(np.asarray(field)).all():
            raise ValueError(
                f"x and weights must be small enough for their norms to be finite in "
                f"{dtype.name}; some overflow."
            )
    return jax.tree.map(np.asarray, result) if double else result


def _working_dtype(x: Any, weights: AttentionWeights) -> np.dtype:
    """The widest dtype of the arrays, at least float32.

    Args:
        x: Inputs.
        weights: The layer.

    Returns:
        float32 or float64.

    Raises:
        ValueError: If that is neither float32 nor float64.
    """
    dtypes = [leaf.dtype for leaf in jax.tree.leaves((x, weights))]
    try:
        dtype = np.result_type(np.float32, *dtypes)
    except TypeError:
        dtype = np.dtype(object)
    if dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(
            "x and weights must hold real numbers of at most float64, got "
            f"{sorted({str(name) for name in dtypes})}."
        )
    return dtype


def check_shapes(x: Any, weights: AttentionWeights, score_bias: ScoreBias) -> None:
    """Refuse inputs whose shapes do not fit the layer.

    Raises:
        ValueError: If ``x`` is not (..., T, D) with T at least 1 and the layer's D, or
            the bias does not broadcast to (..., H, T, T).
    """
    if np.ndim(x) < 2 or np.shape(x)[-1] != weights.model_width:
        raise ValueError(
            f"x must have shape (..., T, D={weights.model_width}), as the layer takes "
            f"inputs of that width; got {np.shape(x)}."
        )
    if 0 in np.shape(x):
        raise ValueError(f"x must have at least one of everything, got {np.shape(x)}.")
    if score_bias.array is not None:
        *batch, T, _ = np.shape(x)
        full = (*batch, weights.heads, T, T)
        try:
            fits = np.broadcast_shapes(np.shape(score_bias.array), full) == full
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                f"score_bias.array must broadcast to (..., H, T, T) = {full}, got "
                f"shape {np.shape(score_bias.array)}."
            )


def check_values(x: Any, weights: AttentionWeights, score_bias: ScoreBias) -> None:
    """Refuse values that are no numbers, and rows that may attend to nothing.

    Raises:
        ValueError: If a value is NaN or infinite (``score_bias`` may hold -inf), or a
            row has nothing to attend to; the first such place is named.
    """
    arrays = {"x": x} | {f"weights.{n}": a for n, a in vars(weights).items()}
    for name, array in arrays.items():
        if array is not None:
            _refuse(name, np.asarray(array), np.isfinite, "finite")
    array = score_bias.array
    if array is not None:
        array = np.asarray(array)
        _refuse("score_bias.array", array, lambda a: a < np.inf, "finite or -inf")
    _check_rows(np.shape(x)[-2], score_bias, array)


def _refuse(name: str, array: np.ndarray, rule: Callable, words: str) -> None:
    good = rule(array)
    if not good.all():
        place = tuple(int(i) for i in np.argwhere(~good)[0])
        raise ValueError(
            f"{name} must be {words} everywhere; at index {place} it is {array[place]}."
        )


def _check_rows(T: int, score_bias: ScoreBias, array: np.ndarray | None) -> None:
    masked = float(score_bias.diagonal) == -np.inf
    if array is None:
        if masked and (T == 1 or score_bias.causal):
            raise ValueError(
                "score_bias leaves row i=0 nothing to attend to: the diagonal is "
                "masked and "
                + ("T = 1." if T == 1 else "the mask is causal; drop one of them.")
            )
        return
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
