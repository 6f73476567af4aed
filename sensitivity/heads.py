r"""Exact norms of one head's path Jacobians, with no Jacobian formed.

With :math:`W^O_n` folded into the value side, a head has

.. math:: J_{ij} = \alpha_{ij} (A + u_{ij} w_i^\top)
    + \delta_{ij} C_i W^Q / \sqrt{K}, \qquad
    u_{ij} = v_j - h_i, \; w_i = W^{K\top} q_i / \sqrt{K}

and :math:`C_i` the covariance of values and keys under :math:`\alpha_i`. Values are
taken in an orthonormal basis of the head's output (V coordinates at most, however wide
the layer), keys in one of :math:`W^Q`; neither changes a norm. Everything here is for
blocks of query rows of one head of one sample.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from sensitivity.attention import attention_weights, project
from sensitivity.lapack import after
from sensitivity.layer import AttentionWeights, ScoreBias
from sensitivity.norms import Norm, block_norm
from sensitivity.row_norms import RowMatrices, RowNorms, row_norms


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
        v: Values in the output basis, less their mean, shape (T, V').
        keys: W^Q^T k in the query basis, less its mean, shape (T, K').
        key_size: ||W^Q^T k_m||, shape (T,).
        factors: Without the axis H.
    """

    q: Float[Array, "T K"]
    k: Float[Array, "T K"]
    v: Float[Array, "T V"]
    keys: Float[Array, "T K1"]
    key_size: Float[Array, " T"]
    factors: HeadFactors


class HeadRows(NamedTuple):
    """A block of R query rows of one head.

    Attributes:
        alpha: Attention weights, shape (R, T).
        allowed: Whether row i may attend to step j, shape (R, T).
        same: Whether i = j, shape (R, T).
        key_mean: Mean of ``Head.keys`` under alpha_i, shape (R, K').
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
    return Head(
        q=project(x, weights.query, weights.query_bias),
        k=k,
        v=project(centred, weights.value, None) @ factors.value_map.mT,
        keys=project(centred, weights.key, None) @ factors.key_map.mT,
        key_size=jnp.linalg.norm(k @ factors.key_map.mT, axis=-1),
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


def second_moments(
    points: Float[Array, "T P"],
) -> Callable[[Float[Array, "R T"]], Float[Array, "R P P"]]:
    """Second moments of T points under many weightings, as one matrix product.

    The products of all pairs of coordinates are formed once where they are few, else
    a chunk at a time.

    Args:
        points: Shape (T, P).

    Returns:
        A function from weights (R, T) to moments (R, P, P).
    """
    T, P = points.shape
    left, right = np.triu_indices(P)
    position = np.zeros((P, P), int)
    position[left, right] = position[right, left] = np.arange(len(left))
    few = len(left) <= PRODUCTS
    columns = points.T

    if few:
        products = columns[left] * columns[right]

        def moments(alpha: Array) -> Array:
            return alpha @ products.T

    else:
        chunks = np.pad(np.stack([left, right]), ((0, 0), (0, -len(left) % PRODUCTS)))
        chunks = chunks.reshape(2, -1, PRODUCTS).swapaxes(0, 1)

        def moments(alpha: Array) -> Array:
            parts = jax.lax.map(
                lambda pair: alpha @ (columns[pair[0]] * columns[pair[1]]).T, chunks
            )
            return jnp.moveaxis(parts, 0, 1).reshape(len(alpha), -1)

    return lambda alpha: moments(alpha)[:, position]


PRODUCTS = 512


def head_rows(
    head: Head,
    moments: Callable[[Float[Array, "R T"]], Float[Array, "R P P"]],
    score_bias: ScoreBias,
    norm: Norm,
    residual: bool,
    rows: Int[Array, " R"],
) -> HeadRows:
    """Norms of a block of query rows of one head.

    Args:
        head: The head.
        moments: `second_moments` of its values and keys side by side.
        score_bias: Its score bias, without batch and head axes.
        norm: Which norm.
        residual: Whether the identity is added where i = j.
        rows: Positions i of the rows.

    Returns:
        The block.
    """
    (T, V), factors = head.v.shape, head.factors
    A = factors.value
    scale = head.k.shape[-1] ** -0.5
    q = head.q[rows]
    alpha, allowed = attention_weights(q, head.k, score_bias, rows)
    means = alpha @ jnp.concatenate([head.v, head.keys], 1)
    h = means[:, :V]
    covariance = moments(alpha) - means[:, :, None] * means[:, None, :]

    w = q @ factors.key.T * scale
    gain = jnp.linalg.norm(w, axis=-1)
    direction = w / jnp.where(gain > 0, gain, jnp.ones_like(gain))[:, None]
    along = direction @ A.T

    diagonal_weight = jnp.take_along_axis(alpha, rows[:, None], axis=1)
    here = A + (head.v[rows] - h)[:, :, None] * w[:, None, :]
    query = covariance[:, :V, V:] * scale
    matrices = RowMatrices(
        across=A - along[:, :, None] * direction[:, None, :],
        shift=along - gain[:, None] * h,
        gain=gain,
        diagonal=diagonal_weight[:, :, None] * here + query @ factors.query_basis.T,
        query=query,
        value_covariance=covariance[:, :V, :V],
        key_covariance=covariance[:, V:, V:] * scale**2,
    )
    basis = factors.output_basis if residual else None
    return HeadRows(
        alpha=alpha,
        allowed=allowed,
        same=rows[:, None] == jnp.arange(T),
        key_mean=means[:, V:],
        spread=distances(h, head.v),
        gain=gain,
        diagonal_weight=diagonal_weight[:, 0],
        norms=row_norms(matrices, head.v, basis, norm),
    )
