r"""Exact norms of one head's path Jacobians, with no Jacobian formed.

With :math:`W^O_n` folded into the value side, a head has

.. math:: J_{ij} = \alpha_{ij} (A + u_{ij} w_i^\top)
    + \delta_{ij} C_i W^Q / \sqrt{K}, \qquad A = W^O W^V, \;
    u_{ij} = v_j - h_i, \; w_i = W^{K\top} q_i / \sqrt{K}

and :math:`C_i` the covariance of values and keys under :math:`\alpha_i`. Off the
diagonal the Gram matrix of :math:`A + u w^\top` is

.. math:: Y Y^\top + z z^\top, \qquad Y = A (I - \hat w \hat w^\top), \;
    z = A \hat w + |w| u_{ij}

where Y is the row's and z the pair's. So the Frobenius norm is a sum of squares, and
the spectral norm the largest root of a secular equation with positive terms only
(`sensitivity._rank_one`): nothing cancels, even under sharp attention.

Values are taken in an orthonormal basis of the head's output (V coordinates at most,
however wide the layer), keys in one of :math:`W^Q`; neither changes a norm. Both are
kept in units of their own, and so is each row's :math:`J_{ij}`, so that squares neither
overflow nor vanish however small a layer's weights are. No path depends on a common
offset of values or keys, so these are projected from x less its mean, without biases: a
large offset then costs no digits. Everything here is for blocks of R query rows of one
head of one sample.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float, Int

from sensitivity._centres import project_about
from sensitivity._covariances import SMALL, covariance_tops, covariances_under
from sensitivity._head_diagonal import (
    Fixed,
    Row,
    fixed_of_head,
    frobenius_diagonal,
    rest_of_diagonal,
    spectral_diagonal,
    top_of,
)
from sensitivity._head_slopes import (
    SlopeInputs,
    diagonal_square,
    off_diagonal_square,
    singular_slopes,
    slope_inputs,
)
from sensitivity._lapack import after, eigh_together
from sensitivity._rank_one import secular_root
from sensitivity.attention import attention_weights, project
from sensitivity.norms import (
    Norm,
    block_norm,
    frobenius,
    gram,
    length,
    power_of_two,
    root,
    with_slope_of,
)
from sensitivity.weights import AttentionWeights, ScoreBias


class HeadFactors(NamedTuple):
    """What is fixed of each head, H in front; V = min(V0, O), K = min(K0, D)."""

    value: Float[Array, "H V D"]  # A = W^O W^V in the output basis
    value_norm: Float[Array, " H"]
    output_basis: Float[Array, "H O V"]  # orthonormal columns that span W^O
    value_map: Float[Array, "H V V0"]  # from values to the output basis
    query_basis: Float[Array, "H D K"]  # orthonormal columns that span W^Q^T
    key_map: Float[Array, "H K K0"]  # W^Q^T k = query_basis @ key_map @ k
    key: Float[Array, "H D K0"]  # the key kernel
    row_basis: Float[Array, "H D V"]  # orthonormal columns that span the rows of A


class Head(NamedTuple):
    """One head of one sample: projected inputs and its factors, without the axis H."""

    q: Float[Array, "T K0"]
    k: Float[Array, "T K0"]
    v: Float[Array, "T V"]  # in the output basis, less their centre, over value_unit
    keys: Float[Array, "T K"]  # W^Q^T k in its basis, less its centre, over key_unit
    key_size: Float[Array, " T"]  # ||W^Q^T k_m||
    value_unit: Float[Array, ""]  # a power of two near the largest value
    key_unit: Float[Array, ""]  # a power of two near the largest of W^Q^T k
    factors: HeadFactors
    slopes: SlopeInputs  # what only derivatives need


class RowNorms(NamedTuple):
    """Norms of a block of rows; the last two only where bounds are asked for."""

    off_diagonal: Float[Array, "R T"]  # ||A + u_ij w_i^T||: ||J_ij|| over alpha_ij
    diagonal: Float[Array, " R"]  # ||J_ii||, with the residual where there is a basis
    query: Float[Array, " R"]  # ||J^query_ii||
    query_covariance: Float[Array, " R"] | None  # its bound by the two covariances
    covariance_error: Float[Array, " R"] | None  # what rounding may have taken from it


class HeadRows(NamedTuple):
    """A block of rows of one head."""

    alpha: Float[Array, "R T"]
    allowed: Bool[Array, "R T"]  # whether row i may attend to step j
    same: Bool[Array, "R T"]  # whether i = j
    key_mean: Float[Array, "R K"]  # of Head.keys under alpha_i, in their unit
    spread: Float[Array, "R T"]  # ||v_j - h_i||
    gain: Float[Array, " R"]  # ||w_i|| = ||W^K^T q_i|| / sqrt(K)
    query_size: Float[Array, " R"]  # ||q_i||
    diagonal_weight: Float[Array, " R"]  # alpha_ii
    norms: RowNorms


def head_factors(weights: AttentionWeights, norm: Norm) -> HeadFactors:
    """Reduce a layer's weights to what the norms need."""
    # Bases are constants to derivatives: what leaves their span when weights change is
    # of second order in every norm, and in all products of what one basis spans.
    value = jnp.moveaxis(weights.value, 0, -1)  # (H, V, D)
    if weights.out is None:
        identity = jnp.eye(weights.value_width, dtype=value.dtype)
        basis = value_map = jnp.broadcast_to(identity, (weights.heads, *identity.shape))
    else:
        basis, _ = jnp.linalg.qr(stop_gradient(weights.out.mT))
        value_map = basis.mT @ weights.out.mT
    query = jnp.moveaxis(weights.query, 1, 0)
    query_basis, _ = jnp.linalg.qr(after(stop_gradient(query), value_map))
    folded = value_map @ value
    row_basis, _ = jnp.linalg.qr(after(stop_gradient(folded.mT), query_basis))
    return HeadFactors(
        value=folded,
        value_norm=block_norm(after(folded, stop_gradient(row_basis)), norm),
        output_basis=basis,
        value_map=value_map,
        query_basis=query_basis,
        key_map=query_basis.mT @ query,
        key=jnp.moveaxis(weights.key, 1, 0),
        row_basis=row_basis,
    )


def heads_of(
    x: Float[Array, "T D"],
    weights: AttentionWeights,
    factors: HeadFactors,
    centre: Float[Array, "#H D"],
) -> Head:
    """Project one sample's inputs: all heads, H in front of every array."""
    # centre: what values and keys are projected from the difference to.
    centre = stop_gradient(centre)
    k = project(x, weights.key, weights.key_bias)
    values = project_about(centre, x, weights.value)
    plain_keys = project_about(centre, x, weights.key)
    v, keys = values @ factors.value_map.mT, plain_keys @ factors.key_map.mT
    value_unit, key_unit = (
        power_of_two(jnp.abs(points).max((1, 2))) for points in (v, keys)
    )
    return Head(
        q=project(x, weights.query, weights.query_bias),
        k=k,
        v=v / value_unit[:, None, None],
        keys=keys / key_unit[:, None, None],
        key_size=length(k @ factors.key_map.mT),
        value_unit=value_unit,
        key_unit=key_unit,
        factors=factors,
        slopes=slope_inputs(weights, values, plain_keys),
    )


def distances(
    points: Float[Array, "R V"], others: Float[Array, "T V"]
) -> Float[Array, "R T"]:
    """Distances of all pairs, from differences: nothing cancels."""
    fixed, moving = stop_gradient(points), stop_gradient(others)
    apart = jnp.sqrt(_square_distances(fixed, moving))
    squares = jnp.sum(points**2, -1)[:, None] + jnp.sum(others**2, -1)
    return with_slope_of(apart, squares - 2 * (points @ others.T))


def _square_distances(
    points: Float[Array, "R V"],
    others: Float[Array, "T V"],
    factor: Float[Array, "R 1"] | float = 1.0,
) -> Float[Array, "R T"]:
    """|factor other - point|^2 of all pairs."""
    # Few columns written out are several times faster than a sum along a short axis.
    if points.shape[1] <= SMALL:
        columns = zip(points.T, others.T, strict=True)
        return sum(
            ((factor * q - p[:, None]) ** 2 for p, q in columns),
            jnp.zeros((len(points), len(others)), points.dtype),
        )
    if isinstance(factor, float):
        return jnp.sum((others - points[:, None]) ** 2, -1)
    return jnp.sum((factor[:, :, None] * others - points[:, None]) ** 2, -1)


def rows_of_head(
    head: Head,
    score_bias: ScoreBias,
    norm: Norm,
    residual: bool,
    for_bounds: bool,
) -> Callable[[Int[Array, " R"]], HeadRows]:
    """A function from positions of rows to their norms; products are prepared."""
    v, keys, factors = head.v, head.keys, head.factors
    scale = head.k.shape[-1] ** -0.5
    small = max(v.shape[1], keys.shape[1]) <= SMALL
    spread = [(v, v), (keys, keys)] if for_bounds and small else []
    covariances = covariances_under([(v, keys), *spread])
    fixed = fixed_of_head(factors, residual)
    units = head.value_unit * head.key_unit

    def block(rows: Int[Array, " R"]) -> HeadRows:
        q = head.q[rows]
        alpha, allowed = attention_weights(q, head.k, score_bias, rows)
        h = alpha @ v
        w = q @ factors.key.T * scale
        gain = length(w)
        own = jnp.take_along_axis(alpha, rows[:, None], axis=1)[:, 0]
        cross, *spreads = covariances(alpha)
        shared = Row(
            alpha=alpha,
            own=own,
            h=h,
            u=head.value_unit * (v[rows] - h),
            w=w,
            query=cross * (scale * units),
            place=rows,
        )
        covariance = error = None
        if for_bounds:
            both = _covariance_bound(head, shared, allowed, norm, spreads)
            covariance, error = (stop_gradient(scale * units * b) for b in both)
        if norm == "frobenius":
            off_diagonal = _frobenius(head, shared, gain)
            diagonal = with_slope_of(
                frobenius_diagonal(*stop_gradient((fixed, shared))),
                diagonal_square(head, residual, shared),
            )
            query = frobenius(shared.query)
        else:
            # Calls of LAPACK one after the other: covariances first.
            earlier = shared.own if covariance is None else covariance
            off_diagonal, diagonal, query = _spectral(
                head, fixed, shared, gain, stop_gradient(earlier)
            )
        return HeadRows(
            alpha=alpha,
            allowed=allowed,
            same=rows[:, None] == jnp.arange(len(v)),
            key_mean=alpha @ keys,
            spread=head.value_unit * distances(h, v),
            gain=gain,
            query_size=length(q),
            diagonal_weight=own,
            norms=RowNorms(off_diagonal, diagonal, query, covariance, error),
        )

    return block


class _OffDiagonal(NamedTuple):
    """What A + u w^T is made of in a block of rows, over a unit of each row."""

    unit: Float[Array, " R"]
    across: Float[Array, "R V M"]  # Y in a basis of the rows of A
    shift: Float[Array, "R V"]  # what z is where v_j = 0
    reach: Float[Array, " R"]  # |w_i| in units of the values


def _off_diagonal(head: Head, row: Row, gain: Float[Array, " R"]) -> _OffDiagonal:
    A, basis = head.factors.value, head.factors.row_basis
    direction = row.w / jnp.where(gain > 0, gain, jnp.ones_like(gain))[:, None]
    along = direction @ A.T
    reach = gain * head.value_unit
    unit = power_of_two(jnp.maximum(jnp.abs(A).max(), reach))
    # Y = A (I - w w^T), w a unit vector: with A = L B^T and b = B^T w, the matrix
    # L (I - b b^T)^(1/2) has the same Gram matrix. Of I - b b^T that root is
    # I - b b^T / (1 + c), c = (1 - |b|^2)^(1/2) = |w - B b|: nothing cancels.
    inside = direction @ basis
    c = length(direction - inside @ basis.T)
    c = jnp.where(gain > 0, c, jnp.ones_like(c))
    turned = along / (1 + c)[:, None]
    across = A @ basis - turned[:, :, None] * inside[:, None, :]
    return _OffDiagonal(
        unit=unit,
        across=across / unit[:, None, None],
        shift=(along - reach[:, None] * row.h) / unit[:, None],
        reach=reach / unit,
    )


def _frobenius(head: Head, row: Row, gain: Float[Array, " R"]) -> Float[Array, "R T"]:
    """||A + u w^T||, from ||Y||^2 + |z|^2."""
    parts = _off_diagonal(*stop_gradient((head, row, gain)))
    start = frobenius(parts.across)[:, None] ** 2
    z_square = _square_distances(
        -parts.shift, stop_gradient(head.v), parts.reach[:, None]
    )
    norm = jnp.sqrt(start + z_square)
    square = off_diagonal_square(head, row, parts.unit)
    return parts.unit[:, None] * with_slope_of(norm, square)


def _spectral(
    head: Head, fixed: Fixed, row: Row, gain: Float[Array, " R"], earlier: Array
) -> tuple[Float[Array, "R T"], Float[Array, " R"], Float[Array, " R"]]:
    """||A + u w^T||, ||J_ii|| and ||J^query_ii||, differentiated by singular pairs."""
    still = stop_gradient((head, fixed, row, gain))
    v, still_fixed, still_row = still[0].v, still[1], still[2]
    parts = _off_diagonal(still[0], still_row, still[3])
    grams = [after(parts.across @ parts.across.mT, earlier)]
    rest = rest_of_diagonal(still_fixed, still_row)
    grams += [] if rest is None else [rest @ rest.mT]
    small = max(row.query.shape[1:]) <= SMALL
    query_gram, query_scale = gram(still_row.query)
    grams += [query_gram] if small else []
    (levels, vectors), *others = eigh_together(*grams)
    levels, turn = jnp.maximum(levels[:, ::-1], 0), vectors[:, :, ::-1].mT
    # Coordinates in the eigenbasis of Y Y^T, the largest level first.
    shift = jnp.einsum("rab,rb->ra", turn, parts.shift)
    moving = jnp.einsum("rab,tb->art", turn * parts.reach[:, None, None], v)
    z = moving + shift.T[:, :, None]
    gaps = (levels[:, :1] - levels).T[:, :, None]
    mu = secular_root(z**2, gaps)
    norm = jnp.sqrt(levels[:, :1] + mu)
    top = _top_vectors(z, gaps, mu, turn)
    square = off_diagonal_square(head, row, parts.unit, top)
    off_diagonal = parts.unit[:, None] * with_slope_of(norm, square)

    if small:
        query = query_scale * root(others.pop()[0][:, -1])
    else:
        query = top_of(still_row.query)
    solved = others[0] if others else None
    diagonal = spectral_diagonal(still_fixed, still_row, solved, levels)
    slopes = singular_slopes(head, fixed, row, diagonal)
    return (
        off_diagonal,
        with_slope_of(diagonal, slopes.diagonal),
        with_slope_of(query, slopes.query),
    )


def _top_vectors(
    z: Float[Array, "V R T"],
    gaps: Float[Array, "V R 1"],
    mu: Float[Array, "R T"],
    turn: Float[Array, "R V V"],
) -> Float[Array, "R T V"]:
    """Top left singular vectors of A + u w^T, by the secular equation's root."""
    apart = mu + gaps
    y = jnp.where(apart > 0, z / jnp.where(apart > 0, apart, jnp.ones_like(apart)), 0)
    # Where the root is the first pole itself, the vector is that of Y.
    first = (jnp.arange(len(z)) == 0).astype(z.dtype)[:, None, None]
    y = jnp.where(mu > 0, y, first)
    size = jnp.abs(y).max(0)
    y = y / jnp.where(size > 0, size, jnp.ones_like(size))
    length = jnp.sqrt((y**2).sum(0))
    y = y / jnp.where(length > 0, length, jnp.ones_like(length))
    return jnp.einsum("art,rab->rtb", y, turn)


def _covariance_bound(
    head: Head,
    row: Row,
    allowed: Bool[Array, "R T"],
    norm: Norm,
    spreads: list[Array],
) -> tuple[Float[Array, " R"], Float[Array, " R"]]:
    """Bound of the query path by two covariances, and by how much it may be too low."""
    # A covariance is a difference of squares: under sharp attention it sinks to its
    # rounding error, and the root of that is no rounding error any more.
    head, row = stop_gradient((head, row))
    eps, points = jnp.finfo(head.v.dtype).eps, (head.v, head.keys)
    sizes = (jnp.where(allowed, (p**2).sum(-1), jnp.zeros((), p.dtype)) for p in points)
    noise = [16 * eps * size.max(-1) for size in sizes]
    levels = covariance_tops(row.alpha, points, spreads)
    if norm == "spectral":
        wholes = levels
    else:  # the traces
        wholes = [
            jnp.maximum(row.alpha @ (p**2).sum(-1) - ((row.alpha @ p) ** 2).sum(-1), 0)
            for p in points
        ]

    def bound(tops: list[Array], wholes: list[Array]) -> Array:
        tops, wholes = ([jnp.sqrt(a) for a in both] for both in (tops, wholes))
        return jnp.minimum(tops[0] * wholes[1], wholes[0] * tops[1])

    raised = (
        [size + e for size, e in zip(sizes, noise, strict=True)]
        for sizes in (levels, wholes)
    )
    computed = bound(levels, wholes)
    return computed, bound(*raised) - computed
