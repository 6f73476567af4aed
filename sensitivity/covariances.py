"""Covariances of values and keys under every row of attention weights."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

PRODUCTS = 512  # products of coordinates that are formed at once, T numbers each


def covariance_under(
    a: Float[Array, "T A"], b: Float[Array, "T B"]
) -> Callable[[Float[Array, "R T"]], Float[Array, "R A B"]]:
    r"""Covariance of T pairs of points under many weightings, as one matrix product.

    .. math:: C_i = \sum_m \alpha_{im} a_m b_m^\top
        - (\sum_m \alpha_{im} a_m) (\sum_m \alpha_{im} b_m)^\top

    With points that have mean 0 this costs no more digits than the rounding scale
    allows. The products of coordinates are formed once where they are few, else a chunk
    at a time.

    Args:
        a: Points, shape (T, A).
        b: Points, shape (T, B).

    Returns:
        A function from weights (R, T), each row with sum 1, to shape (R, A, B).
    """
    T, A = a.shape
    B = b.shape[1]
    chunk = max(1, PRODUCTS // B)  # rows of a.T

    def products(rows: Float[Array, "C T"]) -> Float[Array, "CB T"]:
        return (rows[:, None, :] * b.T).reshape(-1, T)

    if chunk >= A:
        whole = products(a.T)

        def moments(alpha: Array) -> Array:
            return (alpha @ whole.T).reshape(-1, A, B)

    else:
        padded = jnp.pad(a.T, ((0, -A % chunk), (0, 0))).reshape(-1, chunk, T)

        def moments(alpha: Array) -> Array:
            parts = jax.lax.map(lambda rows: alpha @ products(rows).T, padded)
            moments = jnp.moveaxis(parts, 0, 1).reshape(len(alpha), -1, B)
            return moments[:, :A]

    def covariance(alpha: Float[Array, "R T"]) -> Float[Array, "R A B"]:
        means = (alpha @ a)[:, :, None] * (alpha @ b)[:, None, :]
        return moments(alpha) - means

    return covariance
