"""How the nodes mix at a time step: learned adjacencies, or a given road graph."""

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key

from models.config import ForecasterConfig
from models.layers import Mixing, ResidualLayer, dropout, linear, narrow, wide
from models.penalties import structure_penalty
from sensitivity.arguments import ArgumentError


def random_walks(
    adjacency: Float[np.ndarray, "N N"],
) -> tuple[Float[np.ndarray, "N N"], Float[np.ndarray, "N N"]]:
    r"""Transition matrices of the random walks along and against a graph's edges.

    .. math:: A_f = D_{out}^{-1} W, \qquad A_b = D_{in}^{-1} W^\top

    Args:
        adjacency: Weights W of the edges from row to column, not negative.

    Returns:
        Forward and backward, rows adding up to 1 (0 where a node has no edge).

    Raises:
        ArgumentError: If it is not a square matrix of finite numbers, none negative.

    Example:
        >>> import numpy as np
        >>> forward, backward = random_walks(np.array([[0.0, 2.0], [0.0, 2.0]]))
        >>> forward.tolist(), backward.tolist()
        ([[0.0, 1.0], [0.0, 1.0]], [[0.0, 0.0], [0.5, 0.5]])

    References:
        Li et al., `DCRNN <https://arxiv.org/abs/1707.01926>`_, 2018, Eq. 2.
    """
    adjacency = np.asarray(adjacency, np.float64)
    if adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1]:
        raise ArgumentError(
            "adjacency", f"must be square, got shape {adjacency.shape}."
        )
    wrong = ~(np.isfinite(adjacency) & (adjacency >= 0))
    if wrong.any():
        raise ArgumentError(
            "adjacency",
            f"must be finite and not negative, got {adjacency[wrong][0]}.",
        )

    def rows(matrix: np.ndarray) -> np.ndarray:
        total = matrix.sum(1, keepdims=True)
        return matrix / np.where(total > 0, total, 1)

    return rows(adjacency), rows(adjacency.T)


class Fixed(nnx.Variable):
    """An array of a module that is not trained."""


class GraphConvolution(Mixing):
    r"""Mixes the nodes by K hops of a forward and a backward adjacency.

    .. math:: y = W [x, A_f x, \dots, A_f^K x, A_b x, \dots, A_b^K x] + b

    with :math:`A_f = \mathrm{softmax}(\mathrm{relu}(E_1 E_2^\top))` and
    :math:`A_b = \mathrm{softmax}(\mathrm{relu}(E_2 E_1^\top))` by rows; with the
    ``diagonal`` kind only their diagonals, with ``road`` the given random walks, and
    with ``conjoint`` :math:`g_f A + g_s \mathrm{softmax}(S S^\top)` in place of each,
    the embeddings S held to a factorisation of the given graph.

    References:
        Wu et al., `Graph WaveNet <https://arxiv.org/abs/1906.00121>`_, 2019, Eq. 5-6;
        He, Ong and Bai, arXiv 2102.03147, 2021 (``conjoint``, its implicit form).
    """

    def __init__(
        self,
        config: ForecasterConfig,
        adjacency: np.ndarray | None,
        *,
        rngs: nnx.Rngs,
    ):
        graph, N = config.graph, config.nodes
        if graph.kind != "road":
            shape = (N, graph.embedding)
            one = jax.random.normal(rngs.params(), shape, jnp.float32)
            two = jax.random.normal(rngs.params(), shape, jnp.float32)
            self.forward_nodes, self.backward_nodes = nnx.Param(one), nnx.Param(two)
        self.mix = linear(
            (1 + 2 * graph.hops) * config.width,
            config.width,
            precision=config.precision,
            rngs=rngs,
        )
        road = np.zeros(()) if adjacency is None else adjacency
        if graph.needs_adjacency and road.shape != (N, N):
            raise ValueError(
                f"graph {graph.kind!r} needs an adjacency of shape {(N, N)}, got "
                f"{None if adjacency is None else adjacency.shape}."
            )
        if graph.kind == "conjoint":
            draw = jax.random.normal(rngs.params(), (N, graph.embedding), jnp.float32)
            self.structure = nnx.Param(draw * graph.embedding**-0.5)
            self.mixture = nnx.Param(jnp.zeros(2, jnp.float32))
            both_ways = np.maximum(road, road.T)
            self.road = Fixed(jnp.asarray(both_ways, jnp.float32))
        if graph.kind == "road":
            walks = np.stack(random_walks(road))
            self.walks = Fixed(jnp.asarray(walks, jnp.float32))
        self.config = config

    def adjacencies(self) -> Float[Array, "2 N N"]:
        """The forward and the backward adjacency, rows adding up to 1."""
        if self.config.graph.kind == "road":
            return self.walks[...]
        one, two = self.forward_nodes[...], self.backward_nodes[...]
        scores = jax.nn.relu(jnp.stack([one @ two.T, two @ one.T]))
        learned = jax.nn.softmax(scores, -1)
        if self.config.graph.kind != "conjoint":
            return learned
        nodes, shares = self.structure[...], jax.nn.softmax(self.mixture[...])
        return shares[0] * learned + shares[1] * jax.nn.softmax(nodes @ nodes.T, -1)

    def __call__(
        self, x: Float[Array, "N B T D"], key: Key[Array, ""] | None = None
    ) -> Float[Array, "N B T D"]:
        """Mix the nodes; a key is what dropout is drawn from, None is evaluation."""
        (N, _, _, D), graph = x.shape, self.config.graph
        operands = (self.mix.kernel[...], self.adjacencies(), x)
        kernel, steps, x = narrow(operands, self.config.precision)
        own, *others = kernel.reshape(-1, D, D)
        if graph.kind == "diagonal":
            gains = jnp.diagonal(steps, axis1=1, axis2=2)[:, None]  # (2, 1, N)
            powers = jnp.concatenate([gains**k for k in range(1, graph.hops + 1)], 1)
            weights = jnp.einsum(
                "kn,kde->nde", powers.reshape(-1, N), jnp.stack(others)
            )
            y = jnp.einsum("nbtd,nde->nbte", x, own + weights)
        else:
            y = x @ own
            for step, kernels in zip(steps, _halves(others), strict=True):
                hop = x
                for kernel in kernels:
                    hop = (step @ hop.reshape(N, -1)).reshape(x.shape)
                    y = y + hop @ kernel
        y = wide(y) + cast(nnx.Param, self.mix.bias)[...]
        return dropout(y, self.config.dropout, key)

    def penalty(
        self, x: Float[Array, "N B T D"], key: Key[Array, ""]
    ) -> Float[Array, ""]:
        """What holds structure to the road graph, in the loss."""
        if self.config.graph.kind != "conjoint":
            return super().penalty(x, key)
        term = structure_penalty(self.structure[...], self.road[...])
        return self.config.graph.structure_weight * term


def _halves(kernels: list[Array]) -> tuple[list[Array], list[Array]]:
    """Of the forward hops, and of the backward ones."""
    return kernels[: len(kernels) // 2], kernels[len(kernels) // 2 :]


class GraphLayer(ResidualLayer):
    """Mixes the nodes at every step; its residual always stays."""

    def __init__(
        self,
        config: ForecasterConfig,
        adjacency: np.ndarray | None,
        *,
        rngs: nnx.Rngs,
    ):
        mix = GraphConvolution(config, adjacency, rngs=rngs)
        super().__init__(mix, config, residual=True, rngs=rngs)
