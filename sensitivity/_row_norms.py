"""Norms of one head's Jacobians, from the small matrices of each query row."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from sensitivity._lanczos import top_eigenvalue
from sensitivity._lapack import after, eigh_together
from sensitivity._rank_one import secular_root
from sensitivity.norms import Norm, frobenius, gram, root


class RowMatrices(NamedTuple):
    r"""What the Jacobians of a block of R query rows of one head are made of.

    ``across``, ``shift`` and ``gain`` may be over a unit of the row, values and each
    covariance in one of their own: the norms that follow are then in these units.

    Attributes:
        across: :math:`Y = A (I - \hat w \hat w^\top)`, shape (R, V, D).
        shift: What :math:`z = A \hat w + |w| u` is where v_j = 0, shape (R, V).
        gain: :math:`|w_i|`, shape (R,).
        diagonal: J_ii in the output basis, without residual, shape (R, V, D).
        query: The query path in the bases of values and keys, shape (R, V, K).
        value_covariance: Of the values under alpha_i, shape (R, V, V), or None.
        key_covariance: Of W^Q^T k / sqrt(K) under alpha_i, shape (R, K, K), or None.
        noise: Rounding errors of the two covariances, or None.
    """

    across: Float[Array, "R V D"]
    shift: Float[Array, "R V"]
    gain: Float[Array, " R"]
    diagonal: Float[Array, "R V D"]
    query: Float[Array, "R V K"]
    value_covariance: Float[Array, "R V V"] | None
    key_covariance: Float[Array, "R K K"] | None
    noise: tuple[Float[Array, ""], Float[Array, ""]] | None


class RowNorms(NamedTuple):
    """Norms of a block of R query rows of one head.

    Attributes:
        off_diagonal: ||A + u_ij w_i^T||, which alpha_ij makes ||J_ij|| where i != j,
            shape (R, T).
        diagonal: ||J_ii||, with the residual where there is a basis, shape (R,).
        query: ||J^query_ii||, shape (R,).
        query_covariance: Its bound by the two covariances, shape (R,), or None.
        covariance_error: What rounding may have taken from it, shape (R,), or None.
    """

    off_diagonal: Float[Array, "R T"]
    diagonal: Float[Array, " R"]
    query: Float[Array, " R"]
    query_covariance: Float[Array, " R"] | None
    covariance_error: Float[Array, " R"] | None


def row_norms(
    rows: RowMatrices,
    v: Float[Array, "T V"],
    basis: Float[Array, "D V"] | None,
    norm: Norm,
) -> RowNorms:
    """Norms of a block of query rows.

    Args:
        rows: The block.
        v: Values in the output basis, shape (T, V).
        basis: That basis, where the identity is added to J_ii; else None.
        norm: Which norm.

    Returns:
        The norms.
    """
    return (_spectral if norm == "spectral" else _frobenius)(rows, v, basis)


def _frobenius(
    rows: RowMatrices, v: Float[Array, "T V"], basis: Float[Array, "D V"] | None
) -> RowNorms:
    covariance = error = None
    if rows.value_covariance is not None and rows.key_covariance is not None:
        both = rows.value_covariance, rows.key_covariance
        tops = [root(levels[:, -1]) for levels, _ in eigh_together(*both)]
        traces = [root(jnp.trace(c, axis1=-2, axis2=-1)) for c in both]
        covariance, error = _by_covariances(tops, traces, rows.noise)
    start = frobenius(rows.across)[:, None] ** 2
    square = sum(((s[:, None] + m) ** 2 for s, m in _moving(rows, v)), start)
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
    rows: RowMatrices, v: Float[Array, "T V"], basis: Float[Array, "D V"] | None
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
    """Bound of the query path by the covariances of values and keys, and its error.

    A covariance is a difference of squares: under sharp attention it sinks to its
    rounding error, and the root of that is no rounding error any more.

    Args:
        tops: Roots of the largest eigenvalues, of the values' and the keys' covariance.
        wholes: Roots of what the other one is taken with: the same for the spectral
            norm, the traces for the Frobenius norm.
        noise: Rounding errors of the two covariances.

    Returns:
        The bound, and by how much it may be too low.
    """

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
    """Eigenvalues of stacks of positive semidefinite matrices.

    Args:
        whole: Stacks of which all eigenvalues and vectors are wanted.
        tops: Stacks of which the root of the largest eigenvalue is wanted.

    Returns:
        Eigenvalues and vectors of ``whole``, and the roots for ``tops``.
    """
    if max(matrix.shape[-1] for matrix in tops) <= _SMALL:
        solved = eigh_together(*whole, *tops)
        roots = [root(levels[:, -1]) for levels, _ in solved[len(whole) :]]
        return solved[: len(whole)], roots

    def top(matrix: Array) -> Array:
        def apply(x: Array) -> Array:
            return (matrix @ x[..., None])[..., 0]

        return root(top_eigenvalue(apply, matrix.shape[:-1], matrix.dtype))

    return eigh_together(*whole), [top(matrix) for matrix in tops]


def _moving(rows: RowMatrices, v: Float[Array, "T V"]) -> list[tuple[Array, Array]]:
    """Each coordinate of z in two parts: the row's, (R,), and the pair's, (R, T)."""
    return [(s, rows.gain[:, None] * c) for s, c in zip(rows.shift.T, v.T, strict=True)]


def _rank_one(
    rows: RowMatrices,
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
    r"""Spectral norms of :math:`I + Q Z` without a D x D matrix, for V < D.

    In a basis that begins with Q the matrix is :math:`[F; 0 \; I]` with
    :math:`F = Q^\top + Z`. Its Gram matrix has the blocks :math:`F F^\top`, the
    identity, and between them a root of :math:`E = F (I - Q Q^\top) F^\top`, given here
    by its eigenvalues and vectors: 2 V eigenvalues matter, all others are 1.

    Returns:
        Shape (R,).
    """
    between = vectors * root(levels)[:, None, :]
    identity = jnp.broadcast_to(jnp.eye(top.shape[1], dtype=top.dtype), between.shape)
    matrix = jnp.block([[top @ top.mT, between], [between.mT, identity]])
    return root(jnp.linalg.eigvalsh(after(matrix, levels))[:, -1])
