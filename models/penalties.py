"""What regularizers add to the loss: functions of a layer's weights."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from models.config import SpectrumSize
from models.layers import coin, wide
from sensitivity.query_path import query_path_times
from sensitivity.weights import AttentionWeights, ScoreBias

SHUT = -1e4  # added to the scores where a learned mask is shut


def query_penalty(
    x: Float[Array, "*batch T D"],
    weights: AttentionWeights,
    score_bias: ScoreBias,
    key: Key[Array, ""],
) -> Float[Array, ""]:
    r"""Mean over rows of the squared query path on the diagonal, by random signs.

    .. math:: \frac{1}{T} \sum_i \|J^{query}_{ii}\|_F^2
        = \frac{1}{T} \sum_i \mathbb{E} \|J^{query}_{ii} z_i\|^2

    with signs z drawn for every row: an estimate without bias, whose error is small
    where the rows are many.

    Args:
        x: Inputs, shape (..., T, D).
        weights: The layer.
        score_bias: What is added to its scores.
        key: What the signs are drawn from.

    Returns:
        The estimate.

    References:
        `sensitivity.query_path`; that it be lowered in training is this project's.
    """
    signs = jnp.where(coin(key, 0.5, x.shape), jnp.ones((), x.dtype), -1)
    moved = wide(query_path_times(signs, x, weights, score_bias))
    return jnp.mean((moved**2).sum(-1))


def spectrum_penalty(
    weights: AttentionWeights,
    scale: float,
    trace: float,
    target: float,
    size: SpectrumSize = "eigenvalues",
) -> Float[Array, ""]:
    r"""The scale of the query-key eigenvalues about a trace, mean over heads.

    .. math:: \kappa_1 \mathrm{tr}(W^2) + \kappa_2 (\mathrm{tr} W - m)^2,
        \qquad W = W^{Q\top} W^K / \sqrt{K}

    by products of K x K. The squares of complex eigenvalues are what is added up: an
    antisymmetric W has a negative tr(W^2), so that this is not bounded below, and long
    training follows it down. By ``"norm"`` it is :math:`\|W\|_F^2`, which is at least
    as large, and the same where W is symmetric.

    Args:
        weights: The layer.
        scale: The factor kappa_1.
        trace: The factor kappa_2.
        target: The trace m.
        size: ``"eigenvalues"``: tr(W^2), or ``"norm"``: its bound.

    Returns:
        The penalty.

    Example:
        >>> import numpy as np
        >>> eye = np.eye(4)[:, None]
        >>> w = AttentionWeights(query=eye, key=eye, value=eye)
        >>> float(spectrum_penalty(w, scale=1.0, trace=1.0, target=0.0))  # 1 + 2^2
        5.0

    References:
        In the style of LocAteR: Bao et al., arXiv 2402.02098, 2024, whose own formula
        is not at hand.
    """
    product = jnp.einsum("dhk,dhl->hkl", weights.key, weights.query)
    product = product * weights.key_width**-0.5
    traces = jnp.einsum("hkk->h", product)
    if size == "eigenvalues":
        squares = jnp.einsum("hkl,hlk->h", product, product)
    else:
        grams = (
            jnp.einsum("dhk,dhl->hkl", kernel, kernel)
            for kernel in (weights.query, weights.key)
        )
        squares = jnp.einsum("hkl,hkl->h", *grams) / weights.key_width
    return jnp.mean(scale * squares + trace * (traces - target) ** 2)


def learned_gates(
    logits: Float[Array, "H T 2"], key: Key[Array, ""] | None
) -> Float[Array, "H T"]:
    r"""Whether each head sees each lag: 1 or 0, with the gradient of a softmax.

    With Gumbel noise :math:`\gamma` and :math:`y = \mathrm{softmax}(a + \gamma)` the
    gate is the one-hot of the larger entry, and its gradient that of y
    (straight-through). Without a key nothing is drawn: the larger logit wins.

    Args:
        logits: Of open and shut, by head and lag.
        key: What the noise is drawn from; None is evaluation.

    Returns:
        The gates.

    References:
        Shi et al., `SparseBERT <https://arxiv.org/abs/2102.12871>`_, 2021 (its
        structured mask, which draws in evaluation too).
    """
    if key is None:
        return (logits[..., 0] >= logits[..., 1]).astype(logits.dtype)
    noisy = logits + jax.random.gumbel(key, logits.shape, logits.dtype)
    soft = jax.nn.softmax(noisy, -1)[..., 0]
    hard = (noisy[..., 0] >= noisy[..., 1]).astype(logits.dtype)
    return soft + jax.lax.stop_gradient(hard - soft)


def mask_of_gates(gates: Float[Array, "H T"]) -> Float[Array, "H T T"]:
    """The mask of every pair of steps, symmetric: the gate of its lag |i - j|.

    Args:
        gates: By head and lag.

    Returns:
        The mask, shape (H, T, T).
    """
    steps = jnp.arange(gates.shape[-1])
    return gates[:, jnp.abs(steps[:, None] - steps)]


def structure_penalty(
    nodes: Float[Array, "N C"], adjacency: Float[Array, "N N"]
) -> Float[Array, ""]:
    r"""What holds embeddings to a factorisation of the graph.

    .. math:: \langle S, S S^\top S - A S \rangle

    the gradient of :math:`\frac14 \|A - S S^\top\|_F^2` against S itself. It is
    :math:`\|S S^\top - A/2\|_F^2 - \|A\|_F^2 / 4`: 0 at a factorisation of A, and
    least, below 0, at one of A / 2.

    Args:
        nodes: Embeddings S.
        adjacency: The graph A, symmetric.

    Returns:
        The penalty.

    Example:
        >>> half = jnp.array([[1.0], [1.0]])  # S S^T is half of A
        >>> float(structure_penalty(half, jnp.full((2, 2), 2.0)))
        -4.0

    References:
        He, Ong and Bai, `Learning conjoint attentions for graph neural nets
        <https://arxiv.org/abs/2102.03147>`_, 2021 (its code, which adds 0.01 of it).
    """
    return jnp.sum((nodes @ nodes.T) ** 2) - jnp.sum(nodes * (adjacency @ nodes))
