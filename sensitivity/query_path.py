"""Squares of the query path on the diagonal, a polynomial that training can lower."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from sensitivity._inputs import run
from sensitivity.attention import attention_weights, project
from sensitivity.weights import AttentionWeights, ScoreBias


def query_path_squares(
    x: Float[ArrayLike, "*batch T D"],
    weights: AttentionWeights,
    score_bias: ScoreBias | None = None,
) -> Float[Array, "*batch H T"]:
    r"""Squared Frobenius norms of the query path of every head, where j = i.

    .. math:: \|J^{query}_{ii}\|_F^2 = \frac{1}{K}
        \big\| W^O C_i W^Q \big\|_F^2, \qquad
        C_i = \sum_m \alpha_{im} (v_m - h_i) (k_m - \bar k_i)^\top

    It is what stays of the diagonal of Eq. 8 at large T, and what a mask of the
    diagonal leaves. Unlike a norm it is smooth everywhere, also where it is 0. With
    Gram matrices A of the values behind :math:`W^O` and B of the keys behind
    :math:`W^Q`, and a the row of weights,

    .. math:: \|J\|^2 = a^\top (A \circ B) a
        - 2 \sum_m a_m (A a)_m (B a)_m + (a^\top A a) (a^\top B a)

    costs O(T^3) a head, in place of O(T^2 V K) where T is short.

    Args:
        x: Inputs, shape (..., T, D); leading axes are samples and nodes.
        weights: The layer, without a form.
        score_bias: What is added to the scores; nothing by default.

    Returns:
        The squares, shape (..., H, T).

    Raises:
        ValueError: As `sensitivity.path_norms`.

    Example:
        >>> import numpy as np
        >>> eye = np.eye(2)[:, None]
        >>> w = AttentionWeights(query=eye, key=eye, value=2 * eye)
        >>> query_path_squares(np.zeros((3, 2)), w).tolist()  # equal tokens
        [[0.0, 0.0, 0.0]]

    References:
        arXiv 2602.10956, Eq. 19; that it be lowered in training is this project's.
    """
    return run(_squares, x, weights, score_bias, words="squares of the query path")


@jax.jit
def _squares(
    x: Float[Array, "*batch T D"], weights: AttentionWeights, bias: ScoreBias
) -> Float[Array, "*batch H T"]:
    T = x.shape[-2]
    q = project(x, weights.query, weights.query_bias)
    k = project(x, weights.key, weights.key_bias)
    alpha, _ = attention_weights(q, k, bias, jnp.arange(T))
    return squares_of(alpha, k, project(x, weights.value, None), weights)


def squares_of(
    alpha: Float[Array, "*batch H T T"],
    k: Float[Array, "*batch H T K"],
    v: Float[Array, "*batch H T V"],
    weights: AttentionWeights,
) -> Float[Array, "*batch H T"]:
    """The squares from what a layer computes anyway; a common offset of v is nothing.

    Args:
        alpha: Attention weights.
        k: Keys.
        v: Values.
        weights: The layer.

    Returns:
        The squares, shape (..., H, T).
    """
    T, K, V = k.shape[-2], k.shape[-1], v.shape[-1]
    k, v = (part - part.mean(-2, keepdims=True) for part in (k, v))
    of_keys = jnp.einsum("dhk,dhl->hkl", weights.query, weights.query) / K
    out = weights.out
    of_values = None if out is None else jnp.einsum("hvo,hwo->hvw", out, out)
    if T <= V * K:
        return _by_steps(alpha, _gram(v, of_values), _gram(k, of_keys))
    pairs = (v[..., :, None] * k[..., None, :]).reshape(*v.shape[:-1], V * K)
    h, mean = alpha @ v, alpha @ k
    covariance = (alpha @ pairs).reshape(*h.shape, K) - h[..., None] * mean[
        ..., None, :
    ]
    right = jnp.einsum("...hivk,hkl->...hivl", covariance, of_keys)
    left = covariance
    if of_values is not None:
        left = jnp.einsum("hvw,...hiwk->...hivk", of_values, covariance)
    return (left * right).sum((-2, -1))


def _by_steps(
    alpha: Float[Array, "*batch T T"],
    A: Float[Array, "*batch T T"],
    B: Float[Array, "*batch T T"],
) -> Float[Array, "*batch T"]:
    """The squares by products of T x T matrices; A and B are symmetric."""
    a_A, a_B, a_AB = alpha @ A, alpha @ B, alpha @ (A * B)
    alone = (a_AB * alpha).sum(-1) - 2 * (alpha * a_A * a_B).sum(-1)
    return alone + (a_A * alpha).sum(-1) * (a_B * alpha).sum(-1)


def _gram(
    vectors: Float[Array, "*batch H T V"], metric: Float[Array, "H V V"] | None
) -> Float[Array, "*batch H T T"]:
    """Inner products of vectors, in a metric of each head."""
    turned = jnp.swapaxes(vectors, -1, -2)
    return (vectors if metric is None else vectors @ metric) @ turned
