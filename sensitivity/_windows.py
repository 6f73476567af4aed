"""Layers whose rows see a window of steps: long inputs in slices that overlap.

A row of a window of w steps depends on less than 2 w steps about it, so that a slice of
a few windows has its statistics, whatever the length of the input: its cost is linear
in T. Slices are samples of the same layer. Positions count by their differences only.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sensitivity.weights import AttentionWeights, ScoreBias

_LEAST = 64  # rows that a slice is for
_LONG = 3  # slices from which on they are worth their overlap


class Slices(NamedTuple):
    """An input as slices, and where its rows are in them."""

    x: Float[Array, "*batch N S D"]
    score_bias: ScoreBias
    place: Int[np.ndarray, " T"]  # of every row among the N S rows of all slices
    share: float  # S / T: sums over j that are divided by S are to be multiplied by it

    def of_heads(
        self, rows: Float[Array, "*batch N H S"]
    ) -> Float[Array, "*batch H T"]:
        """Rows of every head of the slices, as those of the input."""
        return self.of_layer(_numpy_of(rows).moveaxis(rows, -2, -3))

    def of_layer(self, rows: Float[Array, "*batch N S"]) -> Float[Array, "*batch T"]:
        """Rows of the slices, as those of the input."""
        return rows.reshape(*rows.shape[:-2], -1)[..., self.place]


def slices_of(
    x: Float[Array, "*batch T D"], weights: AttentionWeights, score_bias: ScoreBias
) -> Slices | None:
    """Slices of a long input; None where it is short, or rows see more of it."""
    T, window, form = x.shape[-2], score_bias.window, weights.form
    if window is None or (form is not None and form.added is not None):
        return None
    block = max(window, _LEAST)
    size = block + (window - 1) * (1 if score_bias.causal else 2)
    if T < _LONG * size:
        return None
    first = np.clip(np.arange(0, T, block) - window + 1, 0, T - size)
    steps = first[:, None] + np.arange(size)  # (N, S)
    rows = np.arange(T)
    place = rows // block * size + rows - first[rows // block]
    bias = score_bias
    if bias.array is not None:
        bias = dataclasses.replace(bias, array=_sliced(bias.array, steps))
    return Slices(x[..., steps, :], bias, place, size / T)


def _sliced(array: Any, steps: Int[np.ndarray, "N S"]) -> Any:
    """A bias of pairs of steps by slices: (..., N, H, S, S), or 1 for any of these."""
    numpy = _numpy_of(array)
    array = array.reshape((1,) * max(0, 3 - array.ndim) + array.shape)
    array = array[..., steps] if array.shape[-1] > 1 else array[..., None]
    array = numpy.moveaxis(array, -2, -4)  # (..., N, H, R, S)
    if array.shape[-2] == 1:
        return array
    shape = (*array.shape[:-4], len(steps), *array.shape[-3:])
    place = steps.reshape(*[1] * (len(shape) - 4), len(steps), 1, -1, 1)
    return numpy.take_along_axis(numpy.broadcast_to(array, shape), place, -2)


def _numpy_of(array: Any) -> Any:
    """What an array is of: NumPy's float64 is not rounded by a call of JAX."""
    return np if isinstance(array, np.ndarray) else jnp
