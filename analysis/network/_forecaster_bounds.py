"""Every bound on how far a speed moves a forecast, at one window.

A bound says how much each z-scored speed can move each z-scored forecast; compare it
with the spectral `sensitivity.network.space_time_norms` of the forecaster as a function
of speeds (T, N, 1). `BOUNDS` says what each is.

Two leave out how attention weights move with the input. ``"frozen attention"`` is the
gain product with the norms of the value path, so that it knows all weights and norms.
``"rollout"`` knows how layers mix and nothing else: of attention the weights averaged
over heads, of a graph layer its reach S, of the last map its absolute weights. What
values, norms and read-outs do is in a constant that nobody knows, so that it ranks
pairs and has no scale.
"""

from collections.abc import Sequence
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from analysis.network._forecaster_gains import (
    adjacencies,
    forecaster_gains,
    taps_of,
)
from models.forecaster import Forecaster
from models.graph import GraphConvolution, GraphLayer
from models.temporal import CausalConvolution, TemporalAttention
from sensitivity.attention import attention_matrix
from sensitivity.convolution_bounds import convolution_bound, lag_matrix, tap_gain
from sensitivity.graph_bounds import (
    FilterBound,
    entry_gain,
    filter_bound,
    message_passing_bound,
)
from sensitivity.layer_gains import (
    Factors,
    Gains,
    NodeGains,
    PlaceGains,
    StepGains,
    factorised_bound,
    product_bound,
)

Table = Float[np.ndarray, "H N T N"] | Factors


def forecaster_bounds(
    model: Forecaster,
    speeds: Float[Any, "T N"],
    time_of_day: Float[Any, " T"],
    average: Float[Any, "TH N"] | None,
    spatial: Sequence[Float[np.ndarray, "N N"]],
) -> dict[str, Table]:
    """By name, from (t, n) to (t', n') at [t', n', t, n]; spatial: `graph_gains`."""
    T, N = np.shape(speeds)
    window = (model, speeds, time_of_day, average)
    gains = forecaster_gains(*window, spatial)
    filters = [_filter(layer) for layer in model.spatial]
    coarse = factorised_bound(_graph_and_taps(model, gains, filters), T, N)
    attention = model.config.temporal.kind == "attention"
    bounds: dict[str, Table] = {
        "gain product": product_bound(gains, T, N),
        "factorised": factorised_bound(gains, T, N),
        "graph" if attention else "graph and taps": coarse,
    }
    time = factorised_bound(_one_gain(model, gains), T, N).time
    others = np.max([graph.reach for graph in filters], 0) - np.eye(N)
    for name, of_layers in (
        ("message passing", [graph.gain for graph in filters]),
        ("message passing by entry", [_entry_gain(layer) for layer in model.spatial]),
    ):
        space = message_passing_bound(others, max(of_layers), len(of_layers))
        bounds[name] = Factors(time, space)
    if attention:
        frozen = forecaster_gains(*window, spatial, frozen=True)
        bounds["frozen attention"] = product_bound(frozen, T, N)
        mixing = _mixing(*window, filters)
        bounds["rollout"] = product_bound([*mixing, gains[-1]], T, N)
    return bounds


def _filter(layer: GraphLayer) -> FilterBound:
    mix = cast(GraphConvolution, layer.mix)
    return filter_bound(taps_of(mix), adjacencies(mix), residual=layer.residual)


def _entry_gain(layer: GraphLayer) -> float:
    own, *others = taps_of(cast(GraphConvolution, layer.mix))
    return entry_gain(own + layer.residual * np.eye(len(own)), *others)


def _graph_and_taps(
    model: Forecaster, gains: list[Gains], filters: list[FilterBound]
) -> list[Gains]:
    """The gains, with those of convolutions and graph layers for every input."""
    T, N, given = model.config.window, model.config.nodes, iter(filters)
    coarse = list(gains)
    for number, layer in enumerate(model.layers()):
        place = 1 + 2 * number  # behind the lift, in front of its norm
        match layer.mix:
            case CausalConvolution() as mix:
                gain = tap_gain(taps_of(mix), residual=layer.residual)
                table = gain * lag_matrix(T, mix.taps)
                coarse[place] = StepGains(np.broadcast_to(table, (N, T, T)))
            case GraphConvolution():
                table = next(given).table()
                coarse[place] = NodeGains(np.broadcast_to(table, (T, N, N)))
    return coarse  # no gain of attention holds for every input: its own stay


def _one_gain(model: Forecaster, gains: list[Gains]) -> list[Gains]:
    """What does not mix nodes, with one gain for all convolutions."""
    temporal = model.config.temporal
    if temporal.kind == "attention":
        return [layer for layer in gains if not isinstance(layer, NodeGains)]
    taps = [taps_of(cast(CausalConvolution, layer.mix)) for layer in model.temporal]
    gain = tap_gain(np.stack(taps), residual=temporal.residual)
    table = convolution_bound(model.config.window, temporal.taps, gain, len(taps))
    places = [layer for layer in gains if isinstance(layer, PlaceGains)]
    return [*places, StepGains(table[None]), gains[-1]]


def _mixing(
    model: Forecaster,
    speeds: Float[Any, "T N"],
    time_of_day: Float[Any, " T"],
    average: Float[Any, "TH N"] | None,
    filters: list[FilterBound],
) -> list[Gains]:
    """How each layer mixes steps or nodes, by its attention weights or its reach."""
    T, N = np.shape(speeds)
    windows, clock = jnp.asarray(speeds)[None], jnp.asarray(time_of_day)[None]
    ahead = None if average is None else jnp.asarray(average)[None]
    inputs = iter(model.temporal_inputs(windows, clock, ahead))
    given, mixing = iter(filters), []
    for layer in model.layers():
        if isinstance(layer, GraphLayer):
            mixing.append(NodeGains(np.broadcast_to(next(given).reach, (T, N, N))))
            continue
        mix, x = cast(TemporalAttention, layer.mix), np.asarray(next(inputs)[:, 0])
        alpha = attention_matrix(x, mix.weights(), mix.score_bias())
        mean = np.asarray(alpha, np.float64).mean(1)  # over heads, (N, T, T)
        mixing.append(StepGains(mean + layer.residual * np.eye(T)))
    return mixing
