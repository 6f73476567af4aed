r"""Exact norms of one head's path Jacobians, with no Jacobian formed.

What is off the diagonal is in `sensitivity._head_off_diagonal`, what is on it in
`sensitivity._head_diagonal`, and the derivatives of both in `sensitivity._head_slopes`.
Everything here is for blocks of R query rows of one head of one sample.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float, Int

from sensitivity._covariances import SMALL, covariance_bound, covariances_under
from sensitivity._head_diagonal import (
    diagonal_of,
    frobenius_diagonal,
    rest_of_diagonal,
    spectral_diagonal,
    spectral_of_wide,
)
from sensitivity._head_off_diagonal import (
    distances,
    frobenius_off_diagonal,
    gram_across,
    secular_of,
    spectral_off_diagonal,
)
from sensitivity._head_slopes import RowNorms, frobenius_squares, spectral_squares
from sensitivity._heads import Head, Rows
from sensitivity._lapack import after, eigh_together
from sensitivity.attention import attention_weights
from sensitivity.norms import Norm, differentiated_by, gram, length, power_of_two, root
from sensitivity.weights import ScoreBias


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
    off_diagonal: Float[Array, "R T"]  # ||A + u_ij w_i^T||: ||J_ij|| over alpha_ij
    diagonal: Float[Array, " R"]  # ||J_ii||, with the residual where there is one
    query: Float[Array, " R"]  # ||J^query_ii||
    # Only where bounds are asked for: a bound of it by the two covariances, and what
    # rounding may have taken from that.
    query_covariance: Float[Array, " R"] | None
    covariance_error: Float[Array, " R"] | None


def rows_of_head(
    head: Head, score_bias: ScoreBias, norm: Norm, for_bounds: bool
) -> Callable[[Int[Array, " R"]], HeadRows]:
    """A function from positions of rows to their norms; products are prepared."""
    v, keys, factors = head.v, head.keys, head.factors
    small = max(v.shape[1], keys.shape[1]) <= SMALL
    spread = [(v, v), (keys, keys)] if for_bounds and small else []
    covariances = covariances_under([(v, keys), *spread])
    norms_of = _spectral if norm == "spectral" else _frobenius

    def block(rows: Int[Array, " R"]) -> HeadRows:
        q = head.q[rows]
        alpha, allowed = attention_weights(q, head.k, score_bias, rows)
        same = rows[:, None] == jnp.arange(len(v))
        h = alpha @ v
        w = q @ factors.key.T * q.shape[-1] ** -0.5
        gain = length(w)
        own = jnp.sum(jnp.where(same, alpha, jnp.zeros_like(alpha)), -1)
        u = head.value_unit * (v[rows] - h)
        cross, *spreads = covariances(alpha)
        row = Rows(alpha, same, own, h, u, w, gain, cross)
        reach = stop_gradient(gain) * head.value_unit
        unit = power_of_two(jnp.maximum(jnp.abs(factors.value).max(), reach))
        bound = error = None
        if for_bounds:
            still = stop_gradient((alpha, (v, keys), spreads))
            bound, error = (
                stop_gradient(head.query_unit) * b
                for b in covariance_bound(*still, allowed, norm)
            )
        # Calls of LAPACK one after the other: the covariances come first.
        earlier = stop_gradient(own if bound is None else bound)
        norms = norms_of(head, row, unit, earlier)
        return HeadRows(
            alpha=alpha,
            allowed=allowed,
            same=same,
            key_mean=alpha @ keys,
            spread=head.value_unit * distances(h, v),
            gain=gain,
            query_size=head.q_size[rows],
            diagonal_weight=own,
            off_diagonal=unit[:, None] * norms.off_diagonal,
            diagonal=stop_gradient(diagonal_of(head, row, unit).unit) * norms.diagonal,
            query=head.query_unit * norms.query,
            query_covariance=bound,
            covariance_error=error,
        )

    return block


@differentiated_by(frobenius_squares)
def _frobenius(
    head: Head, row: Rows, unit: Float[Array, " R"], earlier: Array
) -> RowNorms:
    del earlier
    return RowNorms(
        off_diagonal=frobenius_off_diagonal(head, row, unit),
        diagonal=frobenius_diagonal(diagonal_of(head, row, unit)),
        query=jnp.sqrt(jnp.sum(row.covariance**2, (1, 2))),
    )


@differentiated_by(spectral_squares)
def _spectral(
    head: Head, row: Rows, unit: Float[Array, " R"], earlier: Array
) -> RowNorms:
    diagonal = diagonal_of(head, row, unit)
    small = max(row.covariance.shape[1:]) <= SMALL
    grams = [after(gram_across(head, row, unit), earlier)]
    rest = rest_of_diagonal(diagonal)
    grams += [] if rest is None else [rest @ rest.mT]
    query, scale = gram(row.covariance)
    grams += [query] if small else []
    solved, *others = eigh_together(*grams)
    if small:
        query = scale * root(others.pop()[0][:, -1])
    else:
        query = spectral_of_wide(row.covariance)
    border = others[0] if others else None
    return RowNorms(
        off_diagonal=spectral_off_diagonal(secular_of(head, row, unit, solved)),
        diagonal=spectral_diagonal(diagonal, border, solved[0]),
        query=query,
    )
