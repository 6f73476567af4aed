r"""Spectral norms of a layer whose heads mix, by Lanczos on products with vectors.

No block is formed: a norm is the root of the largest eigenvalue of M^T M, to 1e-9
(`sensitivity._lanczos`). With B the block before the output projection and
P = W^{O T} W^O, that matrix is B^T P B: three products with a matrix as wide as the
layer. The key path has rank H at most: with Q_i an orthonormal basis of the row's w^n,
its norm is that of H columns.

A norm's derivative is that of |M y| with y its top right singular vector held fixed. It
is not smooth where two singular values meet at the top.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float

from sensitivity._lanczos import top_eigenvalue, top_vector
from sensitivity._mixed_heads import Kernels, Layer, Rows
from sensitivity.norms import differentiated_by

Tables = tuple[Float[Array, "3 R T"], Float[Array, "2 R"]]


class _Blocks(NamedTuple):
    """Blocks of some rows as maps of vectors: many, with axes (...) between R and D."""

    share: Float[Array, "R *steps 1"]
    alpha: Float[Array, "R *steps H"]
    apart: Float[Array, "R *steps H V"]  # v_j - h_i
    w: Float[Array, "R H D"]
    turn: Float[Array, "R H V K"] | None  # of the query path, on the diagonal
    one: Float[Array, "R 1"] | None  # the residual's identity
    kernels: Kernels

    def inside(self, x: Float[Array, "R *steps D"]) -> Float[Array, "R *steps H V"]:
        """B x: the values that x moves, before the output projection."""
        kernels, shape = self.kernels, self.apart.shape
        y = self.share * (x @ kernels.value.reshape(-1, x.shape[-1]).T)
        gain = jnp.einsum("r...d,rhd->r...h", x, self.w)
        y = self.alpha[..., None] * (y.reshape(shape) + self.apart * gain[..., None])
        if self.turn is not None:
            along = jnp.einsum("rd,hkd->rhk", x, kernels.query)
            y += jnp.einsum("rhvk,rhk->rhv", self.turn, along)
        return y

    def back(self, y: Float[Array, "R *steps H V"]) -> Float[Array, "R *steps D"]:
        """B^T y."""
        kernels, width = self.kernels, self.kernels.value.shape[-1]
        moved = self.alpha[..., None] * y
        flat = moved.reshape(*y.shape[:-2], -1)
        x = (self.share * flat) @ kernels.value.reshape(-1, width)
        gain = jnp.sum(moved * self.apart, -1)
        x += jnp.einsum("r...h,rhd->r...d", gain, self.w)
        if self.turn is not None:
            along = jnp.einsum("rhvk,rhv->rhk", self.turn, y)
            x += jnp.einsum("rhk,hkd->rd", along, kernels.query)
        return x

    def outside(self, x: Float[Array, "R *steps D"]) -> Float[Array, "R *steps O"]:
        """M x."""
        out = self.kernels.out
        y = self.inside(x).reshape(*x.shape[:-1], -1) @ out.reshape(-1, out.shape[-1])
        return y if self.one is None else y + self.one * x

    def square(self, x: Float[Array, "R *steps D"]) -> Float[Array, "R *steps D"]:
        """M^T M x."""
        out = self.kernels.out.reshape(-1, self.kernels.out.shape[-1])
        y = self.inside(x)
        flat = y.reshape(*x.shape[:-1], -1)
        if self.one is None:
            return self.back((flat @ (out @ out.T)).reshape(y.shape))
        image = flat @ out + self.one * x
        return self.back((image @ out.T).reshape(y.shape)) + self.one * image


class _Columns(NamedTuple):
    """The key path in an orthonormal basis of the row's w: M columns of O numbers."""

    y: Float[Array, "R T H O"]
    turned: Float[Array, "R H M"]

    def outside(self, x: Float[Array, "R T M"]) -> Float[Array, "R T O"]:
        """M x."""
        along = jnp.einsum("rtm,rhm->rth", x, self.turned)
        return jnp.einsum("rth,rtho->rto", along, self.y)

    def square(self, x: Float[Array, "R T M"]) -> Float[Array, "R T M"]:
        """M^T M x."""
        along = jnp.einsum("rto,rtho->rth", self.outside(x), self.y)
        return jnp.einsum("rth,rhm->rtm", along, self.turned)


Solver = Callable[[_Blocks | _Columns, tuple[int, ...]], Array]


def spectral_rows(layer: Layer, kernels: Kernels, rows: Rows, single: bool) -> Tables:
    """Norms by value, key and both of all pairs; of the query path and the diagonal."""
    # single: to the digits of float32, in fewer steps.
    return (_single if single else _double)(layer, kernels, rows)


def _solved(layer: Layer, kernels: Kernels, rows: Rows, solve: Solver) -> Tables:
    """Whatever is asked of the blocks by path, in one table for pairs and for rows."""
    R, T = rows.alpha.shape[1:]
    D, square = (
        kernels.value.shape[-1],
        kernels.out.shape[-1] == kernels.value.shape[-1],
    )
    alpha = jnp.moveaxis(rows.alpha, 0, -1)  # (R, T, H)
    apart = layer.v[:, None] - rows.h[:, :, None]
    apart = jnp.moveaxis(rows.moving[..., None, None] * apart, 0, 2)  # (R, T, H, V)
    w = jnp.moveaxis(rows.q @ kernels.key, 0, 1)
    share = rows.share[:, None, None]
    turn = jnp.moveaxis(rows.covariance, 0, 1) * rows.turn[:, None, None, None]

    def pair(with_key: Array) -> Array:
        blocks = _Blocks(share, alpha, apart, with_key * w, None, None, kernels)
        return solve(blocks, (R, T, D))

    at = rows.here[:, None, None]
    own_alpha = jnp.take_along_axis(alpha, at, 1)[:, 0]
    own_apart = jnp.take_along_axis(apart, at[..., None], 1)[:, 0]

    def step(whole: Array) -> Array:
        one = whole * rows.one[:, None] if square else None
        scale = jnp.where(whole > 0, rows.ratio, jnp.ones_like(rows.ratio))
        own = whole * scale[:, None] * own_alpha
        by_query = scale[:, None, None, None] * turn
        blocks = _Blocks(share[:, 0], own, own_apart, w, by_query, one, kernels)
        return solve(blocks, (R, D))

    basis = jnp.linalg.qr(stop_gradient(w).mT)[0]  # (R, D, M)
    columns = _Columns(
        jnp.einsum("rthv,hvo->rtho", alpha[..., None] * apart, kernels.out),
        jnp.einsum("rhd,rdm->rhm", w, basis),
    )
    key = solve(columns, (R, T, basis.shape[-1]))
    flags = jnp.array([0.0, 1.0])
    value, total = jax.lax.map(pair, flags)
    return jnp.stack([value, key, total]), jax.lax.map(step, flags)


def _squares(norms: Tables, layer: Layer, kernels: Kernels, rows: Rows) -> Tables:
    del norms

    def along_top(blocks: _Blocks | _Columns, shape: tuple[int, ...]) -> Array:
        still = stop_gradient(blocks)
        vector = top_vector(still.square, shape, jnp.dtype("float64"))
        return jnp.sum(blocks.outside(stop_gradient(vector)) ** 2, -1)

    return _solved(layer, kernels, rows, along_top)


def _largest(tolerance: float | None) -> Solver:
    def solve(blocks: _Blocks | _Columns, shape: tuple[int, ...]) -> Array:
        dtype = jnp.dtype("float64")
        return jnp.sqrt(top_eigenvalue(blocks.square, shape, dtype, tolerance))

    return solve


@differentiated_by(_squares)
def _double(layer: Layer, kernels: Kernels, rows: Rows) -> Tables:
    return _solved(layer, kernels, rows, _largest(None))


@differentiated_by(_squares)
def _single(layer: Layer, kernels: Kernels, rows: Rows) -> Tables:
    return _solved(layer, kernels, rows, _largest(2.0**-27))
