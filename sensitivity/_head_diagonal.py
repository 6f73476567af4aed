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

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from sensitivity._covariances import SMALL
from sensitivity._heads import Head, HeadFactors, Rows
from sensitivity._lanczos import top_eigenvalue
from sensitivity._lapack import after
from sensitivity.norms import gram, power_of_two, root, square_of_sum


class Diagonal(NamedTuple):
    """The blocks of some rows over a unit of each: I + Q Z, or Z without residual."""

    unit: Float[Array, " R"]
    one: Float[Array, " R"]  # the identity; 0 without the residual
    inside: Float[Array, "R V K"]  # Z E
    own: Float[Array, " R"]  # alpha_ii
    u: Float[Array, "R V"]  # in units of the values
    w: Float[Array, "R D"]  # the part of w outside of E, times that unit and own
    factors: HeadFactors

    @property
    def bordered(self) -> bool:
        """Whether the identity reaches beyond the head's output."""
        width, V = self.factors.output_basis.shape
        return self.factors.output_split is not None and V < width

    @property
    def inside_and_one(self) -> Float[Array, "R V K"]:
        """(Q^T + Z) E."""
        if self.factors.output_split is None:
            return self.inside
        return self.inside + self.one[:, None, None] * self.factors.output_split.inside

    @property
    def beside(self) -> Float[Array, "R V D"] | None:
        """(Q^T + Z) (I - E E^T)."""
        factors = self.factors
        if factors.value_split.beside is None:
            return None
        beside = self.own[:, None, None] * factors.value_split.beside
        beside += self.u[:, :, None] * self.w[:, None, :]
        if factors.output_split is not None:
            beside += self.one[:, None, None] * factors.output_split.beside
        return beside


def diagonal_of(head: Head, row: Rows, unit: Float[Array, " R"]) -> Diagonal:
    """What the diagonal blocks of some rows are made of."""
    # unit: a power of two near the row's A + u w^T.
    factors = head.factors
    unit = jnp.maximum(unit, power_of_two(head.query_unit))
    if factors.output_split is not None:
        unit = jnp.maximum(unit, jnp.ones_like(unit))
    own = row.own / unit
    u = row.u / head.value_unit  # so that neither square of the product vanishes
    w = (own * head.value_unit)[:, None] * row.w
    w_inside = w @ factors.query_basis
    inside = (head.query_unit / unit)[:, None, None] * row.covariance
    inside += own[:, None, None] * factors.value_split.inside
    inside += u[:, :, None] * w_inside[:, None, :]
    return Diagonal(
        unit=unit,
        one=1 / unit if factors.output_split is not None else jnp.zeros_like(unit),
        inside=inside,
        own=own,
        u=u,
        w=w - w_inside @ factors.query_basis.T,
        factors=factors,
    )


def frobenius_diagonal(diagonal: Diagonal) -> Float[Array, " R"]:
    """||J_ii||_F over its unit: with the residual ||F||^2 + (O - V) of the identity."""
    square = jnp.sum(diagonal.inside_and_one**2, (1, 2))
    factors = diagonal.factors
    if factors.value_split.beside is not None:
        beside = [(diagonal.own, factors.value_split.beside)]
        if factors.output_split is not None:
            beside += [(diagonal.one, factors.output_split.beside)]
        square += square_of_sum(beside, diagonal.u, diagonal.w)
    if diagonal.bordered:
        width, V = factors.output_basis.shape
        square += (width - V) * diagonal.one**2
    return jnp.sqrt(square)


def whole_diagonal(diagonal: Diagonal) -> Float[Array, "R V D"]:
    """F = Q^T + Z, or Z without the residual, formed."""
    whole = diagonal.inside_and_one @ diagonal.factors.query_basis.T
    beside = diagonal.beside
    return whole if beside is None else whole + beside


def rest_of_diagonal(diagonal: Diagonal) -> Float[Array, "R V D"] | None:
    """F (I - Q Q^T) of small heads, whose Gram matrix LAPACK takes a root of."""
    if not diagonal.bordered or diagonal.u.shape[-1] > SMALL:
        return None
    whole, basis = whole_diagonal(diagonal), diagonal.factors.output_basis
    return whole - (whole @ basis) @ basis.T


def spectral_diagonal(
    diagonal: Diagonal, rest: tuple[Array, Array] | None, earlier: Array
) -> Float[Array, " R"]:
    """||J_ii||_2 over its unit; ``rest``: eigenvalues and vectors of that matrix."""
    if diagonal.bordered and rest is not None:
        whole, (levels, vectors) = whole_diagonal(diagonal), rest
        matrix = _with_border(
            diagonal, whole @ whole.mT, vectors * root(levels)[:, None]
        )
        return root(jnp.linalg.eigvalsh(after(matrix, levels))[:, -1])
    if diagonal.u.shape[-1] <= SMALL:
        matrix, scale = gram(whole_diagonal(diagonal))
        return scale * root(jnp.linalg.eigvalsh(after(matrix, earlier))[:, -1])
    return _wide_bordered(diagonal, earlier) if diagonal.bordered else _wide(diagonal)


def _with_border(
    diagonal: Diagonal, own: Float[Array, "R V V"], between: Float[Array, "R V V"]
) -> Float[Array, "R 2V 2V"]:
    """The Gram matrix of [F; 0 I], given F F^T and what is between."""
    one = diagonal.one[:, None, None]
    identity = jnp.broadcast_to(jnp.eye(own.shape[1], dtype=own.dtype), own.shape)
    upper = jnp.concatenate([own, one * between], axis=2)
    lower = jnp.concatenate([one * between.mT, one**2 * identity], axis=2)
    return jnp.concatenate([upper, lower], axis=1)


def _wide(diagonal: Diagonal) -> Float[Array, " R"]:
    """Of Z, or of I + Q Z with Q square, by products with vectors."""
    inside, factors = diagonal.inside_and_one, diagonal.factors
    own, one, u = diagonal.own[:, None], diagonal.one[:, None], diagonal.u

    def apply(y: Float[Array, "R V"]) -> Float[Array, "R V"]:
        image = _times(inside, _times(inside.mT, y))
        if factors.value_split.beside is None:
            return image
        x = own * (y @ factors.value_split.beside)
        x += jnp.sum(y * u, -1, keepdims=True) * diagonal.w
        if factors.output_split is not None:
            x += one * (y @ factors.output_split.beside)
        image += own * (x @ factors.value_split.beside.T)
        image += jnp.sum(x * diagonal.w, -1, keepdims=True) * u
        if factors.output_split is not None:
            image += one * (x @ factors.output_split.beside.T)
        return image

    return root(top_eigenvalue(apply, u.shape, u.dtype))


def _wide_bordered(diagonal: Diagonal, earlier: Array) -> Float[Array, " R"]:
    """Of I + Q Z from V x V matrices: at least 1, so nothing cancels."""
    inside, u, w, factors = diagonal.inside, diagonal.u, diagonal.w, diagonal.factors
    own, one, Q = diagonal.own[:, None, None], diagonal.one, factors.output_basis
    to_basis = inside @ (factors.query_basis.T @ Q)
    square = inside @ inside.mT
    if factors.value_split.beside is not None:
        A = factors.value_split.beside
        to_basis += own * (A @ Q) + u[:, :, None] * (w @ Q)[:, None]
        along = diagonal.own[:, None] * (w @ A.T)
        both = along[:, :, None] * u[:, None, :]
        size = jnp.sum(w**2, -1)[:, None, None]
        square += own**2 * (A @ A.T) + both + both.mT
        square += size * u[:, :, None] * u[:, None, :]
    identity = jnp.eye(square.shape[-1], dtype=square.dtype)
    # Raised by rounding, so that the root exists: of the square, and of the identity's.
    eps = jnp.finfo(square.dtype).eps
    noise = 8 * eps * jnp.trace(square, axis1=1, axis2=2) + (eps * one) ** 2
    between = square - to_basis @ to_basis.mT + noise[:, None, None] * identity
    between = jnp.linalg.cholesky(after(between, earlier))
    plain = one[:, None, None]
    own_part = square + plain * (to_basis + to_basis.mT) + plain**2 * identity
    one = one[:, None]

    def apply(x: Float[Array, "R 2V"]) -> Float[Array, "R 2V"]:
        y, r = jnp.split(x, 2, axis=1)
        first = _times(own_part, y) + one * _times(between, r)
        second = one * _times(between.mT, y) + one**2 * r
        return jnp.concatenate([first, second], axis=1)

    return root(top_eigenvalue(apply, (len(u), 2 * u.shape[1]), u.dtype))


def spectral_of_wide(blocks: Float[Array, "R V K"]) -> Float[Array, " R"]:
    """Spectral norms by products with vectors, no Gram matrix formed."""
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
