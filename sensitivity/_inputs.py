"""How the public functions take their input: converted once, in one precision."""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from sensitivity._arrays import as_array
from sensitivity._checks import (
    check_bias,
    check_finite,
    check_inputs,
    check_sizes,
    check_table,
    check_weights,
)
from sensitivity.weights import AttentionWeights, ScoreBias

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
    values cannot be checked and are not, and the precision is JAX's own.

    Args:
        function: Takes x, the weights and the score bias.
        x: Inputs, shape (..., T, D).
        weights: The layer.
        score_bias: What is added to the scores, or None.

    Returns:
        What the function returns.

    Raises:
        ValueError: If shapes or types do not fit, a value is NaN or infinite, a head
            is too small for its norms, a row has nothing to attend to, or the result
            overflows.
    """
    check_weights(weights)
    bias = as_score_bias(score_bias)
    x = as_array("x", x)
    check_inputs("x", x, weights)
    if bias.array is not None:
        check_table("score_bias.array", bias.array, x, weights)
    dtype = _widest((x, weights))
    given = (x, weights, bias)
    traced = is_traced(given)
    double = needs_float64(dtype)
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.default_matmul_precision("highest"))
        if traced:
            dtype = np.dtype(np.float32) if double else dtype
        else:
            check_bias(np.shape(x)[-2], bias, dtype)
            given = jax.tree.map(lambda a: np.asarray(a).astype(dtype), given)
            check_finite(*given[:2])
            check_sizes(given[1])
            if double:
                stack.enter_context(jax.enable_x64(True))
        result = function(*jax.tree.map(lambda a: jnp.asarray(a, dtype), given))
    if traced:
        return result
    for field in jax.tree.leaves(result):
        if not np.isfinite(np.asarray(field)).all():
            raise ValueError(
                "x, weights and score_bias must be small enough for the norms to be "
                f"finite in {dtype.name}; some overflow."
            )
    return jax.tree.map(np.asarray, result) if double else result


def run_forward(
    function: Callable[..., Any],
    x: tuple[Any, Any, Any],
    weights: AttentionWeights,
    score_bias: ScoreBias,
    weight_factor: Any,
) -> Any:
    """Call the layer itself, in the dtype its arrays have.

    Arrays of one dtype are computed in it, others in the widest, at least float32;
    float64 as in `run`. Under a transformation nothing is cast, and no value checked.

    Args:
        function: Takes three inputs, the weights, the score bias and the factor.
        x: Checked inputs of queries, keys and values, shape (..., T, D) each.
        weights: The layer.
        score_bias: What is added to the scores.
        weight_factor: What the attention weights are multiplied with, or None.

    Returns:
        What the function returns.
    """
    given = (*x, weights, score_bias, weight_factor)
    if is_traced(given):
        return function(*given)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((x, weights))}
    one = len(dtypes) == 1 and jnp.issubdtype(min(dtypes, key=str), jnp.floating)
    dtype = np.dtype(dtypes.pop()) if one else _widest((x, weights))
    check_bias(np.shape(x[0])[-2], score_bias, dtype)
    if not needs_float64(dtype):
        return function(*jax.tree.map(lambda a: jnp.asarray(a, dtype), given))
    with jax.enable_x64(True):
        given = jax.tree.map(lambda a: jnp.asarray(a, dtype), given)
        return np.asarray(function(*given))


def as_score_bias(score_bias: ScoreBias | None) -> ScoreBias:
    """The bias; none at all where None is given.

    Args:
        score_bias: The bias, or None.

    Returns:
        A bias.

    Raises:
        ValueError: If it is something else.
    """
    if score_bias is None:
        return ScoreBias()
    if not isinstance(score_bias, ScoreBias):
        raise ValueError(
            f"score_bias must be a ScoreBias, got {type(score_bias).__name__}; an "
            "array goes into ScoreBias(array=...)."
        )
    return score_bias


def is_traced(given: Any) -> bool:
    """Whether an array of a pytree is a placeholder of a transformation."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(given))


def needs_float64(dtype: np.dtype) -> bool:
    """Whether a dtype is float64 while JAX is set to float32."""
    return dtype == np.float64 and not jax.config.read("jax_enable_x64")


def _widest(arrays: Any) -> np.dtype:
    """The widest dtype of inputs and weights, at least float32.

    Args:
        arrays: A pytree of arrays.

    Returns:
        float32 or float64.

    Raises:
        ValueError: If that is neither float32 nor float64.
    """
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(arrays)]
    half = (
        np.dtype(np.float16),
        np.dtype(jnp.bfloat16),
    )  # integers have none in common
    wide = [dtype for dtype in dtypes if dtype not in half]
    try:
        dtype = np.result_type(np.float32, *wide)
    except TypeError:
        dtype = np.dtype(object)
    if dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(
            "x and weights must hold real numbers of at most float64, got "
            f"{sorted({str(name) for name in dtypes})}."
        )
    return dtype
