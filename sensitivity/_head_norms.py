r"""Exact norms of one head's path Jacobians, with no Jacobian formed.

With :math:`W^O_n` folded into the value side, a head has

.. math:: J_{ij} = \alpha_{ij} (A + u_{ij} w_i^\top)
    + \delta_{ij} C_i W^Q / \sqrt{K}, \qquad
    u_{ij} = v_j - h_i, \; w_i = W^{K\top} q_i / \sqrt{K}

and :math:`C_i` the covariance of values and keys under :math:`\alpha_i`. Values are
taken in an orthonormal basis of the head's output (V coordinates at most, however wide
the layer), keys in one of :math:`W^Q`; neither changes a norm. Both are kept in units
of their own, and so is each row's :math:`J_{ij}`, so that squares neither overflow nor
vanish however small a layer's weights are. Everything here is for blocks of query rows
of one head of one sample.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sensitivity._covariances import covariances_under
from sensitivity._lapack import after
from sensitivity._row_norms import RowMatrices, RowNorms, row_norms
from sensitivity.attention import attention_weights, project
from sensitivity.norms import Norm, block_norm, length, power_of_two
from sensitivity.weights import AttentionWeights, ScoreBias


class HeadFactors(NamedTuple):
    """What is fixed of each head, H in front; V' = min(V, O), K' = min(K, D).

    Attributes:
        value: A = W^O W^V in the output basis, shape (H, V', D).
        value_norm: Its norm, shape (H,).
        output_basis: Orthonormal columns that span W^O, shape (H, O, V').
        value_map: From values to the output basis, shape (H, V', V).
        query_basis: Orthonormal columns that span W^Q^T, shape (H, D, K').
        key_map: From keys to the query basis: W^Q^T k = query_basis @ key_map @ k,
            shape (H, K', K).
        key: The key kernel, shape (H, D, K).
    """

    value: Float[Array, "H V D"]
    value_norm: Float[Array, " H"]
    output_basis: Float[Array, "H O V"]
    value_map: Float[Array, "H V V0"]
    query_basis: Float[Array, "H D K"]
    key_map: Float[Array, "H K K0"]
    key: Float[Array, "H D K0"]


class Head(NamedTuple):
    """One head of one sample: projected inputs and its factors.

    Attributes:
        q: Queries, shape (T, K).
        k: Keys, shape (T, K).
        v: Values in the output basis, less their mean, over ``value_unit``, shape
            (T, V').
        keys: W^Q^T k in the query basis, less its mean, over ``key_unit``, shape
            (T, K').
        key_size: ||W^Q^T k_m||, shape (T,).
        value_unit: A power of two near the largest value.
        key_unit: A power of two near the largest of W^Q^T k.
        factors: Without the axis H.
    """

    q: Float[Array, "T K"]
    k: Float[Array, "T K"]
    v: Float[Array, "T V"]
    keys: Float[Array, "T K1"]
    key_size: Float[Array, " T"]
    value_unit: Float[Array, ""]
    key_unit: Float[Array, ""]
    factors: HeadFactors


class HeadRows(NamedTuple):
    """A block of R query rows of one head.

    Attributes:
        alpha: Attention weights, shape (R, T).
        allowed: Whether row i may attend to step j, shape (R, T).
        same: Whether i = j, shape (R, T).
        key_mean: Mean of ``Head.keys`` under alpha_i, in their unit, shape (R, K').
        spread: ||v_j - h_i||, shape (R, T).
        gain: ||w_i|| = ||W^K^T q_i|| / sqrt(K), shape (R,).
        diagonal_weight: alpha_ii, shape (R,).
        norms: Norms of the Jacobians.
    """

    alpha: Float[Array, "R T"]
    allowed: Bool[Array, "R T"]
    same: Bool[Array, "R T"]
    key_mean: Float[Array, "R K"]
    spread: Float[Array, "R T"]
    gain: Float[Array, " R"]
    diagonal_weight: Float[Array, " R"]
    norms: RowNorms


def head_factors(weights: AttentionWeights, norm: Norm) -> HeadFactors:
    """Reduce a layer's weights to what the norms need.

    Args:
        weights: The layer.
        norm: Which norm ``value_norm`` is.

    Returns:
        The factors of all heads.
    """
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
    x: Float[Array, "T D"], weights: AttentionWeights, factors: HeadFactors
) -> Head:
    """Project one sample's inputs for all heads.

    No path depends on a common offset of values or keys, so these are projected from
    x less its mean, without biases: a large offset then costs no digits.

    Args:
        x: Inputs, shape (T, D).
        weights: The layer.
        factors: Its factors.

    Returns:
        All heads, H in front of every array.
    """
    k = project(x, weights.key, weights.key_bias)
    centred = x - x.mean(0)
    v = project(centred, weights.value, None) @ factors.value_map.mT
    keys = project(centred, weights.key, None) @ factors.key_map.mT
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
    """Distances of all pairs, from differences: nothing cancels.

    The sum over V is written out, so that it compiles to one pass over (R, T).

    Args:
        points: Shape (R, V).
        others: Shape (T, V).

    Returns:
        Shape (R, T).
    """
    columns = list(zip(points.T, others.T, strict=True))
    return jnp.sqrt(sum((p[:, None] - q) ** 2 for p, q in columns))


def head_covariances(
    head: Head, for_bounds: bool
) -> Callable[[Float[Array, "R T"]], list[Array]]:
    """Prepare the covariances of a head, once for all its rows.

    Args:
        head: The head.
        for_bounds: Whether also those that only bounds need.

    Returns:
        A function from weights (R, T) to the covariances of values and keys, shape
        (R, V', K'), and for bounds of the values and of the keys with themselves.
    """
    v, keys = head.v, head.keys
    spreads = [(v, v), (keys, keys)] if for_bounds else []
    return covariances_under([(v, keys), *spreads])


def covariance_noise(
    head: Head, scale: float
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """What 16 roundings are for the covariances of values and of scaled keys.

    Args:
        head: The head.
        scale: 1 / sqrt(K), which the keys are multiplied with.

    Returns:
        Both, in the units of values and keys.
    """
    eps = jnp.finfo(head.v.dtype).eps
    squares = (jnp.sum(points**2, -1).max() for points in (head.v, head.keys))
    value, key = (16 * eps * square for square in squares)
    return value, key * scale**2


def head_rows(
    head: Head,
    covariances: Callable[[Float[Array, "R T"]], list[Array]],
    score_bias: ScoreBias,
    norm: Norm,
    residual: bool,
    rows: Int[Array, " R"],
) -> HeadRows:
    """Norms of a block of query rows of one head.

    Args:
        head: The head.
        covariances: Its covariances, of `head_covariances`.
        score_bias: Its score bias, without batch and head axes.
        norm: Which norm.
        residual: Whether the identity is added where i = j.
        rows: Positions i of the rows.

    Returns:
        The block.
    """
    factors, A = head.factors, head.factors.value
    scale = head.k.shape[-1] ** -0.5
    q = head.q[rows]
    alpha, allowed = attention_weights(q, head.k, score_bias, rows)
    h = alpha @ head.v

    w = q @ factors.key.T * scale
    gain = length(w)
    direction = w / jnp.where(gain > 0, gain, jnp.ones_like(gain))[:, None]
    along = direction @ A.T

    diagonal_weight = jnp.take_along_axis(alpha, rows[:, None], axis=1)
    u = head.value_unit * (head.v[rows] - h)
    here = A + u[:, :, None] * w[:, None, :]
    cross, *spreads = covariances(alpha)
    units = head.value_unit * head.key_unit
    query = cross * (scale * units)
    reach = gain * head.value_unit
    unit = power_of_two(jnp.maximum(jnp.abs(A).max(), reach))
    across = A - along[:, :, None] * direction[:, None, :]
    matrices = RowMatrices(
        across=across / unit[:, None, None],
        shift=(along - reach[:, None] * h) / unit[:, None],
        gain=reach / unit,
        diagonal=diagonal_weight[:, :, None] * here + query @ factors.query_basis.T,
        query=query,
        value_covariance=spreads[0] if spreads else None,
        key_covariance=spreads[1] * scale**2 if spreads else None,
        noise=covariance_noise(head, scale) if spreads else None,
    )
    basis = factors.output_basis if residual else None
    norms: Any = row_norms(matrices, head.v, basis, norm)
    norms = norms._replace(off_diagonal=unit[:, None] * norms.off_diagonal)
    if spreads:
        norms = norms._replace(
            query_covariance=units * norms.query_covariance,
            covariance_error=units * norms.covariance_error,
        )
    return HeadRows(
        alpha=alpha,
        allowed=allowed,
        same=rows[:, None] == jnp.arange(len(head.v)),
        key_mean=alpha @ head.keys,
        spread=head.value_unit * distances(h, head.v),
        gain=gain,
        diagonal_weight=diagonal_weight[:, 0],
        norms=norms,
    )
