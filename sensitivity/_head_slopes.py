r"""Derivatives of one head's norms: squares that need not be exact, only right.

A norm's derivative is :math:`\langle J, dJ \rangle / \|J\|`, or :math:`y^\top dJ\, x`
with its top singular pair for the spectral norm. So what is differentiated here are
expanded squares, and :math:`\|J^\top y\|^2` with the left singular vector y held fixed;
the norms themselves come from `sensitivity._head_norms`, where nothing cancels. Nothing
here is computed where no derivative is asked for.
"""

from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float

from sensitivity._head_diagonal import Fixed, Row, whole_diagonal
from sensitivity._lapack import after, eigh_together
from sensitivity.norms import along, gram
from sensitivity.weights import AttentionWeights

if TYPE_CHECKING:
    from sensitivity._head_norms import Head


class SlopeInputs(NamedTuple):
    """A head in the coordinates of its own kernels, H in front."""

    values: Float[Array, "H T V0"]  # less their centre
    keys: Float[Array, "H T K0"]  # less their centre
    out: Float[Array, "H V0 O"]
    value: Float[Array, "H V0 D"]
    query: Float[Array, "H D K0"]


class Slopes(NamedTuple):
    """Squared norms of a block of rows, by their singular vectors."""

    diagonal: Float[Array, " R"]
    query: Float[Array, " R"]


def slope_inputs(
    weights: AttentionWeights,
    values: Float[Array, "H T V0"],
    keys: Float[Array, "H T K0"],
) -> SlopeInputs:
    """What derivatives need of all heads of a layer."""
    out = weights.out
    if out is None:
        identity = jnp.eye(weights.value_width, dtype=values.dtype)
        out = jnp.broadcast_to(identity, (weights.heads, *identity.shape))
    return SlopeInputs(
        values=values,
        keys=keys,
        out=out,
        value=jnp.moveaxis(weights.value, 0, -1),
        query=jnp.moveaxis(weights.query, 1, 0),
    )


def off_diagonal_square(
    head: "Head",
    row: Row,
    unit: Float[Array, " R"],
    top: Float[Array, "R T V"] | None = None,
) -> Float[Array, "R T"]:
    """||A + u w^T||^2 over a squared unit: Frobenius, or along left vectors ``top``."""
    A = head.factors.value / unit[:, None, None]
    w = row.w / unit[:, None]
    v, h = head.value_unit * head.v, head.value_unit * row.h
    along_w = jnp.einsum("rvd,rd->rv", A, row.w / unit[:, None])
    long = jnp.sum(w**2, -1)[:, None]
    if top is None:
        both = along_w @ v.T - jnp.sum(along_w * h, -1, keepdims=True)
        squares = jnp.sum(v**2, -1) - 2 * (h @ v.T) + jnp.sum(h**2, -1, keepdims=True)
        return jnp.sum(A**2, (1, 2))[:, None] + 2 * both + long * squares
    u = jnp.einsum("rtv,tv->rt", top, v) - jnp.einsum("rtv,rv->rt", top, h)
    both = u * jnp.einsum("rtv,rv->rt", top, along_w)
    own = jnp.einsum("rta,rab,rtb->rt", top, A @ A.mT, top)
    return own + 2 * both + long * u**2


def diagonal_square(head: "Head", residual: bool, row: Row) -> Float[Array, " R"]:
    """||J_ii||_F^2, with the identity where asked for, expanded."""
    s, scale = head.slopes, head.k.shape[-1] ** -0.5
    A, D = head.factors.value, head.factors.value.shape[-1]
    v = head.value_unit * head.v
    u, w, own = row.u, row.w, row.own
    to_query = w @ s.query  # W^Q w

    def covariance(a: Array, b: Array) -> Array:
        means = jnp.sum(row.alpha * a, -1) * jnp.sum(row.alpha * b, -1)
        return jnp.sum(row.alpha * a * b, -1) - means

    def along(matrix: Float[Array, "V K0"], v: Float[Array, "T V"]) -> Array:
        """Sum over m of alpha_m (v_m - h)^T M (k_m - kbar)."""
        moved = v @ matrix
        own = row.alpha @ jnp.sum(moved * s.keys, -1)
        return own - jnp.sum((row.alpha @ moved) * (row.alpha @ s.keys), -1)

    value = jnp.sum(A**2) + 2 * jnp.sum((w @ A.T) * u, -1)
    value += jnp.sum(u**2, -1) * jnp.sum(w**2, -1)
    cross = along(A @ s.query, v) + covariance(u @ v.T, to_query @ s.keys.T)
    square = own**2 * value + 2 * own * scale * cross + jnp.sum(row.query**2, (1, 2))
    if not residual:
        return square
    raw = s.values[row.place] - row.alpha @ s.values
    trace = own * jnp.sum(s.out * s.value)
    trace += own * jnp.sum((raw @ s.out) * w, -1)
    trace += scale * along(s.out @ s.query, s.values)
    return D + 2 * trace + square


def singular_slopes(
    head: "Head",
    fixed: Fixed,
    row: Row,
    diagonal: Float[Array, " R"],
) -> Slopes:
    """Squares of ||J_ii||_2, which is ``diagonal``, and ||J^query_ii||_2."""
    # The singular vectors come from LAPACK, not before the call that gave the norm.
    query, unit = gram(row.query)
    constant = stop_gradient((head, fixed, row))
    matrix, outside = _diagonal_matrix(*constant, stop_gradient(diagonal))
    (_, own), (_, across) = eigh_together(after(matrix, diagonal), stop_gradient(query))
    y = own[..., -1] @ constant[0].factors.output_basis.T
    if outside is not None:  # the left vector's part that W^O does not reach
        y = y + jnp.einsum("rv,rvd->rd", own[..., -1], outside)
        size = jnp.sqrt(jnp.sum(y**2, -1, keepdims=True))
        y = y / size
    moved = _transposed(head, row, y) + (y if fixed.residual else 0)
    return Slopes(
        diagonal=jnp.sum(moved**2, -1),
        query=unit**2 * along(query, across[..., -1]),
    )


def _diagonal_matrix(
    head: "Head", fixed: Fixed, row: Row, norm: Float[Array, " R"]
) -> tuple[Float[Array, "R V V"], Float[Array, "R V D"] | None]:
    """Of which the top left vector of J_ii, or its part Q y, is the top eigenvector."""
    whole, basis = whole_diagonal(fixed, row), head.factors.output_basis
    if not fixed.bordered:
        return whole @ whole.mT, None
    # With x = Q y + r: r = (I - Q Q^T) Z^T y / (l - 1), l the squared norm.
    rest = whole - (whole @ basis) @ basis.T
    above = norm**2 - 1
    eps = jnp.finfo(norm.dtype).eps
    share = jnp.where(above > 4 * eps, 1 / jnp.maximum(above, 4 * eps), 0)
    outside = share[:, None, None] * rest
    return whole @ whole.mT + outside @ rest.mT, outside


def _transposed(head: "Head", row: Row, y: Float[Array, "R O"]) -> Float[Array, "R D"]:
    """J_ii^T y, without the identity."""
    s, scale = head.slopes, head.k.shape[-1] ** -0.5
    inside = y @ s.out.T
    along = inside @ s.values.T  # (R, T): y . W^O v_m
    apart = along - jnp.sum(row.alpha * along, -1, keepdims=True)
    own = jnp.take_along_axis(apart, row.place[:, None], axis=1)
    by_value = row.own[:, None] * (inside @ s.value + own * row.w)
    return by_value + scale * ((row.alpha * apart) @ s.keys) @ s.query.T
