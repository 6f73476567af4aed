"""Gains of every layer of a forecaster, at what it really sees at a window."""

from collections.abc import Sequence
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from models.forecaster import Forecaster
from models.graph import GraphConvolution, GraphLayer
from models.temporal import CausalConvolution, TemporalAttention, TemporalLayer
from sensitivity.layer_gains import (
    Gains,
    NodeGains,
    PlaceGains,
    StepGains,
    attention_gains,
    block_gains,
    layer_norm_gains,
)

Adjacencies = Float[np.ndarray, "2 N N"]
Taps = Float[np.ndarray, "P D D"]


def forecaster_gains(
    model: Forecaster,
    speeds: Float[Any, "T N"],
    time_of_day: Float[Any, " T"],
    average: Float[Any, "TH N"] | None,
    spatial: Sequence[Float[np.ndarray, "N N"]],
    *,
    frozen: bool = False,
) -> list[Gains]:
    """Gains at one window in evaluation; frozen: of the value path alone."""
    # In the order in which layers act: of the lift, of each layer's mixing with the
    # residual and of its norm, of the read-out of a step, of the steps to the horizon.
    T, N = np.shape(speeds)
    given = iter(spatial)
    batch = [jnp.asarray(part)[None] for part in (speeds, time_of_day)]
    ahead = None if average is None else jnp.asarray(average)[None]
    x, clock = model.lifted(batch[0], ahead), model.clock(batch[1])
    lift = np.linalg.norm(np.asarray(model.lift.kernel[...], np.float64)[0])
    gains: list[Gains] = [PlaceGains(np.full((T, N), lift))]
    for layer in model.layers():
        mixed = layer.mix(x) + layer.clock(clock)
        normed = np.asarray((x + mixed if layer.residual else mixed)[:, 0])
        if isinstance(layer, GraphLayer):
            gains.append(NodeGains(np.broadcast_to(next(given), (T, N, N))))
        else:
            gains.append(_over_steps(layer, np.asarray(x[:, 0]), frozen))
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


def graph_gains(model: Forecaster) -> list[Float[np.ndarray, "N N"]]:
    """From node m to node n at [n, m], of each graph layer with its residual."""
    return [block_gains(_graph_blocks(layer)) for layer in model.spatial]


def _over_steps(
    layer: TemporalLayer, x: Float[np.ndarray, "N T D"], frozen: bool
) -> StepGains:
    """Gains of what a temporal layer does before its norm."""
    mix, residual = layer.mix, layer.residual
    if isinstance(mix, TemporalAttention):
        weights, bias = mix.weights(), mix.score_bias()
        found = attention_gains(x, weights, bias, residual=residual, frozen=frozen)
        return StepGains(found)
    return StepGains(_convolution(cast(CausalConvolution, mix), x, residual))


def _convolution(
    mix: CausalConvolution, x: Float[np.ndarray, "N T D"], residual: bool
) -> Float[np.ndarray, "N T T"]:
    """Gains of relu(b + sum_p W_p x_{t-p}), with the relu as it acts at x."""
    N, T, D = x.shape
    open_ = np.asarray(mix(jnp.asarray(x))) > 0  # (N, T, D)
    gains = np.zeros((N, T, T))
    for p, tap in enumerate(taps_of(mix)[:T]):
        blocks = open_[..., p:, :, None] * tap  # (N, T - p, D out, D in)
        if p == 0 and residual:
            blocks = blocks + np.eye(D)
        step = np.arange(p, T)
        gains[:, step, step - p] = block_gains(blocks)
    return gains


def taps_of(mix: CausalConvolution | GraphConvolution) -> Taps:
    """Weights of the lags or hops, as matrices that act on x from the left."""
    kernel = np.asarray(mix.mix.kernel[...], np.float64)
    D = kernel.shape[1]
    return kernel.reshape(-1, D, D).mT


def adjacencies(mix: GraphConvolution) -> Adjacencies:
    """The adjacencies as the layer uses them."""
    steps = np.asarray(mix.adjacencies(), np.float64)
    if mix.config.graph.kind == "diagonal":
        steps = steps * np.eye(steps.shape[-1])
    return steps


def _graph_blocks(layer: GraphLayer) -> Float[np.ndarray, "N N D D"]:
    """What node m gives to node n, [n, m], as matrices that act on x from the left."""
    mix = cast(GraphConvolution, layer.mix)
    (own, *others), steps = taps_of(mix), adjacencies(mix)
    eye = np.eye(mix.config.nodes)
    blocks = eye[..., None, None] * (own + layer.residual * np.eye(len(own)))
    hops = len(others) // 2
    for number, step in enumerate(steps):
        power = eye
        for weights in others[number * hops : (number + 1) * hops]:
            power = power @ step
            blocks = blocks + power[..., None, None] * weights
    return blocks
