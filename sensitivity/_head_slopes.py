r"""Derivatives of one head's norms, from squares that are smooth.

A norm's derivative is :math:`\langle J, dJ \rangle / \|J\|`, or :math:`y^\top dJ\, x`
with its top singular pair for the spectral norm. So what is differentiated here are
squares, and :math:`\|J^\top y\|^2` with the left singular vector y held fixed. Norms
themselves come from `sensitivity._head_norms`. A slope is divided by its norm,
however small that is: so it is formed of the same differences. Nothing here is traced
where no derivative is asked for.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float

from sensitivity._head_diagonal import Diagonal, diagonal_of, whole_diagonal
from sensitivity._head_off_diagonal import gram_across, secular_of, top_left_vectors
from sensitivity._heads import Head, Rows
from sensitivity._lapack import after, eigh_together
from sensitivity.norms import along


class RowNorms(NamedTuple):
    """Norms of a block of rows, or their squares, each over a unit."""

    off_diagonal: Float[Array, "R T"]  # ||A + u_ij w_i^T||: ||J_ij|| over alpha_ij
    diagonal: Float[Array, " R"]  # ||J_ii||, with the residual where there is one
    query: Float[Array, " R"]  # ||J^query_ii||


def frobenius_squares(
    norms: RowNorms, head: Head, row: Rows, unit: Float[Array, " R"], earlier: Array
) -> RowNorms:
    """Squares of the Frobenius norms of a block of rows."""
    del norms, earlier
    diagonal = diagonal_of(head, row, unit)
    return RowNorms(
        off_diagonal=_off_diagonal(head, row, unit),
        diagonal=_frobenius_diagonal(head, row) / diagonal.unit**2,
        query=jnp.sum(row.covariance**2, (1, 2)),
    )


def spectral_squares(
    norms: RowNorms, head: Head, row: Rows, unit: Float[Array, " R"], earlier: Array
) -> RowNorms:
    """Squares of the spectral norms of a block of rows."""
    # The singular vectors come from LAPACK, not before the calls that gave the norms.
    del earlier
    still = stop_gradient((head, row, unit))
    diagonal = diagonal_of(*still)
    query = row.covariance @ row.covariance.mT
    matrix, outside = _diagonal_matrix(diagonal, norms.diagonal)
    off_diagonal, (_, own), (_, across) = eigh_together(
        after(gram_across(*still), norms.diagonal), matrix, stop_gradient(query)
    )
    top = top_left_vectors(secular_of(*still, off_diagonal))
    y = own[..., -1] @ stop_gradient(head.factors.output_basis.T)
    if outside is not None:  # the left vector's part that W^O does not reach
        y = y + jnp.einsum("rv,rvd->rd", own[..., -1], outside)
        y = y / jnp.sqrt(jnp.sum(y**2, -1, keepdims=True))
    moved = _transposed(head, row, y)
    if diagonal.factors.output_split is not None:
        moved = moved + y
    return RowNorms(
        off_diagonal=_off_diagonal(head, row, unit, top),
        diagonal=jnp.sum((moved / diagonal.unit[:, None]) ** 2, -1),
        query=along(query, across[..., -1]),
    )


def _off_diagonal(
    head: Head,
    row: Rows,
    unit: Float[Array, " R"],
    top: Float[Array, "R T V"] | None = None,
) -> Float[Array, "R T"]:
    """||A + u w^T||^2 over a squared unit: Frobenius, or along left vectors ``top``."""
    A = head.factors.value
    w = row.w / unit[:, None]
    u = head.value_unit * (head.v - row.h[:, None])  # formed: v_j may be near to h_i
    along_w = (w @ A.T) / unit[:, None]
    long = jnp.sum(w**2, -1)[:, None]
    if top is None:
        both = jnp.einsum("rtv,rv->rt", u, along_w)
        own = (jnp.sum(A**2) / unit**2)[:, None]
        return own + 2 * both + long * jnp.sum(u**2, -1)
    u = jnp.sum(top * u, -1)
    both = u * jnp.einsum("rtv,rv->rt", top, along_w)
    own = jnp.einsum("rta,ab,rtb->rt", top, A @ A.mT, top) / (unit**2)[:, None]
    return own + 2 * both + long * u**2


def _frobenius_diagonal(head: Head, row: Rows) -> Float[Array, " R"]:
    """||J_ii||_F^2, with the identity where asked for, expanded."""
    kernels, scale = head.factors.kernels, head.k.shape[-1] ** -0.5
    A, D = head.factors.value, head.factors.value.shape[-1]
    v, keys = head.value_unit * head.v, head.plain_keys
    u, w, own = row.u, row.w, row.own
    to_query = w @ kernels.query  # W^Q w

    def covariance(a: Array, b: Array) -> Array:
        means = jnp.sum(row.alpha * a, -1) * jnp.sum(row.alpha * b, -1)
        return jnp.sum(row.alpha * a * b, -1) - means

    def trace_with(matrix: Float[Array, "V K0"], v: Float[Array, "T V"]) -> Array:
        """Sum over m of alpha_m (v_m - h)^T M (k_m - kbar)."""
        moved = v @ matrix
        own = row.alpha @ jnp.sum(moved * keys, -1)
        return own - jnp.sum((row.alpha @ moved) * (row.alpha @ keys), -1)

    value = jnp.sum(A**2) + 2 * jnp.sum((w @ A.T) * u, -1)
    value += jnp.sum(u**2, -1) * jnp.sum(w**2, -1)
    cross = trace_with(A @ kernels.query, v) + covariance(u @ v.T, to_query @ keys.T)
    query = jnp.sum((head.query_unit * row.covariance) ** 2, (1, 2))
    square = own**2 * value + 2 * own * scale * cross + query
    if head.factors.output_split is None:
        return square
    raw = row.same.astype(v.dtype) @ head.plain_values - row.alpha @ head.plain_values
    trace = own * jnp.sum(kernels.out * kernels.value)
    trace += own * jnp.sum((raw @ kernels.out) * w, -1)
    trace += scale * trace_with(kernels.out @ kernels.query, head.plain_values)
    return D + 2 * trace + square


def _diagonal_matrix(
    diagonal: Diagonal, norm: Float[Array, " R"]
) -> tuple[Float[Array, "R V V"], Float[Array, "R V D"] | None]:
    """Of which the top left vector of J_ii, or its part Q y, is the top eigenvector."""
    whole, basis = whole_diagonal(diagonal), diagonal.factors.output_basis
    if not diagonal.bordered:
        return whole @ whole.mT, None
    # With x = Q y + r: r = (I - Q Q^T) Z^T y / (l - 1), l the squared norm.
    rest = whole - (whole @ basis) @ basis.T
    eps = 4 * jnp.finfo(norm.dtype).eps
    above = norm**2 - diagonal.one**2
    share = jnp.where(above > eps, diagonal.one / jnp.maximum(above, eps), 0)
    outside = share[:, None, None] * rest
    return whole @ whole.mT + diagonal.one[:, None, None] * outside @ rest.mT, outside


def _transposed(head: Head, row: Rows, y: Float[Array, "R O"]) -> Float[Array, "R D"]:
    """J_ii^T y, without the identity."""
    kernels, scale = head.factors.kernels, head.k.shape[-1] ** -0.5
    inside = y @ kernels.out.T
    along = inside @ head.plain_values.T  # (R, T): y . W^O v_m
    apart = along - jnp.sum(row.alpha * along, -1, keepdims=True)
    own = jnp.sum(jnp.where(row.same, apart, 0), -1, keepdims=True)
    by_value = row.own[:, None] * (inside @ kernels.value + own * row.w)
    return by_value + scale * ((row.alpha * apart) @ head.plain_keys) @ kernels.query.T
