"""The attention-GCN stack: from a window of speeds to the speeds that follow."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key

from models.config import ForecasterConfig
from models.graph import GraphLayer
from models.layers import dropout, linear, wide
from models.positions import position_encoding
from models.temporal import TemporalAttention, TemporalLayer
from sensitivity.arguments import ArgumentError


class Forecaster(nnx.Module):
    r"""Forecasts every node of a graph, from z-scored speeds to z-scored speeds.

    Inputs are projected to width D and position-encoded; L temporal and L graph layers
    follow, in turn or all temporal ones first; each step is then read out to one number
    per node, and the T numbers of a window are mapped to the H steps of the horizon.
    With ``time_of_week`` the training part's average is a second input channel over the
    window, and joins the T numbers over the horizon.

    The layers are those of the reference: post-norm, no feed-forward part, the time of
    day added in every layer.

    References:
        arXiv 2602.10956, section 4, and its code (vicky-hnk/spatio-temp-parroting).
    """

    def __init__(
        self,
        config: ForecasterConfig,
        adjacency: np.ndarray | None = None,
        *,
        rngs: nnx.Rngs,
    ):
        """Draw the initial weights.

        Args:
            config: What it is made of.
            adjacency: The road graph, shape (N, N); needed by ``graph.kind="road"``.
            rngs: What the weights are drawn from.

        Raises:
            ValueError: If a road graph is needed and missing, or of another size.
        """
        D, average = config.width, config.time_of_week
        precision = config.precision
        self.lift = linear(1 + average, D, precision=precision, rngs=rngs)
        temporal, spatial = [], []
        for _ in range(config.layers):
            temporal.append(TemporalLayer(config, rngs=rngs))
            spatial.append(GraphLayer(config, adjacency, rngs=rngs))
        self.temporal, self.spatial = nnx.List(temporal), nnx.List(spatial)
        self.read = linear(D + 1, 1, precision=precision, rngs=rngs)
        steps = config.window + average * config.horizon
        self.ahead = linear(steps, config.horizon, precision=precision, rngs=rngs)
        self.config = config

    def layers(self) -> list[TemporalLayer | GraphLayer]:
        """The layers in the order in which they act."""
        if self.config.stack == "time-then-space":
            return [*self.temporal, *self.spatial]
        pairs = zip(self.temporal, self.spatial, strict=True)
        return [layer for pair in pairs for layer in pair]

    def clock(self, time_of_day: Float[Array, "B T"]) -> Float[Array, "N B T 1"]:
        """The time of day of every node, as layers take it.

        A copy for each node makes the gradients of the layers' clocks matrix products,
        where a sum over nodes took a sixth of a training step on a CPU.

        Args:
            time_of_day: In [0, 1).

        Returns:
            The copies.
        """
        _check_shape("time_of_day", time_of_day, self.config.window)
        shape = (self.config.nodes, *time_of_day.shape, 1)
        return jnp.broadcast_to(time_of_day[..., None], shape)

    def lifted(
        self,
        speeds: Float[Array, "B T N"],
        average: Float[Array, "B TH N"] | None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "N B T D"]:
        """The input of the first layer.

        Args:
            speeds: z-scored speeds.
            average: z-scored averages over window and horizon.
            key: What dropout is drawn from; None is evaluation.

        Returns:
            The lifted and encoded window.

        Raises:
            ValueError: If a model with ``time_of_week`` is given no ``average``.
        """
        T, config = self.config.window, self.config
        _check_shape("speeds", speeds, T, config.nodes)
        channels = [speeds]
        if config.time_of_week:
            if average is None:
                raise ValueError("a model with time_of_week needs average, got None.")
            _check_shape("average", average, T + config.horizon, config.nodes)
            channels.append(average[:, :T])
        x = jnp.moveaxis(jnp.stack(channels, -1), 2, 0)
        x = wide(self.lift(x))
        encoding = position_encoding(config.position, T, config.width)
        return dropout(x + jnp.asarray(encoding, x.dtype), config.dropout, key)

    def __call__(
        self,
        speeds: Float[Array, "B T N"],
        time_of_day: Float[Array, "B T"],
        average: Float[Array, "B TH N"] | None = None,
        *,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "B H N"]:
        """Forecast.

        Args:
            speeds: z-scored speeds of the window.
            time_of_day: In [0, 1).
            average: z-scored averages by time of week over window and horizon, T + H
                steps; needed by a model with ``time_of_week``.
            key: What dropout is drawn from, in training; None is evaluation.

        Returns:
            z-scored speeds.

        Raises:
            ValueError: If an argument is missing or not of its shape.
        """
        return self._forecast(speeds, time_of_day, average, key)[0]

    def with_penalty(
        self,
        speeds: Float[Array, "B T N"],
        time_of_day: Float[Array, "B T"],
        average: Float[Array, "B TH N"] | None,
        key: Key[Array, ""],
    ) -> tuple[Float[Array, "B H N"], Float[Array, ""]]:
        """Forecast in training, and what its layers add to the loss.

        Args:
            speeds: As for a forecast, like the others.
            time_of_day: Likewise.
            average: Likewise.
            key: Likewise.

        Returns:
            z-scored speeds, and the sum of the penalties of all layers.
        """
        return self._forecast(speeds, time_of_day, average, key)

    def _forecast(
        self, speeds: Array, time_of_day: Array, average: Array | None, key: Any
    ) -> tuple[Array, Array]:
        layers, clock = self.layers(), self.clock(time_of_day)
        keys: list = [None] * (1 + len(layers))
        if key is not None:
            keys = list(jax.random.split(key, len(keys)))
        x, penalty = self.lifted(speeds, average, keys[0]), jnp.zeros((), jnp.float32)
        for layer, layer_key in zip(layers, keys[1:], strict=True):
            if layer_key is not None:
                penalty += layer.penalty(x, layer_key)
            x = layer(x, clock, layer_key)
        steps = self.read(jnp.concatenate([x, clock], -1))[..., 0]  # (N, B, T)
        if average is not None and self.config.time_of_week:
            ahead = jnp.moveaxis(average[:, self.config.window :], 2, 0)
            steps = jnp.concatenate([steps, ahead.astype(steps.dtype)], -1)
        return jnp.moveaxis(wide(self.ahead(steps)), 0, 2), penalty

    def temporal_inputs(
        self,
        speeds: Float[Array, "B T N"],
        time_of_day: Float[Array, "B T"],
        average: Float[Array, "B TH N"] | None = None,
    ) -> list[Float[Array, "N B T D"]]:
        """What every temporal layer sees in evaluation, first layer first.

        Args:
            speeds: As for a forecast, like the others.
            time_of_day: Likewise.
            average: Likewise.

        Returns:
            An array for each of the L layers.
        """
        seen, x, clock = [], self.lifted(speeds, average), self.clock(time_of_day)
        for layer in self.layers():
            if isinstance(layer, TemporalLayer):
                seen.append(x)
            x = layer(x, clock)
        return seen

    def attention_maps(
        self,
        speeds: Float[Array, "B T N"],
        time_of_day: Float[Array, "B T"],
        average: Float[Array, "B TH N"] | None = None,
    ) -> Float[Array, "L T T"]:
        """Attention weights of every layer in evaluation, mean over B, N and H.

        Args:
            speeds: As for a forecast, like the others.
            time_of_day: Likewise.
            average: Likewise.

        Returns:
            The means.

        Raises:
            ValueError: If the temporal layers are not attention.

        References:
            arXiv 2602.10956, Fig. 1 and 2 (which show the last layer, in training).
        """
        inputs = self.temporal_inputs(speeds, time_of_day, average)
        maps = []
        for layer, x in zip(self.temporal, inputs, strict=True):
            if not isinstance(layer.mix, TemporalAttention):
                raise ValueError(
                    "attention maps need temporal layers of attention, got "
                    f"{self.config.temporal.kind!r}."
                )
            maps.append(layer.mix.attention(x).mean((0, 1, 2)))
        return jnp.stack(maps)


def parameter_count(model: nnx.Module) -> int:
    """Number of trained numbers of a model.

    Args:
        model: The model, or its abstract form from `nnx.eval_shape`.

    Returns:
        The count.

    Example:
        >>> config = ForecasterConfig(nodes=207)  # the reference's sizes
        >>> parameter_count(
        ...     nnx.eval_shape(lambda: Forecaster(config, rngs=nnx.Rngs(0)))
        ... )
        621158
    """
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    return sum(int(np.prod(leaf.shape)) for leaf in leaves)


def _check_shape(name: str, array: Array, *sizes: int) -> None:
    """Refuse an array that is not (B, *sizes): a size of 1 would be broadcast."""
    if array.ndim != 1 + len(sizes) or array.shape[1:] != sizes:
        expected = ", ".join(["B", *map(str, sizes)])
        rule = f"must have shape ({expected}), got {array.shape}."
        raise ArgumentError(name, rule)
