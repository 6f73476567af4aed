"""Float64 inside, whatever the precision of the caller: for sums that cancel."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap


def in_float64(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function on arrays in float64; its results are in the first's dtype."""
    # Derivatives, reverse mode only, are computed in float64 too. Where the arguments
    # are float64 it is just called.
    dtype = jax.tree.leaves(arguments)[0].dtype
    if dtype == np.float64:
        return function(*arguments)
    # What JAX makes of a computation (derivatives, batches) it makes outside of the
    # block that allows float64, and fails there. So both are told to it.
    forward = _allowed(lambda *given: _cast(function(*_cast(given, np.float64)), dtype))

    @_allowed
    def backward(arguments: tuple, slopes: Any) -> tuple:
        result, pull = jax.vjp(function, *_cast(arguments, np.float64))
        slopes = pull(jax.tree.map(_as, slopes, result))
        return jax.tree.map(_as, slopes, arguments)

    call = jax.custom_vjp(forward)
    call.defvjp(lambda *given: (forward(*given), given), backward)
    return call(*arguments)


def _allowed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with float64 allowed while it is traced, batches of it too."""

    @custom_vmap
    def call(*arguments: Any) -> Any:
        with jax.enable_x64(True):
            return function(*arguments)

    @call.def_vmap
    def batch(size: int, batched: Any, *arguments: Any) -> tuple[Any, Any]:
        axes = jax.tree.map(lambda along: 0 if along else None, batched)
        each = jax.vmap(function, in_axes=tuple(axes), axis_size=size)
        result = _allowed(each)(*arguments)
        return result, jax.tree.map(lambda _: True, result)

    return call


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(functools.partial(_floats_as, dtype), tree)


def _floats_as(dtype: Any, array: Any) -> Any:
    return array.astype(dtype) if jnp.issubdtype(array.dtype, jnp.floating) else array


def _as(array: Any, other: Any) -> Any:
    """In the other's dtype, where it is a number that has derivatives."""
    return _floats_as(other.dtype, array)
