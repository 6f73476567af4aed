"""Layers and inputs that are drawn from the seeds of a sweep."""

import hashlib
from typing import Any

import numpy as np

from analysis.sweep._points import Inputs, Point
from analysis.sweep.options import LayerOptions, SweepOptions
from data import TrafficSeries, draw_windows, load_metr_la
from data.freeway import simulate_traffic
from models.positions import position_encoding
from sensitivity import AttentionWeights, LayerInput, ScoreBias
from sensitivity.arguments import ArgumentError
from sensitivity.bounds import identity_note, plan_memory


class RandomLayers:
    """Layers with random weights, on random inputs or on windows of traffic."""

    def __init__(self, options: SweepOptions):
        self.options, self._series = options, _load_series(options)
        self.max_memory: str | int = options.measure.max_memory
        self.points = [
            Point(
                name=f"T={T}-seed={seed}",
                T=T,
                seed=seed,
                source=options.source,
                position=options.layer.position,
                regularizer=options.layer.regularizer,
                heads=options.layer.heads,
            )
            for T in options.T
            for seed in range(options.seeds)
        ]

    def identity(self) -> dict[str, Any]:
        """SHA-256 of the readings."""
        if self._series is None:
            return {"data_sha256": None}
        readings = self._series.values.tobytes()
        return {"data_sha256": hashlib.sha256(readings).hexdigest()}

    def headline(self) -> str:
        """What is looked at, in words."""
        options, layer = self.options, self.options.layer
        return (
            f"{len(options.T)} lengths, {options.seeds} seeds, {options.samples} "
            f"samples; source {options.source}, {layer.heads} head(s) at D = "
            f"{layer.d_model}, regularizer {layer.regularizer}"
        )

    def notes(self) -> list[str]:
        """What whoever reads the numbers should know."""
        layer, measure = self.options.layer, self.options.measure
        weights = draw_weights(layer, 0, measure.dtype)
        notes = sorted({identity_note(weights, level) for level in measure.levels})
        if self._series is not None and layer.position == "none":
            notes.append(
                "without --position every token is a scalar, the speed, times one "
                "vector"
            )
        return notes

    def size(self) -> int:
        """Bytes that the work arrays take; refused if more than the budget."""
        layer, measure = self.options.layer, self.options.measure
        return plan_memory(
            (self.options.samples, max(self.options.T), layer.d_model),
            np.dtype(measure.dtype),
            draw_weights(layer, 0, measure.dtype),
            norm=measure.norm,
            levels=measure.levels,
            engine=measure.engine,
            max_memory=self.max_memory,
        )

    def inputs(self, point: Point) -> Inputs:
        """The layer of a point at its inputs."""
        return draw_inputs(self.options, self._series, point.T, point.seed)


def _load_series(options: SweepOptions) -> TrafficSeries | None:
    if options.source == "gaussian":
        return None
    if options.data is None:
        series = simulate_traffic()
    else:
        try:
            series = load_metr_la(options.data)
        except (ValueError, FileNotFoundError) as error:
            raise ValueError(f"--data: {error}") from error
    steps, longest = len(series.values), max(options.T)
    if longest > steps:
        where = options.data or series.name
        rule = f"({longest}) must not exceed the {steps} steps of {where}."
        raise ArgumentError("T", rule)
    return series


def draw_inputs(
    options: SweepOptions, series: TrafficSeries | None, T: int, seed: int
) -> Inputs:
    """What is measured at one length for one seed."""
    layer, dtype = options.layer, options.measure.dtype
    rng = np.random.default_rng([seed, T, 3])
    filled_share = 0.0
    if series is None:
        x = rng.normal(size=(options.samples, T, layer.d_model))
    else:
        windows = draw_windows(series, T, options.samples, rng)
        # One speed becomes D numbers by a map of the seed, the same at every length.
        lift = np.random.default_rng([seed, 0, 2]).normal(size=layer.d_model)
        x = windows.values[..., None] * lift
        filled_share = windows.filled_share
    x = x + position_encoding(layer.position, T, layer.d_model)
    drawn = LayerInput(
        x=x.astype(dtype),
        weights=draw_weights(layer, seed, dtype),
        score_bias=draw_bias(layer, T, options.samples, rng, dtype),
    )
    return Inputs(drawn, filled_share)


def draw_weights(layer: LayerOptions, seed: int, dtype: str) -> AttentionWeights:
    """Weights from N(0, scale^2 / D); with an output projection of several heads."""
    rng = np.random.default_rng([seed, 0, 1])
    D, H = layer.d_model, layer.heads
    kernels = rng.normal(size=(3, D, H, D // H))
    out = rng.normal(size=(H, D // H, D)) if H > 1 else None
    factor = layer.scale / D**0.5
    if not factor * np.abs(kernels).max() < np.finfo(dtype).max:
        raise ArgumentError("scale", f"({layer.scale}) is too large for {dtype}.")
    query, key, value = (kernels * factor).astype(dtype)
    out = None if out is None else (out * factor).astype(dtype)
    return AttentionWeights(query=query, key=key, value=value, out=out)


def draw_bias(
    layer: LayerOptions, T: int, samples: int, rng: np.random.Generator, dtype: str
) -> ScoreBias:
    """What the regularizer adds to the scores; dropout is drawn afresh per sample."""
    match layer.regularizer:
        case "mask":
            return ScoreBias(diagonal=-np.inf)
        case "penalty":
            return ScoreBias(diagonal=layer.penalty)
        case "dropout":
            array = np.zeros((samples, 1, T, T), dtype)
            step = np.arange(T)
            dropped = rng.random((samples, 1, T)) < (layer.dropout or 0.0)
            array[..., step, step] = np.where(dropped, -np.inf, 0)
            return ScoreBias(array=array)
        case _:
            return ScoreBias()
