r"""Spectral norms of a layer whose heads mix, by Lanczos on products with vectors.

No block is formed: a norm is the root of the largest eigenvalue of M^T M, to 1e-9
(`sensitivity._lanczos`). The key path has rank H at most: with Q_i an orthonormal basis
of the row's w^n, its norm is that of H columns of O numbers.

A norm's derivative is that of |M y| with y its top right singular vector held fixed. It
is not smooth where two singular values meet at the top.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sensitivity._lanczos import top_pair
from sensitivity._mixed_heads import Kernels, Layer, Rows, differentiated_as, safe_root


def spectral_rows(
    layer: Layer, kernels: Kernels, rows: Rows
) -> tuple[Float[Array, "3 R T"], Float[Array, "2 R"]]:
    """Norms by value, key and both of all pairs; of the query path and the diagonal."""
    H, V, D = kernels.value.shape
    R, T = rows.alpha.shape[1:]
    out = kernels.out.reshape(H * V, -1)
    value = kernels.value.reshape(H * V, D)
    alpha = jnp.moveaxis(rows.alpha, 0, -1)  # (R, T, H)
    apart = layer.v[:, None] - rows.h[:, :, None]
    apart = jnp.moveaxis(rows.moving[..., None, None] * apart, 0, 2)  # (R, T, H, V)
    w = jnp.moveaxis(rows.q @ kernels.key, 0, 1)  # (R, H, D)
    turn = jnp.moveaxis(rows.covariance, 0, 1) * rows.turn[:, None, None, None]

    def values_of(x: Array, alpha: Array, apart: Array, flags: Array) -> Array:
        """What a pair's values (..., H, V) become along x (R, ..., D)."""
        share = flags[0] * rows.share.reshape(-1, *[1] * (alpha.ndim - 1), 1)
        gain = flags[1] * jnp.einsum("r...d,rhd->r...h", x, w)
        y = share * (x @ value.T).reshape(apart.shape) + apart * gain[..., None]
        return alpha[..., None] * y

    def pair(flags: Float[Array, " 2"]) -> Array:
        def apply(x: Float[Array, "R T D"]) -> Array:
            y = values_of(x, alpha, apart, flags)
            return y.reshape(R, T, H * V) @ out

        return _largest(apply, (R, T, D))

    at = rows.here[:, None, None]
    own_alpha = jnp.take_along_axis(alpha, at, 1)[:, 0]
    own_apart = jnp.take_along_axis(apart, at[..., None], 1)[:, 0]

    def diagonal(flags: Float[Array, " 2"]) -> Array:
        def apply(x: Float[Array, "R D"]) -> Array:
            y = flags[0] * values_of(x, own_alpha, own_apart, jnp.ones(2))
            along = jnp.einsum("rd,hkd->rhk", x, kernels.query)
            y += jnp.einsum("rhvk,rhk->rhv", turn, along)
            y = y.reshape(R, H * V) @ out
            return y + flags[1] * rows.one[:, None] * x if square else y

        return _largest(apply, (R, D))

    square = out.shape[1] == D
    value_norm, total = jax.lax.map(pair, jnp.array([[1.0, 0.0], [1.0, 1.0]]))
    key = _key_path(kernels, alpha, apart, w)
    return (
        jnp.stack([value_norm, key, total]),
        jax.lax.map(diagonal, jnp.array([[0.0, 0.0], [1.0, 1.0]])),
    )


def _key_path(kernels: Kernels, alpha: Array, apart: Array, w: Array) -> Array:
    turned = jnp.linalg.qr(jax.lax.stop_gradient(w).mT)[0]  # (R, D, M)
    turned = jnp.einsum("rhd,rdm->rhm", w, turned)
    y = jnp.einsum("rthv,hvo->rtho", alpha[..., None] * apart, kernels.out)

    def apply(x: Float[Array, "R T M"]) -> Array:
        along = jnp.einsum("rtm,rhm->rth", x, turned)
        return jnp.einsum("rth,rtho->rto", along, y)

    return _largest(apply, (*alpha.shape[:2], turned.shape[-1]))


def _largest(apply, shape: tuple[int, ...]) -> Array:
    """Largest singular values of linear maps of the last axis."""

    def normal(x: Array) -> Array:
        image, back = jax.vjp(apply, x)
        return jax.lax.stop_gradient(back(image)[0])

    square, vector = top_pair(normal, shape, jnp.dtype("float64"))
    along = safe_root(jnp.sum(apply(jax.lax.stop_gradient(vector)) ** 2, -1))
    return differentiated_as(along, jnp.sqrt(square))
