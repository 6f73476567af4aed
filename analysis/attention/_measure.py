"""The attention layers of one trained forecaster, measured at what they really see."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from analysis.attention._summaries import (
    PATHS,
    RESIDUAL,
    diagonal,
    largest_column_mean,
    off_diagonal,
    quantities,
    relative_entropy,
)
from data import Batch
from models.forecaster import Forecaster
from models.temporal import TemporalAttention
from sensitivity import AttentionWeights, ScoreBias, path_norms
from sensitivity._inputs import run
from sensitivity.attention import attention_weights, project
from sensitivity.norms import Norm

MAPS = ("attention", *PATHS)
WHOLE = "layer"


class LayerInput(NamedTuple):
    """An attention layer of a trained forecaster, ready to be measured in float64.

    Attributes:
        x: What it sees, nodes and windows first.
        weights: Its weights.
        score_bias: What its regularizer adds to the scores in evaluation.
        residual: Whether its input is added to its output.
    """

    x: Float[np.ndarray, "N B T D"]
    weights: AttentionWeights
    score_bias: ScoreBias
    residual: bool


class Part(NamedTuple):
    """What was measured of one forecaster.

    Attributes:
        table: A row per ``layer`` (from 0), ``head`` (from 0, or ``"layer"`` for the
            layer as a whole) and ``quantity``, with its ``value``.
        maps: Means over samples: attention weights, and norms by path, in the order of
            `MAPS`; heads in order, then the layer as a whole.
    """

    table: pd.DataFrame
    maps: Float[np.ndarray, "L heads maps T T"]


def layer_inputs(model: Forecaster, batch: Batch, nodes: list[int]) -> list[LayerInput]:
    """What every attention layer of a forecaster sees in evaluation.

    Args:
        model: The forecaster.
        batch: Windows.
        nodes: The nodes to keep.

    Returns:
        One for each layer, in order, in float64.
    """
    with jax.default_matmul_precision("highest"):
        seen = model.temporal_inputs(batch.speeds, batch.time_of_day, batch.average)
    found = []
    for layer, x in zip(model.temporal, seen, strict=True):
        assert isinstance(layer.mix, TemporalAttention)
        weights = jax.tree.map(lambda a: np.asarray(a, np.float64), layer.mix.weights())
        x = np.asarray(x, np.float64)[nodes]
        found.append(LayerInput(x, weights, layer.mix.score_bias(), layer.residual))
    return found


def measure(layers: list[LayerInput], norm: Norm) -> Part:
    """Measure every layer.

    Args:
        layers: Of one forecaster.
        norm: Norm of the Jacobians.

    Returns:
        The numbers and the mean maps.
    """
    rows, maps = [], []
    for number, layer in enumerate(layers):
        by_row, mean = _layer(layer, norm)
        maps.append(mean)
        H = layer.weights.heads
        for n, head in enumerate([*map(str, range(H)), WHOLE]):
            own = {k: table[:, n] for k, table in by_row.items() if k != RESIDUAL}
            if head == WHOLE and RESIDUAL in by_row:
                own[RESIDUAL] = by_row[RESIDUAL][:, 0]
            rows += [
                {"layer": number, "head": head, "quantity": name, "value": value}
                for name, value in quantities(own).items()
            ]
    return Part(pd.DataFrame(rows), np.stack(maps))


def _layer(layer: LayerInput, norm: Norm) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Statistics of all rows, window by window, so that memory does not grow.

    Returns:
        By name, shape (samples, H + 1, T), the layer as a whole last (`RESIDUAL` is of
        the layer only); and mean maps.
    """
    tables: list[dict[str, np.ndarray]] = []
    total: Any = 0
    for b in range(layer.x.shape[1]):
        by_row, maps = _window(layer._replace(x=layer.x[:, b]), norm)
        tables.append(by_row)
        total = total + maps
    names = tables[0]
    rows = {name: np.concatenate([t[name] for t in tables]) for name in names}
    return rows, total / len(tables)


def _window(layer: LayerInput, norm: Norm) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The same for one window, x of shape (N, T, D)."""
    alpha = attention(layer.x, layer.weights, layer.score_bias)  # (N, H, T, T)
    T = layer.x.shape[-2]
    _, may = layer.score_bias.rows(jnp.arange(T), T, jnp.float32)
    allowed = np.broadcast_to(may, (*np.shape(may)[:-1], T)).sum(-1)
    settings: dict[str, Any] = {"score_bias": layer.score_bias, "norm": norm}
    heads = path_norms(layer.x, layer.weights, per_head=True, **settings)
    whole = path_norms(layer.x, layer.weights, **settings)
    rows = {
        "attention_diagonal": _with_mean(diagonal(alpha)),
        "entropy": _with_mean(relative_entropy(alpha, allowed)),
        "sink": _with_mean(largest_column_mean(alpha)[..., None]),
    }
    maps = [_with_mean(alpha).mean(0)]
    for path in PATHS:
        own, layers = getattr(heads, path), getattr(whole, path)
        table = np.concatenate([own, layers[:, None]], 1)  # (N, H + 1, T, T)
        rows[f"{path}_diagonal"] = diagonal(table)
        rows[f"{path}_off_diagonal"] = off_diagonal(table)
        maps.append(table.mean(0))
    if layer.residual:
        kept = path_norms(layer.x, layer.weights, residual=True, **settings).total
        rows[RESIDUAL] = diagonal(np.asarray(kept))[:, None]  # heads have none
    return rows, np.stack(maps, 1)


def _with_mean(heads: np.ndarray) -> np.ndarray:
    """Heads, and behind them their mean, which stands for the layer as a whole."""
    return np.concatenate([heads, heads.mean(1, keepdims=True)], 1)


def attention(
    x: Float[np.ndarray, "*batch T D"], weights: AttentionWeights, bias: ScoreBias
) -> Float[np.ndarray, "*batch H T T"]:
    """Attention weights in the precision of the input.

    Args:
        x: Inputs, shape (..., T, D).
        weights: The layer.
        bias: What is added to the scores.

    Returns:
        Shape (..., H, T, T).
    """
    return np.asarray(run(_attention, x, weights, bias))


@jax.jit
def _attention(x: Array, weights: AttentionWeights, bias: ScoreBias) -> Array:
    q = project(x, weights.query, weights.query_bias)
    k = project(x, weights.key, weights.key_bias)
    return attention_weights(q, k, bias, jnp.arange(x.shape[-2]))[0]
