"""What the functions of whole networks take: a network, its input, places in both."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from sensitivity._arrays import as_array, is_real
from sensitivity._inputs import needs_float64

Forecast = Callable[[Any], Any]
Places = Sequence[tuple[int, int]]


@contextlib.contextmanager
def prepared(forecast: Forecast, x: Any) -> Iterator[tuple[Array, tuple]]:
    """The input on the device in the right precision, and the output's (T', N', F)."""
    given = as_array("x", x)
    if not is_real(given.dtype) or np.ndim(given) != 3 or 0 in np.shape(given):
        raise ValueError(
            f"x must be real numbers of shape (T, N, C), got {np.shape(given)} of "
            f"{given.dtype}."
        )
    if not np.isfinite(np.asarray(given)).all():
        raise ValueError("x must be finite, but holds NaN or infinity.")
    dtype = np.result_type(np.asarray(given).dtype, np.float32)
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.default_matmul_precision("highest"))
        if needs_float64(np.dtype(dtype)):
            stack.enter_context(jax.enable_x64(True))
        array = jnp.asarray(np.asarray(given), dtype)
        output = jax.eval_shape(forecast, array)
        shape = getattr(output, "shape", None)
        if shape is None or len(shape) != 3:
            raise ValueError(
                f"forecast must return one array of shape (T', N', F), got {shape}."
            )
        if 0 in shape:
            raise ValueError(
                "forecast must return at least one step, node and feature, got shape "
                f"{shape}."
            )
        if not jnp.issubdtype(output.dtype, jnp.floating):
            raise ValueError(
                "forecast must return floating numbers, which have a Jacobian, got "
                f"{output.dtype}."
            )
        yield array, shape


def places_of(
    name: str, places: Places | None, sizes: tuple[int, ...]
) -> Int[np.ndarray, "P 2"]:
    """Places (time, node) as rows, all of them by default."""
    if places is None:
        return np.argwhere(np.ones(sizes[:2], bool))
    found = np.asarray(places)
    if found.ndim != 2 or found.shape[1] != 2 or found.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be a list of (time, node), at least one, got {places!r}."
        )
    wrong = (found < 0) | (found >= np.array(sizes[:2]))
    if wrong.any():
        place = tuple(found[wrong.any(1)][0].tolist())
        raise ValueError(
            f"{name} must lie within {sizes[0]} steps and {sizes[1]} nodes, counted "
            f"from 0, got {place}."
        )
    return found
