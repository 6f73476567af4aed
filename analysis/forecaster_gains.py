"""Gains of every layer of a forecaster, at what it really sees."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from models.forecaster import Forecaster
from models.graph import GraphConvolution, GraphLayer
from models.temporal import CausalConvolution, TemporalAttention, TemporalLayer
from sensitivity.gains import (
    Gains,
    NodeGains,
    PlaceGains,
    StepGains,
    attention_gains,
    block_gains,
    layer_norm_gains,
)


def forecaster_gains(
    model: Forecaster,
    speeds: Float[Any, "T N"],
    time_of_day: Float[Any, " T"],
    average: Float[Any, "TH N"] | None = None,
    *,
    frozen: bool = False,
) -> list[Gains]:
    """Gains of the layers of a forecaster for one window, in evaluation.

    Their product (`sensitivity.gains.product_bound`) bounds how much a z-scored speed
    moves a z-scored forecast.

    Args:
        model: The forecaster.
        speeds: z-scored speeds of the window, shape (T, N).
        time_of_day: In [0, 1), shape (T,).
        average: z-scored averages over window and horizon, shape (T + H, N).
        frozen: Whether attention weights count as constants (the value path alone).

    Returns:
        In the order in which the layers act: of the lift, for each layer of its mixing
        with the residual and of its layer norm, of the read-out of a step, and of the
        map from steps to horizon.
    """
    T, N = np.shape(speeds)
    batch = [jnp.asarray(part)[None] for part in (speeds, time_of_day)]
    ahead = None if average is None else jnp.asarray(average)[None]
    x, clock = model.lifted(batch[0], ahead), model.clock(batch[1])
    lift = np.linalg.norm(np.asarray(model.lift.kernel[...], np.float64)[0])
    gains: list[Gains] = [PlaceGains(np.full((T, N), lift))]
    for layer in model.layers():
        mixed = layer.mix(x) + layer.clock(clock)
        normed = np.asarray((x + mixed if layer.residual else mixed)[:, 0])
        gains.append(_mixing(layer, np.asarray(x[:, 0]), frozen))
        scale = None if layer.norm.scale is None else layer.norm.scale[...]
        of_norm = layer_norm_gains(normed, scale, layer.norm.epsilon)  # (N, T)
        gains.append(PlaceGains(of_norm.T))
        x = layer(x, clock)
    D = model.config.width
    read = np.linalg.norm(np.asarray(model.read.kernel[...], np.float64)[:D])
    gains.append(PlaceGains(np.full((T, N), read)))
    weights = np.abs(np.asarray(model.ahead.kernel[...], np.float64)[:T]).T
    gains.append(StepGains(np.broadcast_to(weights, (N, *weights.shape))))
    return gains


def _mixing(
    layer: TemporalLayer | GraphLayer, x: Float[np.ndarray, "N T D"], frozen: bool
) -> Gains:
    """Gains of what a layer does before its norm."""
    residual = layer.residual
    if isinstance(layer.mix, TemporalAttention):
        weights, bias = layer.mix.weights(), layer.mix.score_bias()
        return StepGains(
            attention_gains(x, weights, bias, residual=residual, frozen=frozen)
        )
    if isinstance(layer.mix, CausalConvolution):
        return StepGains(_convolution(layer.mix, x, residual))
    assert isinstance(layer.mix, GraphConvolution)
    nodes = block_gains(_graph_blocks(layer.mix, residual))
    return NodeGains(np.broadcast_to(nodes, (x.shape[1], *nodes.shape)))


def _convolution(
    mix: CausalConvolution, x: Float[np.ndarray, "N T D"], residual: bool
) -> Float[np.ndarray, "N T T"]:
    """Gains of relu(b + sum_p W_p x_{t-p}), with the relu as it acts at x."""
    N, T, D = x.shape
    kernel = np.asarray(mix.mix.kernel[...], np.float64).reshape(-1, D, D)
    open_ = np.asarray(mix(jnp.asarray(x))) > 0  # (N, T, D)
    gains = np.zeros((N, T, T))
    for p, tap in enumerate(kernel):
        blocks = open_[..., p:, :, None] * tap.T  # (N, T - p, D out, D in)
        if p == 0 and residual:
            blocks = blocks + np.eye(D)
        step = np.arange(p, T)
        gains[:, step, step - p] = block_gains(blocks)
    return gains


def _graph_blocks(
    mix: GraphConvolution, residual: bool
) -> Float[np.ndarray, "N N D D"]:
    """What node m gives to node n, [n, m], as matrices that act on x from the left."""
    D, N = mix.config.width, mix.config.nodes
    kernel = np.asarray(mix.mix.kernel[...], np.float64).reshape(-1, D, D)
    own, *others = kernel
    blocks = np.eye(N)[..., None, None] * (own.T + residual * np.eye(D))
    hops = len(others) // 2
    steps = np.asarray(mix.adjacencies(), np.float64)
    if mix.config.graph.kind == "diagonal":
        steps = steps * np.eye(N)
    for number, step in enumerate(steps):
        power = np.eye(N)
        for weights in others[number * hops : (number + 1) * hops]:
            power = power @ step
            blocks = blocks + power[..., None, None] * weights.T
    return blocks
