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
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sensitivity._centres import project_about
from sensitivity._covariances import covariances_under
from sensitivity._lanczos import top_eigenvalue
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


class Head(NamedTuple):
    """One head of one sample: projected inputs and its factors, without the axis H."""

    q: Float[Array, "T K0"]
    k: Float[Array, "T K0"]
    v: Float[Array, "T V"]  # in the output basis, less their mean, over value_unit
    keys: Float[Array, "T K"]  # W^Q^T k in its basis, less its mean, over key_unit
    key_size: Float[Array, " T"]  # ||W^Q^T k_m||
    value_unit: Float[Array, ""]  # a power of two near the largest value
    key_unit: Float[Array, ""]  # a power of two near the largest of W^Q^T k
    factors: HeadFactors


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
    value = jnp.moveaxis(weights.value, 0, -1)  # (H, V, D)
    if weights.out is None:
        identity = jnp.eye(weights.value_width, dtype=value.dtype)
        basis = value_map = jnp.broadcast_to(identity, (weights.heads, *identity.shape))
    else:
        basis, value_map = jnp.linalg.qr(weights.out.mT)
    query = jnp.moveaxis(weights.query, 1, 0)
    query_basis, key_map = jnp.linalg.qr(after(query, value_map))
    folded = after(value_map @ value, key_map)
    return HeadFactors(
        value=folded,
        value_norm=block_norm(folded, norm),
        output_basis=basis,
        value_map=value_map,
        query_basis=query_basis,
        key_map=key_map,
        key=jnp.moveaxis(weights.key, 1, 0),
    )


def heads_of(
    x: Float[Array, "T D"],
    weights: AttentionWeights,
    factors: HeadFactors,
    centre: Float[Array, "#H D"],
) -> Head:
    """Project one sample's inputs: all heads, H in front of every array."""
    # centre: what values and keys are projected from the difference to.
    k = project(x, weights.key, weights.key_bias)
    v = project_about(centre, x, weights.value) @ factors.value_map.mT
    keys = project_about(centre, x, weights.key) @ factors.key_map.mT
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
    )


def distances(
    points: Float[Array, "R V"], others: Float[Array, "T V"]
) -> Float[Array, "R T"]:
    """Distances of all pairs, from differences: nothing cancels."""
    # The sum over V is written out, so that it compiles to one pass over (R, T).
    columns = list(zip(points.T, others.T, strict=True))
    return jnp.sqrt(sum((p[:, None] - q) ** 2 for p, q in columns))


def rows_of_head(
    head: Head,
    score_bias: ScoreBias,
    norm: Norm,
    residual: bool,
    for_bounds: bool,
) -> Callable[[Int[Array, " R"]], HeadRows]:
    """A function from positions of rows to their norms; covariances are prepared."""
    v, keys, factors = head.v, head.keys, head.factors
    A, scale = factors.value, head.k.shape[-1] ** -0.5
    spread = [(v, v), (keys, keys)] if for_bounds else []
    covariances = covariances_under([(v, keys), *spread])

    def block(rows: Int[Array, " R"]) -> HeadRows:
        q = head.q[rows]
        alpha, allowed = attention_weights(q, head.k, score_bias, rows)
        h = alpha @ v

        w = q @ factors.key.T * scale
        gain = length(w)
        direction = w / jnp.where(gain > 0, gain, jnp.ones_like(gain))[:, None]
        along = direction @ A.T

        diagonal_weight = jnp.take_along_axis(alpha, rows[:, None], axis=1)
        u = head.value_unit * (v[rows] - h)
        here = A + u[:, :, None] * w[:, None, :]
        cross, *spreads = covariances(alpha)
        units = head.value_unit * head.key_unit
        query = cross * (scale * units)
        reach = gain * head.value_unit
        unit = power_of_two(jnp.maximum(jnp.abs(A).max(), reach))
        across = A - along[:, :, None] * direction[:, None, :]
        matrices = _Matrices(
            across=across / unit[:, None, None],
            shift=(along - reach[:, None] * h) / unit[:, None],
            gain=reach / unit,
            diagonal=diagonal_weight[:, :, None] * here + query @ factors.query_basis.T,
            query=query,
            value_covariance=spreads[0] if spreads else None,
            key_covariance=spreads[1] * scale**2 if spreads else None,
            noise=_covariance_noise(head, allowed, scale) if spreads else None,
        )
        basis = factors.output_basis if residual else None
        norms: Any = (_spectral if norm == "spectral" else _frobenius)(
            matrices, v, basis
        )
        norms = norms._replace(off_diagonal=unit[:, None] * norms.off_diagonal)
        if spreads:
            norms = norms._replace(
                query_covariance=units * norms.query_covariance,
                covariance_error=units * norms.covariance_error,
            )
        return HeadRows(
            alpha=alpha,
            allowed=allowed,
            same=rows[:, None] == jnp.arange(len(v)),
            key_mean=alpha @ keys,
            spread=head.value_unit * distances(h, v),
            gain=gain,
            query_size=length(q),
            diagonal_weight=diagonal_weight[:, 0],
            norms=norms,
        )

    return block


class _Matrices(NamedTuple):
    """What the Jacobians of a block of rows are made of."""

    # The first three are over a unit of the row, values and each covariance in one of
    # their own: the norms that follow are then in these units.
    across: Float[Array, "R V D"]  # Y
    shift: Float[Array, "R V"]  # what z is where v_j = 0
    gain: Float[Array, " R"]  # |w_i|
    diagonal: Float[Array, "R V D"]  # J_ii in the output basis, without residual
    query: Float[Array, "R V K"]  # the query path in the bases of values and keys
    value_covariance: Float[Array, "R V V"] | None  # of the values under alpha_i
    key_covariance: Float[Array, "R K K"] | None  # of W^Q^T k / sqrt(K) under alpha_i
    noise: tuple[Float[Array, " R"], Float[Array, " R"]] | None  # of both covariances


def _covariance_noise(
    head: Head, allowed: Bool[Array, "R T"], scale: float
) -> tuple[Float[Array, " R"], Float[Array, " R"]]:
    """What 16 roundings are for the covariances of values and of scaled keys."""
    eps = jnp.finfo(head.v.dtype).eps
    squares = (jnp.sum(points**2, -1) for points in (head.v, head.keys))
    squares = (jnp.where(allowed, s, jnp.zeros_like(s)).max(-1) for s in squares)
    value, key = (16 * eps * square for square in squares)
    return value, key * scale**2


def _frobenius(
    rows: _Matrices, v: Float[Array, "T V"], basis: Float[Array, "D V"] | None
) -> RowNorms:
    covariance = error = None
    if rows.value_covariance is not None and rows.key_covariance is not None:
        both = rows.value_covariance, rows.key_covariance
        tops = [root(levels[:, -1]) for levels, _ in eigh_together(*both)]
        traces = [root(jnp.trace(c, axis1=-2, axis2=-1)) for c in both]
        covariance, error = _by_covariances(tops, traces, rows.noise)
    # ||Y||^2 + |z|^2, each coordinate of z in the row's part and the pair's.
    z = zip(rows.shift.T, v.T, strict=True)
    moving = [(s, rows.gain[:, None] * c) for s, c in z]
    start = frobenius(rows.across)[:, None] ** 2
    square = sum(((s[:, None] + m) ** 2 for s, m in moving), start)
    if basis is None:
        diagonal = frobenius(rows.diagonal)
    else:  # ||I + Q Z||^2 = ||Q^T + Z||^2 + (D - V)
        D, V = basis.shape
        diagonal = jnp.sqrt(frobenius(basis.T + rows.diagonal) ** 2 + (D - V))
    return RowNorms(
        off_diagonal=jnp.sqrt(square),
        diagonal=diagonal,
        query=frobenius(rows.query),
        query_covariance=covariance,
        covariance_error=error,
    )


def _spectral(
    rows: _Matrices, v: Float[Array, "T V"], basis: Float[Array, "D V"] | None
) -> RowNorms:
    query, query_scale = gram(rows.query)
    covariances = []
    if rows.value_covariance is not None and rows.key_covariance is not None:
        covariances = [rows.value_covariance, rows.key_covariance]
    top = rows.diagonal if basis is None else basis.T + rows.diagonal
    if basis is not None and basis.shape[0] > basis.shape[1]:
        rest = top - (top @ basis) @ basis.T
        whole = [rows.across @ rows.across.mT, rest @ rest.mT]
        (level, here), (query_top, *tops) = _eigenvalues(whole, [query, *covariances])
        diagonal = _bordered(top, *here)
    else:
        here, here_scale = gram(top)
        (level,), (query_top, here_top, *tops) = _eigenvalues(
            [rows.across @ rows.across.mT], [query, here, *covariances]
        )
        diagonal = here_scale * here_top
    bound = _by_covariances(tops, tops, rows.noise) if tops else (None, None)
    return RowNorms(
        off_diagonal=_rank_one(rows, v, *level),
        diagonal=diagonal,
        query=query_scale * query_top,
        query_covariance=bound[0],
        covariance_error=bound[1],
    )


def _by_covariances(
    tops: list[Array], wholes: list[Array], noise: Any
) -> tuple[Float[Array, " R"], Float[Array, " R"]]:
    """Bound of the query path by two covariances, and by how much it may be too low."""
    # ``tops`` are the roots of their largest eigenvalues, ``wholes`` the roots of what
    # the other one is taken with: the same for the spectral norm, the traces for the
    # Frobenius norm. A covariance is a difference of squares: under sharp attention it
    # sinks to its rounding error, and the root of that is no rounding error any more.

    def bound(tops: list[Array], wholes: list[Array]) -> Array:
        return jnp.minimum(tops[0] * wholes[1], wholes[0] * tops[1])

    raised = (
        [jnp.sqrt(size**2 + e) for size, e in zip(sizes, noise, strict=True)]
        for sizes in (tops, wholes)
    )
    computed = bound(tops, wholes)
    return computed, bound(*raised) - computed


_SMALL = 16  # up to this order LAPACK is as fast as Lanczos


def _eigenvalues(
    whole: list[Array], tops: list[Array]
) -> tuple[list[tuple[Array, Array]], list[Array]]:
    """All eigenvalues and vectors of ``whole``, roots of the largest of ``tops``."""
    if max(matrix.shape[-1] for matrix in tops) <= _SMALL:
        solved = eigh_together(*whole, *tops)
        roots = [root(levels[:, -1]) for levels, _ in solved[len(whole) :]]
        return solved[: len(whole)], roots

    def top(matrix: Array) -> Array:
        def apply(x: Array) -> Array:
            return (matrix @ x[..., None])[..., 0]

        return root(top_eigenvalue(apply, matrix.shape[:-1], matrix.dtype))

    return eigh_together(*whole), [top(matrix) for matrix in tops]


def _rank_one(
    rows: _Matrices,
    v: Float[Array, "T V"],
    levels: Float[Array, "R V"],
    vectors: Float[Array, "R V V"],
) -> Float[Array, "R T"]:
    """Norms of all A + u w^T, given the eigenbasis of Y Y^T."""
    levels = jnp.maximum(levels[:, ::-1], 0)
    turn = vectors[:, :, ::-1].mT  # the largest level first
    fixed = jnp.einsum("rab,rb->ra", turn, rows.shift)
    moving = jnp.einsum("rab,tb->art", turn * rows.gain[:, None, None], v)
    squares = [(m + f[:, None]) ** 2 for m, f in zip(moving, fixed.T, strict=True)]
    gaps = [(levels[:, 0] - level)[:, None] for level in levels.T]
    return jnp.sqrt(levels[:, :1] + secular_root(squares, gaps))


def _bordered(
    top: Float[Array, "R V D"],
    levels: Float[Array, "R V"],
    vectors: Float[Array, "R V V"],
) -> Float[Array, " R"]:
    """Spectral norms of I + Q Z without a D x D matrix, for V < D."""
    # In a basis that begins with Q the matrix is [F; 0 I] with F = Q^T + Z. Its Gram
    # matrix has the blocks F F^T, the identity, and between them a root of
    # E = F (I - Q Q^T) F^T, given here by its eigenvalues and vectors: 2 V eigenvalues
    # matter, all others are 1.
    between = vectors * root(levels)[:, None, :]
    identity = jnp.broadcast_to(jnp.eye(top.shape[1], dtype=top.dtype), between.shape)
    matrix = jnp.block([[top @ top.mT, between], [between.mT, identity]])
    return root(jnp.linalg.eigvalsh(after(matrix, levels))[:, -1])
