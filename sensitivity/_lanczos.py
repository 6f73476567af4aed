r"""Largest eigenvalue of many positive semidefinite operators at once, by Lanczos.

No operator is formed: only products with vectors are asked for. Without
reorthogonalisation the largest Ritz value still converges (Paige, The computation of
eigenvalues and eigenvectors of very large sparse matrices, PhD thesis, 1971; Parlett,
The symmetric eigenvalue problem, 1980). It is read off the tridiagonal matrices
:math:`T` (diagonal a, off-diagonal b) by Laguerre's method: with the pivots
:math:`d_k = \lambda - a_k - b_{k-1}^2 / d_{k-1}` of :math:`\lambda I - T`, the
logarithmic derivatives of the characteristic polynomial are sums over k, and, its roots
being real, the step from above never passes the largest.

Lanczos steps are taken eight at a time until eight more raise the largest Ritz value of
no operator by more than 64 roundings, or 4 N + 24 are done. Tests hold the norms that
follow from it to 1e-9 in float64.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

_CHUNK, _WRITTEN_OUT = 8, 4


def top_eigenvalue(
    apply: Callable[[Float[Array, "*batch N"]], Float[Array, "*batch N"]],
    shape: tuple[int, ...],
    dtype: np.dtype,
    tolerance: float | None = None,
) -> Float[Array, "*batch"]:
    """Largest eigenvalues of semidefinite operators on vectors of a shape (..., N)."""
    # tolerance: the relative gain of eight steps at which they end; 64 roundings.
    return _lanczos(apply, _start(apply, shape, dtype), tolerance)[0]


def top_vector(
    apply: Callable[[Float[Array, "*batch N"]], Float[Array, "*batch N"]],
    shape: tuple[int, ...],
    dtype: np.dtype,
) -> Float[Array, "*batch N"]:
    """A unit eigenvector of each largest eigenvalue."""
    # It is the sum of the Lanczos vectors, made once more, by the eigenvector
    # of the tridiagonal matrix.
    start = _start(apply, shape, dtype)
    top, size, diagonal, off = _lanczos(apply, start)
    parts = _tridiagonal_vector(top, diagonal, off)

    def step(k: Array, state: tuple) -> tuple:
        previous, vector, total = state
        total += parts[k][..., None] * vector
        back = jnp.where(k > 0, off[k - 1], jnp.zeros_like(off[0]))
        image = apply(vector) - back[..., None] * previous
        image -= diagonal[k][..., None] * vector
        return vector, _over(image, off[k]), total

    zeros = jnp.zeros(shape, dtype)
    total = jax.lax.fori_loop(0, size, step, (zeros, start, zeros))[2]
    return _over(total, jnp.linalg.norm(total, axis=-1))


def _over(vectors: Array, sizes: Array) -> Array:
    """Vectors over their sizes, zero where that is zero."""
    safe = jnp.where(sizes > 0, sizes, jnp.ones_like(sizes))[..., None]
    return jnp.where((sizes > 0)[..., None], vectors / safe, jnp.zeros_like(vectors))


def _start(apply: Callable, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """Random unit vectors that depend on all bits of a product of the operator."""
    # A fixed vector is orthogonal to the top direction of some operator; this one
    # would have to be orthogonal to what is drawn from its own bits.
    first = np.random.default_rng(shape[-1]).normal(size=shape[-1])
    image = apply(jnp.broadcast_to(jnp.asarray(first, dtype), shape))
    words = jax.lax.bitcast_convert_type(image, jnp.uint32).ravel()
    seed = jnp.sum(_hashed(words ^ _hashed(_places(words.size))), dtype=jnp.uint32)
    drawn = _hashed(_hashed(_places(math.prod(shape))) ^ seed).reshape(shape)
    start = (drawn.astype(dtype) + 0.5) * 2.0**-31 - 1  # uniform, never all zero
    return start / jnp.linalg.norm(start, axis=-1, keepdims=True)


def _places(size: int) -> Array:
    return jax.lax.iota(jnp.uint32, size)


def _hashed(words: Array) -> Array:
    """Words of 32 bits, mixed (the finalizer of MurmurHash3)."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        words ^= jax.lax.shift_right_logical(words, jnp.full_like(words, shift))
        words *= jnp.uint32(factor)
    return words


def _tridiagonal_vector(top: Array, diagonal: Array, off: Array) -> Array:
    """Eigenvectors of tridiagonal matrices by three inverse iterations from above."""
    eps, tiny = jnp.finfo(top.dtype).eps, jnp.finfo(top.dtype).tiny
    shift = top * (1 + 32 * eps) + tiny
    above = jnp.concatenate([jnp.zeros_like(off[:1]), off[:-1]])

    def pivot(last: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
        own, b = row
        new = shift - own - b * (b / last)
        new = jnp.maximum(new, eps * shift)
        return new, new

    _, pivots = jax.lax.scan(pivot, jnp.ones_like(top), (diagonal, above))

    def forward(last: Array, row: tuple[Array, ...]) -> tuple[Array, Array]:
        right, b, before = row
        new = right + b / before * last
        return new, new

    def backward(last: Array, row: tuple[Array, ...]) -> tuple[Array, Array]:
        right, b, own = row
        new = (right + b * last) / own
        return new, new

    before = jnp.concatenate([jnp.ones_like(pivots[:1]), pivots[:-1]])
    zero = jnp.zeros_like(top)

    def iterate(_: Array, vector: Array) -> Array:
        _, vector = jax.lax.scan(forward, zero, (vector, above, before))
        _, vector = jax.lax.scan(backward, zero, (vector, off, pivots), reverse=True)
        return vector / jnp.abs(vector).max(0)

    first = jnp.zeros_like(diagonal).at[0].set(1)
    return jax.lax.fori_loop(0, 3, iterate, first)


def _lanczos(
    apply: Callable, vector: Array, tolerance: float | None = None
) -> tuple[Array, Array, Array, Array]:
    """Largest eigenvalues, steps taken, and the tridiagonal matrices."""
    *batch, N = shape = vector.shape
    dtype = vector.dtype
    most = -(-(4 * N + 24) // _CHUNK) * _CHUNK
    eps = jnp.finfo(dtype).eps
    gain = 64 * eps if tolerance is None else tolerance

    def step(k: Array, state: tuple) -> tuple:
        previous, vector, beta, diagonal, off = state
        image = apply(vector) - beta[..., None] * previous
        alpha = jnp.sum(image * vector, -1)
        image -= alpha[..., None] * vector
        beta = jnp.linalg.norm(image, axis=-1)
        # What is left of an exhausted Krylov space is rounding: nothing follows it.
        size = jnp.maximum(diagonal.max(0), alpha)
        beta = jnp.where(beta > N * eps * size, beta, jnp.zeros_like(beta))
        following = _over(image, beta)
        return vector, following, beta, diagonal.at[k].set(alpha), off.at[k].set(beta)

    def chunk(state: tuple) -> tuple:
        k, theta, growing, lanczos = state
        lanczos = jax.lax.fori_loop(k, k + _CHUNK, step, lanczos)
        top = largest_root(lanczos[3], lanczos[4], k + _CHUNK)
        grown = growing & (top - theta > gain * top)
        # What has converged is left alone: its later steps are ghosts of rounding.
        return k + _CHUNK, jnp.where(growing, top, theta), grown, lanczos

    nothing = jnp.zeros(batch, dtype)
    table = jnp.zeros((most, *batch), dtype)
    lanczos = (jnp.zeros(shape, dtype), vector, nothing, table, table)
    state = (jnp.array(0), nothing, jnp.ones(batch, bool), lanczos)

    def unfinished(state: tuple) -> Array:
        return jnp.any(state[2]) & (state[0] < most)

    size, top, _, lanczos = jax.lax.while_loop(unfinished, chunk, state)
    return top, size, *lanczos[3:]


def largest_root(
    diagonal: Float[Array, "steps ..."],
    off: Float[Array, "steps ..."],
    size: Int[Array, ""],
) -> Float[Array, "*batch"]:
    """Largest eigenvalues of tridiagonal semidefinite matrices, to rounding."""
    # Of both arrays the first ``size`` rows count, a multiple of the chunk; off[k] >= 0
    # couples k and k + 1.
    dtype = diagonal.dtype
    eps, tiny = jnp.finfo(dtype).eps, jnp.finfo(dtype).tiny
    zeros = jnp.zeros_like(diagonal[0])

    def over_rows(function: Callable, start: tuple) -> tuple:
        """Call it with rows k of both arrays, a few written out for one loop."""

        def chunk(n: Array, state: tuple) -> tuple:
            parts = (
                jax.lax.dynamic_slice_in_dim(table, n * _WRITTEN_OUT, _WRITTEN_OUT)
                for table in (diagonal, off)
            )
            for own, b in zip(*parts, strict=True):
                state = function(own, b, state)
            return state

        return jax.lax.fori_loop(0, size // _WRITTEN_OUT, chunk, start)

    def bound(own: Array, b: Array, state: tuple) -> tuple:
        most, below = state
        return jnp.maximum(most, own + below + b), b

    off = off.at[size - 1].set(0)
    start, _ = over_rows(bound, (zeros, zeros))
    scale = jnp.maximum(start, tiny)
    order = size.astype(dtype)

    def laguerre(state: tuple) -> tuple:
        root, _, count = state

        def pivot(own: Array, following: Array, sums: tuple) -> tuple:
            first, second, d, d1, d2, b, above = sums
            ratio = (b / d) * (b / scale)
            slope = 1 + ratio * scale * d1 / d
            curve = ratio * scale * (d2 - 2 * d1 * d1 / d) / d
            new = root - own - ratio * scale
            above &= new > 0
            new = jnp.where(jnp.abs(new) > eps**2 * scale, new, eps**2 * scale)
            first += slope / new
            second += (slope / new) ** 2 - curve / new
            return first, second, new, slope, curve, following, above

        ones = jnp.ones_like(root)
        sums = (zeros, zeros, ones * scale, zeros, zeros, zeros, ones > 0)
        first, second, *_, above = over_rows(pivot, sums)
        inside = (order - 1) * (order * second - first**2)
        step = order / (first + jnp.sqrt(jnp.maximum(inside, 0)))
        # Below the largest root (by rounding) the next step would seek the second.
        step = jnp.where(above & jnp.isfinite(step), step, zeros)
        return root - step, jnp.any(step > 4 * eps * scale), count + 1

    def more(state: tuple) -> Array:
        _, moving, count = state
        return moving & (count < 60)

    state = (start, jnp.array(True), jnp.array(0))
    return jnp.maximum(jax.lax.while_loop(more, laguerre, state)[0], 0)
