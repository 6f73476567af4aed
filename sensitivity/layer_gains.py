r"""Bounds on influence through a stack of layers: products of per-layer gains.

The gain of a layer from input place b to output place a is the norm of that block of
its Jacobian, at the input it really has. By the chain rule and the triangle inequality

.. math:: \left\| \frac{\partial y_a}{\partial x_b} \right\|_2
    \le \Big[ \prod_l G_l \Big]_{ab}

for every network and input, with exact gains :math:`G_l` or with bounds on them
(`product_bound`). A coarser bound, never below it, is one factor of time and one of
space (`factorised_bound`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sensitivity._path_norms import path_norms
from sensitivity.weights import AttentionWeights, ScoreBias


class StepGains(NamedTuple):
    """A layer that mixes the steps of each node.

    Attributes:
        array: From step t to step t' of node n, shape (N, T', T).
    """

    array: Float[np.ndarray, "N T_ T"]

    def after(self, bound: np.ndarray) -> np.ndarray:
        """The bound behind this layer, given the one before it, shape (T, N, ...)."""
        return np.einsum("nts,sn...->tn...", self.array, bound)


class NodeGains(NamedTuple):
    """A layer that mixes the nodes of each step.

    Attributes:
        array: From node n to node n' at step t, shape (T, N', N).
    """

    array: Float[np.ndarray, "T N_ N"]

    def after(self, bound: np.ndarray) -> np.ndarray:
        """The bound behind this layer, given the one before it, shape (T, N, ...)."""
        return np.einsum("tnm,tm...->tn...", self.array, bound)


class PlaceGains(NamedTuple):
    """A layer that mixes nothing.

    Attributes:
        array: At each place, shape (T, N).
    """

    array: Float[np.ndarray, "T N"]

    def after(self, bound: np.ndarray) -> np.ndarray:
        """The bound behind this layer, given the one before it, shape (T, N, ...)."""
        return self.array[(...,) + (None,) * (bound.ndim - 2)] * bound


Gains = StepGains | NodeGains | PlaceGains


def product_bound(
    gains: Sequence[Gains], T: int, N: int
) -> Float[np.ndarray, "T_ N_ T N"]:
    """The bound that gains of successive layers give on end-to-end influence.

    Args:
        gains: Of the layers, in the order in which they act.
        T: Number of input steps.
        N: Number of nodes.

    Returns:
        Bounds on the spectral norms of the blocks of the Jacobian, shape
        (T', N', T, N).

    Example:
        >>> import numpy as np
        >>> mean = StepGains(np.full((3, 2, 2), 0.5))
        >>> product_bound([mean, mean], T=2, N=3)[0, 0, :, 0].tolist()
        [0.5, 0.5]
    """
    bound = np.eye(T * N).reshape(T, N, T, N)
    for layer in gains:
        bound = layer.after(bound)
    return bound


class Factors(NamedTuple):
    """A bound as its two factors.

    Attributes:
        time: From step t to step t', shape (T', T).
        space: From node n to node n', shape (N', N).
    """

    time: Float[np.ndarray, "T_ T"]
    space: Float[np.ndarray, "N_ N"]

    def table(self) -> Float[np.ndarray, "T_ N_ T N"]:
        """The bound itself, shape (T', N', T, N)."""
        return np.einsum("st,mn->smtn", self.time, self.space)


def factorised_bound(gains: Sequence[Gains], T: int, N: int) -> Factors:
    r"""The bound that is left when places do not differ.

    .. math:: \left\| \frac{\partial y[t', n']}{\partial x[t, n]} \right\|_2
        \le \Big[ \prod_l \hat G^{time}_l \Big]_{t't}
        \Big[ \prod_l \hat G^{space}_l \Big]_{n'n}

    with the entrywise maximum over nodes of each `StepGains`, that over steps of each
    `NodeGains`, and the largest number of each `PlaceGains`. Then every layer is a
    Kronecker product with an identity, those of time and of space commute, and their
    order in the network no longer matters. It is never below `product_bound`.

    Args:
        gains: Of the layers, in the order in which they act.
        T: Number of input steps.
        N: Number of nodes.

    Returns:
        The two factors; the gains of layers that mix nothing are in the first.

    Example:
        >>> import numpy as np
        >>> mean = StepGains(np.array([[[0.5, 0.5]], [[0.2, 0.8]]]))  # of two nodes
        >>> factorised_bound([mean], T=2, N=2).table()[0, 1].tolist()
        [[0.0, 0.5], [0.0, 0.8]]

    References:
        Marisca et al., `arXiv 2506.15507 <https://arxiv.org/abs/2506.15507>`_, 2025,
        Theorem 5.1 (the form, with constants in place of gains).
    """
    time, space = np.eye(T), np.eye(N)
    for layer in gains:
        match layer:
            case StepGains(array):
                time = array.max(0) @ time
            case NodeGains(array):
                space = array.max(0) @ space
            case PlaceGains(array):
                time = array.max() * time
    return Factors(time, space)


def attention_gains(
    x: Float[Any, "*batch T D"],
    weights: AttentionWeights,
    score_bias: ScoreBias | None = None,
    *,
    residual: bool,
    frozen: bool = False,
) -> Float[np.ndarray, "*batch T T"]:
    r"""Gains of an attention layer at its input.

    .. math:: g_{ij} = \| \delta_{ij} I + J_{ij} \|_2

    or, with the attention weights taken as if they did not move with the input,

    .. math:: g_{ij} = \| \delta_{ij} I + J^{value}_{ij} \|_2
        \le \delta_{ij} + \|J^{value}_{ij}\|_2

    of which the right side is returned. That is no bound on the layer's influence: it
    leaves out the key and query paths.

    Args:
        x: Inputs, shape (..., T, D).
        weights: The layer.
        score_bias: What is added to its scores.
        residual: Whether the layer adds its input to its output.
        frozen: Whether the attention weights count as constants.

    Returns:
        Gains, shape (..., T, T), float64.

    References:
        Barbero et al., arXiv 2406.04267, 2024 (attention that does not move).
    """
    x = np.asarray(x, np.float64)
    norms = path_norms(
        x, weights, score_bias=score_bias, norm="spectral", residual=residual
    )
    if not frozen:
        return np.asarray(norms.total)
    return np.asarray(norms.value) + (np.eye(x.shape[-2]) if residual else 0.0)


def layer_norm_gains(
    x: Float[Any, "*batch D"], scale: Float[Any, " D"] | None, epsilon: float
) -> Float[np.ndarray, "*batch"]:
    r"""Spectral norms of the Jacobian of a layer norm, exact, at its input.

    .. math:: J = \mathrm{diag}(\gamma) \, \frac{1}{\sigma}
        \Big( I - \frac{1 1^\top}{D} - \frac{\hat x \hat x^\top}{D} \Big),
        \quad \hat x = \frac{x - \mu}{\sigma}, \quad \sigma^2 = \mathrm{var} + \epsilon

    Args:
        x: What is normalised, shape (..., D).
        scale: The gain gamma, shape (D,); 1 where it is None.
        epsilon: What is added to the variance.

    Returns:
        Norms, shape (...), float64.

    Example:
        >>> import numpy as np
        >>> round(float(layer_norm_gains(np.array([0.0, 2.0, 4.0]), None, 0.0)), 6)
        0.612372
    """
    x = np.asarray(x, np.float64)
    D = x.shape[-1]
    sigma = np.sqrt(x.var(-1, keepdims=True) + epsilon)
    seen = (x - x.mean(-1, keepdims=True)) / sigma
    inner = np.eye(D) - 1 / D - seen[..., :, None] * seen[..., None, :] / D
    gamma = np.ones(D) if scale is None else np.asarray(scale, np.float64)
    return block_gains(gamma[:, None] * inner / sigma[..., None])


def block_gains(blocks: Float[Any, "*batch O D"]) -> Float[np.ndarray, "*batch"]:
    """Spectral norms of blocks, in float64.

    Args:
        blocks: Shape (..., O, D).

    Returns:
        Shape (...).
    """
    return np.linalg.norm(np.asarray(blocks, np.float64), 2, axis=(-2, -1))
