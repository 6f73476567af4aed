r"""Covariances of values and keys under every row of attention weights.

.. math:: C_i = \sum_m \alpha_{im} a_m b_m^\top
    - (\sum_m \alpha_{im} a_m) (\sum_m \alpha_{im} b_m)^\top

for pairs of T points a and b. With points that have mean 0 this costs no more digits
than the rounding scale allows. The products of coordinates are formed once, for one
matrix product (the largest part of a Frobenius profile), where they are few; else a
chunk at a time.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

PRODUCTS = 512  # products of coordinates that are formed at once, T numbers each

Pair = tuple[Float[Array, "T A"], Float[Array, "T B"]]


def covariances_under(
    pairs: Sequence[Pair],
) -> Callable[[Float[Array, "R T"]], list[Float[Array, "R A B"]]]:
    """A function from weights, rows of sum 1, to the covariance of each pair."""
    sizes = [a.shape[1] * b.shape[1] for a, b in pairs]
    if sum(sizes) <= PRODUCTS:
        whole = jnp.concatenate([_products(a.T, b) for a, b in pairs])
        ends = [sum(sizes[: n + 1]) for n in range(len(sizes) - 1)]

        def moments(alpha: Array) -> list[Array]:
            return jnp.split(alpha @ whole.T, ends, axis=1)

    else:

        def moments(alpha: Array) -> list[Array]:
            return [_in_chunks(alpha, a, b) for a, b in pairs]

    def covariances(alpha: Float[Array, "R T"]) -> list[Float[Array, "R A B"]]:
        return [
            moment.reshape(-1, a.shape[1], b.shape[1])
            - (alpha @ a)[:, :, None] * (alpha @ b)[:, None, :]
            for moment, (a, b) in zip(moments(alpha), pairs, strict=True)
        ]

    return covariances


def _products(columns: Float[Array, "C T"], b: Float[Array, "T B"]) -> Array:
    """All products of coordinates, shape (C B, T)."""
    return (columns[:, None, :] * b.T).reshape(-1, len(b))


def _in_chunks(alpha: Array, a: Array, b: Array) -> Float[Array, "R AB"]:
    """Second moments of one pair, a few coordinates of ``a`` at a time."""
    (T, A), B = a.shape, b.shape[1]
    chunk = max(1, PRODUCTS // B)
    padded = jnp.pad(a.T, ((0, -A % chunk), (0, 0))).reshape(-1, chunk, T)
    parts = jax.lax.map(lambda columns: alpha @ _products(columns, b).T, padded)
    return jnp.moveaxis(parts, 0, 1).reshape(len(alpha), -1)[:, : A * B]
