r"""Covariances of values and keys under every row of attention weights.

.. math:: C_i = \sum_m \alpha_{im} a_m b_m^\top
    - (\sum_m \alpha_{im} a_m) (\sum_m \alpha_{im} b_m)^\top

for pairs of T points a and b. With points that have mean 0 this costs no more digits
than the rounding scale allows. The products of coordinates are formed once, for one
matrix product (the largest part of a Frobenius profile), where they are few; else a
chunk at a time. Of a pair of the same points each product is formed once.

By Cauchy and Schwarz the covariances of either kind of points with itself bound that of
both: the rung ``query_covariance``.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sensitivity._lanczos import top_eigenvalue
from sensitivity.norms import Norm

PRODUCTS = 512  # products of coordinates that are formed at once, T numbers each
SMALL = 16  # up to this order LAPACK is as fast as Lanczos

Pair = tuple[Float[Array, "T A"], Float[Array, "T B"]]


def covariances_under(
    pairs: Sequence[Pair],
) -> Callable[[Float[Array, "R T"]], list[Float[Array, "R A B"]]]:
    """A function from weights, rows of sum 1, to the covariance of each pair."""
    sizes = [a.shape[1] * b.shape[1] for a, b in pairs]
    if sum(sizes) <= PRODUCTS:
        products = [_upper(a) if a is b else _products(a.T, b) for a, b in pairs]
        whole = jnp.concatenate(products)
        ends = np.cumsum([len(product) for product in products])[:-1]

        def moments(alpha: Array) -> list[Array]:
            parts = jnp.split(alpha @ whole.T, ends, axis=1)
            return [
                part[:, _places(a.shape[1])] if a is b else part
                for part, (a, b) in zip(parts, pairs, strict=True)
            ]

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


def _covariance_tops(
    alpha: Float[Array, "R T"],
    points: Sequence[Float[Array, "T A"]],
    formed: Sequence[Float[Array, "R A A"]],
) -> Float[Array, "N R"]:
    """Largest eigenvalues of N covariances: of those ``formed``, or else of points."""
    if formed:
        size = max(matrix.shape[-1] for matrix in formed)
        padded = [jnp.pad(m, [(0, 0)] + [(0, size - m.shape[-1])] * 2) for m in formed]
        return jnp.maximum(jnp.linalg.eigvalsh(jnp.stack(padded))[..., -1], 0)
    # Coordinates that are 0 add nothing but an eigenvalue 0.
    size = max(p.shape[1] for p in points)
    stack = jnp.stack([jnp.pad(p, [(0, 0), (0, size - p.shape[1])]) for p in points])

    def apply(x: Float[Array, "N R A"]) -> Float[Array, "N R A"]:
        seen = x @ stack.mT
        mean = jnp.sum(alpha * seen, -1, keepdims=True)
        return (alpha * (seen - mean)) @ stack

    found = top_eigenvalue(apply, (len(points), len(alpha), size), alpha.dtype)
    # Lanczos ends below the eigenvalue; its last eight steps gained less than this.
    return found * (1 + 64 * jnp.finfo(alpha.dtype).eps)


def covariance_bound(
    alpha: Float[Array, "R T"],
    points: tuple[Float[Array, "T V"], Float[Array, "T K"]],
    formed: Sequence[Float[Array, "R A A"]],
    allowed: Bool[Array, "R T"],
    norm: Norm,
) -> tuple[Float[Array, " R"], Float[Array, " R"]]:
    """Bound of the norm of a covariance by its points' own, and how much too low."""
    # A covariance is a difference of squares: under sharp attention it sinks to its
    # rounding error, and the root of that is no rounding error any more.
    eps, zero = jnp.finfo(alpha.dtype).eps, jnp.zeros((), alpha.dtype)
    sizes = jnp.stack([jnp.sum(p**2, -1) for p in points])
    noise = 16 * eps * jnp.where(allowed, sizes[:, None], zero).max(-1)
    tops = _covariance_tops(alpha, points, formed)
    wholes = tops
    if norm == "frobenius":  # the traces
        means = jnp.stack([jnp.sum((alpha @ p) ** 2, -1) for p in points])
        wholes = jnp.maximum(sizes @ alpha.T - means, zero)

    def bound(tops: Array, wholes: Array) -> Array:
        tops, wholes = jnp.sqrt(tops), jnp.sqrt(wholes)
        return jnp.minimum(tops[0] * wholes[1], wholes[0] * tops[1])

    computed = bound(tops, wholes)
    return computed, bound(tops + noise, wholes + noise) - computed


def _products(columns: Float[Array, "C T"], b: Float[Array, "T B"]) -> Array:
    """All products of coordinates, shape (C B, T)."""
    return (columns[:, None, :] * b.T).reshape(-1, len(b))


def _upper(a: Float[Array, "T A"]) -> Array:
    """Products of coordinates of one kind of points, each once."""
    first, second = np.triu_indices(a.shape[1])
    return a.T[first] * a.T[second]


def _places(A: int) -> np.ndarray:
    """Where the entries of a symmetric matrix, row by row, are among `_upper`'s."""
    table = np.zeros((A, A), int)
    table[np.triu_indices(A)] = np.arange(A * (A + 1) // 2)
    return np.maximum(table, table.T).ravel()


def _in_chunks(alpha: Array, a: Array, b: Array) -> Float[Array, "R AB"]:
    """Second moments of one pair, a few coordinates of ``a`` at a time."""
    (T, A), B = a.shape, b.shape[1]
    chunk = max(1, PRODUCTS // B)
    padded = jnp.pad(a.T, ((0, -A % chunk), (0, 0))).reshape(-1, chunk, T)
    parts = jax.lax.map(lambda columns: alpha @ _products(columns, b).T, padded)
    return jnp.moveaxis(parts, 0, 1).reshape(len(alpha), -1)[:, : A * B]
