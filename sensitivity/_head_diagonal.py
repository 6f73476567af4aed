r"""Norms of one head's diagonal blocks, where the query path acts.

In the output basis Q of the head the block is Q Z, with

.. math:: Z = \alpha_{ii} (A + u w^\top) + C_i E^\top

and E a basis of :math:`W^{Q\top}`. Its part inside E is a V x K matrix per row; what is
left, :math:`\alpha_{ii} (A + u w^\top)(I - E E^\top)`, is as simple as what is off the
diagonal. So no product of the layer's width D is taken per row of many heads.

With the residual and V < D the matrix is [F; 0 I] in a basis that begins with Q, with
F = Q^T + Z. Its Gram matrix has the blocks F F^T, the identity, and between them a root
of F (I - Q Q^T) F^T: 2 V eigenvalues matter, all others are 1.
"""

from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sensitivity._covariances import SMALL
from sensitivity._lanczos import top_eigenvalue
from sensitivity._lapack import after
from sensitivity.norms import gram, power_of_two, root

if TYPE_CHECKING:
    from sensitivity._head_norms import HeadFactors


class Fixed(NamedTuple):
    """What diagonal blocks share: matrices split into what E spans and the rest."""

    inside: Float[Array, "V K"]  # A E
    beside: Float[Array, "V D"] | None  # A (I - E E^T); None where E spans everything
    basis_inside: Float[Array, "V K"] | None  # Q^T E; None without the residual
    basis_beside: Float[Array, "V D"] | None
    query_basis: Float[Array, "D K"]
    output_basis: Float[Array, "O V"]

    @property
    def residual(self) -> bool:
        """Whether the identity is added."""
        return self.basis_inside is not None

    @property
    def bordered(self) -> bool:
        """Whether the identity reaches beyond the head's output."""
        width, V = self.output_basis.shape
        return self.residual and V < width


class Row(NamedTuple):
    """A block of rows of one head: R in front of every array."""

    alpha: Float[Array, "R T"]
    own: Float[Array, " R"]  # alpha_ii
    h: Float[Array, "R V"]  # in units of the values
    u: Float[Array, "R V"]  # v_i - h_i
    w: Float[Array, "R D"]
    query: Float[Array, "R V K"]  # the query path in the bases of values and keys
    place: Int[Array, " R"]


def fixed_of_head(factors: "HeadFactors", residual: bool) -> Fixed:
    """Split what the diagonal blocks of a head share."""
    A, E, Q = factors.value, factors.query_basis, factors.output_basis
    everything = E.shape[1] == E.shape[0]

    def split(matrix: Array) -> tuple[Array, Array | None]:
        inside = matrix @ E
        return inside, None if everything else matrix - inside @ E.T

    inside, beside = split(A)
    basis_inside, basis_beside = split(Q.T) if residual else (None, None)
    return Fixed(inside, beside, basis_inside, basis_beside, E, Q)


class _Parts(NamedTuple):
    """One block's matrix, F with the residual and Z without, in its two parts."""

    inside: Float[Array, "R V K"]
    beside: Float[Array, "R V D"] | None
    w_beside: Float[Array, "R D"] | None


def _parts(fixed: Fixed, row: Row, identity: bool = True) -> _Parts:
    w = row.own[:, None] * row.w
    w_inside = w @ fixed.query_basis
    inside = row.own[:, None, None] * fixed.inside + row.query
    inside += row.u[:, :, None] * w_inside[:, None, :]
    if identity and fixed.basis_inside is not None:
        inside += fixed.basis_inside
    if fixed.beside is None:
        return _Parts(inside, None, None)
    w_beside = w - w_inside @ fixed.query_basis.T
    beside = row.own[:, None, None] * fixed.beside
    beside += row.u[:, :, None] * w_beside[:, None, :]
    if identity and fixed.basis_beside is not None:
        beside += fixed.basis_beside
    return _Parts(inside, beside, w_beside)


def whole_diagonal(fixed: Fixed, row: Row) -> Float[Array, "R V D"]:
    """F = Q^T + Z, or Z without the residual, formed."""
    parts = _parts(fixed, row)
    whole = parts.inside @ fixed.query_basis.T
    return whole if parts.beside is None else whole + parts.beside


def frobenius_diagonal(fixed: Fixed, row: Row) -> Float[Array, " R"]:
    """||J_ii||_F: with the residual ||I + Q Z||^2 = ||F||^2 + (O - V)."""
    parts = _parts(fixed, row)
    unit = _unit(fixed, row, parts)

    def square(matrices: Float[Array, "R A B"]) -> Float[Array, " R"]:
        # Along the last axis first: over both at once the CPU takes ten times as long.
        return jnp.sum((matrices / unit[:, None, None]) ** 2, -1).sum(-1)

    total = square(parts.inside)
    if parts.beside is not None:
        total += square(parts.beside)
    if fixed.bordered:
        width, V = fixed.output_basis.shape
        total += (width - V) / unit**2
    return unit * jnp.sqrt(total)


def _unit(fixed: Fixed, row: Row, parts: _Parts) -> Float[Array, " R"]:
    """A power of two near what no entry of the two parts exceeds by much."""
    most = jnp.abs(parts.inside).max(-1).max(-1)
    if fixed.beside is not None and parts.w_beside is not None:
        most += row.own * jnp.abs(fixed.beside).max()
        most += jnp.abs(row.u).max(-1) * jnp.abs(parts.w_beside).max(-1)
        if fixed.basis_beside is not None:
            most += jnp.abs(fixed.basis_beside).max()
    return power_of_two(most)


def rest_of_diagonal(fixed: Fixed, row: Row) -> Float[Array, "R V D"] | None:
    """F (I - Q Q^T) of small heads, whose Gram matrix LAPACK takes a root of."""
    if not fixed.bordered or row.h.shape[-1] > SMALL:
        return None
    whole = whole_diagonal(fixed, row)
    return whole - (whole @ fixed.output_basis) @ fixed.output_basis.T


def spectral_diagonal(
    fixed: Fixed, row: Row, rest: tuple[Array, Array] | None, earlier: Array
) -> Float[Array, " R"]:
    """||J_ii||_2; ``rest``: eigenvalues and vectors of that Gram matrix."""
    if fixed.bordered and rest is not None:
        whole, (levels, vectors) = whole_diagonal(fixed, row), rest
        between = vectors * root(levels)[:, None, :]
        one = jnp.broadcast_to(
            jnp.eye(whole.shape[1], dtype=whole.dtype), between.shape
        )
        matrix = jnp.block([[whole @ whole.mT, between], [between.mT, one]])
        return root(jnp.linalg.eigvalsh(after(matrix, levels))[:, -1])
    if row.h.shape[-1] <= SMALL:
        matrix, scale = gram(whole_diagonal(fixed, row))
        return scale * root(jnp.linalg.eigvalsh(after(matrix, earlier))[:, -1])
    if fixed.bordered:
        return _wide_bordered(fixed, row, earlier)
    return _wide(fixed, row)


def _wide(fixed: Fixed, row: Row) -> Float[Array, " R"]:
    """Spectral norms of Z, or of I + Q Z with Q square, by products with vectors."""
    parts = _parts(fixed, row)
    unit, inside, w_beside = _unit(fixed, row, parts), parts.inside, parts.w_beside
    inside = inside / unit[:, None, None]

    def apply(y: Float[Array, "R V"]) -> Float[Array, "R V"]:
        image = _times(inside, _times(inside.mT, y))
        if fixed.beside is None or w_beside is None:
            return image
        own = row.own[:, None]
        x = own * (y @ fixed.beside)
        x += jnp.sum(y * row.u, -1, keepdims=True) * w_beside
        if fixed.basis_beside is not None:
            x += y @ fixed.basis_beside
        x = x / unit[:, None]
        back = own * (x @ fixed.beside.T)
        back += jnp.sum(x * w_beside, -1, keepdims=True) * row.u
        if fixed.basis_beside is not None:
            back += x @ fixed.basis_beside.T
        return image + back / unit[:, None]

    return unit * root(top_eigenvalue(apply, row.h.shape, row.h.dtype))


def _wide_bordered(fixed: Fixed, row: Row, earlier: Array) -> Float[Array, " R"]:
    """Spectral norms of I + Q Z from V x V matrices: at least 1, so nothing cancels."""
    inside, _, w_beside = _parts(fixed, row, identity=False)
    own, u, Q = row.own[:, None, None], row.u, fixed.output_basis
    to_basis = inside @ (fixed.query_basis.T @ Q)
    square = inside @ inside.mT
    if fixed.beside is not None and w_beside is not None:
        to_basis += own * (fixed.beside @ Q) + u[:, :, None] * (w_beside @ Q)[:, None]
        along = row.own[:, None] * (w_beside @ fixed.beside.T)
        both = along[:, :, None] * u[:, None, :]
        size = jnp.sum(w_beside**2, -1)[:, None, None]
        square += own**2 * (fixed.beside @ fixed.beside.T) + both + both.mT
        square += size * u[:, :, None] * u[:, None, :]
    one = jnp.eye(square.shape[-1], dtype=square.dtype)
    own_part = one + to_basis + to_basis.mT + square
    # Raised by rounding, so that the root exists.
    noise = 8 * jnp.finfo(square.dtype).eps * jnp.trace(square, axis1=1, axis2=2)
    noise = jnp.maximum(noise, jnp.finfo(square.dtype).tiny)
    between = square - to_basis @ to_basis.mT + noise[:, None, None] * one
    between = jnp.linalg.cholesky(after(between, earlier))
    V = one.shape[0]

    def apply(x: Float[Array, "R 2V"]) -> Float[Array, "R 2V"]:
        y, r = x[:, :V], x[:, V:]
        first = _times(own_part, y) + _times(between, r)
        return jnp.concatenate([first, _times(between.mT, y) + r], axis=1)

    return root(top_eigenvalue(apply, (len(u), 2 * V), u.dtype))


def top_of(blocks: Float[Array, "R V K"]) -> Float[Array, " R"]:
    """Spectral norms of wide matrices by products with vectors."""
    largest = jnp.abs(blocks).max((1, 2))
    scale = jnp.where(largest > 0, largest, jnp.ones_like(largest))
    scaled = blocks / scale[:, None, None]
    if blocks.shape[1] > blocks.shape[2]:
        scaled = scaled.mT

    def apply(y: Array) -> Array:
        return _times(scaled, _times(scaled.mT, y))

    return scale * root(top_eigenvalue(apply, scaled.shape[:2], blocks.dtype))


def _times(matrices: Float[Array, "R A B"], x: Float[Array, "R B"]) -> Array:
    return (matrices @ x[..., None])[..., 0]
