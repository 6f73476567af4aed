"""Where the layers and inputs of a sweep come from, all drawn from its seeds."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from data import TrafficSeries, draw_windows
from models.positions import position_encoding
from sensitivity.layer import AttentionWeights, ScoreBias
from sensitivity.sweep.options import LayerOptions, SweepOptions


class Point(NamedTuple):
    """One layer and its inputs at one length.

    Attributes:
        x: Inputs, shape (S, T, D).
        weights: The layer of this seed, the same at every length.
        score_bias: What the regularizer adds to the scores.
        filled_share: Share of the readings that were missing and forward-filled.
    """

    x: Float[np.ndarray, "S T D"]
    weights: AttentionWeights
    score_bias: ScoreBias
    filled_share: float


def draw_point(
    options: SweepOptions, series: TrafficSeries | None, T: int, seed: int
) -> Point:
    """Draw what is measured at one length for one seed.

    Args:
        options: The sweep.
        series: Real traffic, for the source that needs it.
        T: Number of time steps.
        seed: The seed.

    Returns:
        The point, in the dtype of the sweep.
    """
    layer, dtype = options.layer, options.measure.dtype
    rng = np.random.default_rng([seed, T, 3])
    shape = (options.samples, T, layer.d_model)
    filled_share = 0.0
    if series is None:
        x = rng.normal(size=shape)
    else:
        windows = draw_windows(series, T, options.samples, rng)
        # One speed becomes D numbers by a map of the seed, the same at every length.
        lift = np.random.default_rng([seed, 0, 2]).normal(size=layer.d_model)
        x = windows.values[..., None] * lift
        filled_share = windows.filled_share
    x = x + position_encoding(layer.position, T, layer.d_model)
    return Point(
        x=x.astype(dtype),
        weights=draw_weights(layer, seed, dtype),
        score_bias=draw_bias(layer, T, options.samples, rng, dtype),
        filled_share=filled_share,
    )


def draw_weights(layer: LayerOptions, seed: int, dtype: str) -> AttentionWeights:
    """Draw a layer's weights from N(0, scale^2 / D).

    Args:
        layer: Its sizes and scale.
        seed: The seed.
        dtype: Its dtype.

    Returns:
        The layer; with an output projection if it has several heads.

    Raises:
        ValueError: If the scale is too large for the dtype.
    """
    rng = np.random.default_rng([seed, 0, 1])
    D, H = layer.d_model, layer.heads
    kernels = rng.normal(size=(3, D, H, D // H))
    out = rng.normal(size=(H, D // H, D)) if H > 1 else None
    factor = layer.scale / D**0.5
    if not factor * np.abs(kernels).max() < np.finfo(dtype).max:
        raise ValueError(f"--scale ({layer.scale}) is too large for {dtype}.")
    query, key, value = (kernels * factor).astype(dtype)
    return AttentionWeights(
        query=query,
        key=key,
        value=value,
        out=None if out is None else (out * factor).astype(dtype),
    )


def draw_bias(
    layer: LayerOptions, T: int, samples: int, rng: np.random.Generator, dtype: str
) -> ScoreBias:
    """What the regularizer adds to the scores.

    Args:
        layer: Names the regularizer.
        T: Number of time steps.
        samples: Number of samples S.
        rng: Draws the dropout.
        dtype: Dtype of the dropout's mask.

    Returns:
        The bias; for the dropout an array (S, 1, T, T), a fresh draw per sample.
    """
    match layer.regularizer:
        case "mask":
            return ScoreBias(diagonal=-np.inf)
        case "penalty":
            return ScoreBias(diagonal=layer.penalty)
        case "dropout":
            chance = layer.dropout or 0.0
            array = np.zeros((samples, 1, T, T), dtype)
            step = np.arange(T)
            dropped = rng.random((samples, 1, T)) < chance
            array[..., step, step] = np.where(dropped, -np.inf, 0)
            return ScoreBias(array=array)
        case _:
            return ScoreBias()
