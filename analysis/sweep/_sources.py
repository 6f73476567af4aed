"""Layers and inputs that are drawn from the seeds of a sweep."""

import hashlib
from typing import Any

import numpy as np

from analysis.sweep._points import Inputs, Point
from analysis.sweep.options import LayerOptions, MeasureOptions, SweepOptions
from data import TrafficSeries, draw_windows, load_metr_la
from data.freeway import simulate_traffic
from models.positions import position_encoding
from sensitivity.bounds import identity_note, plan_memory
from sensitivity.weights import AttentionWeights, ScoreBias


class RandomLayers:
    """Layers with random weights, on random inputs or on windows of traffic.

    Attributes:
        points: A layer per length and seed.
        max_memory: Budget for measuring a point.
    """

    def __init__(self, options: SweepOptions):
        """Read the data the source needs.

        Args:
            options: The sweep.

        Raises:
            ValueError: If it cannot be read, or a length exceeds the series.
        """
        self.options, self._series = options, load_series(options)
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
        return {
            "data_sha256": hashlib.sha256(self._series.values.tobytes()).hexdigest()
        }

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
        layer, dtype = self.options.layer, self.options.measure.dtype
        weights = draw_weights(layer, 0, dtype)
        levels = self.options.measure.levels
        notes = sorted({identity_note(weights, level) for level in levels})
        if self._series is not None and layer.position == "none":
            notes.append(
                "without --position every token is a scalar, the speed, times one "
                "vector"
            )
        return notes

    def size(self) -> int:
        """Bytes that the work arrays are estimated to take.

        Returns:
            The bytes.

        Raises:
            ValueError: If that is more than the budget.
        """
        layer, measure = self.options.layer, self.options.measure
        shape = (self.options.samples, max(self.options.T), layer.d_model)
        weights = draw_weights(layer, 0, measure.dtype)
        return work_bytes(shape, weights, measure, self.max_memory)

    def inputs(self, point: Point) -> Inputs:
        """The layer of a point, and its inputs."""
        return draw_inputs(self.options, self._series, point.T, point.seed)


def work_bytes(
    shape: tuple[int, ...],
    weights: AttentionWeights,
    measure: MeasureOptions,
    max_memory: str | int,
) -> int:
    """What measuring a layer takes.

    Args:
        shape: Of its inputs, (..., T, D).
        weights: The layer.
        measure: How it is measured.
        max_memory: The budget.

    Returns:
        Estimated bytes of work arrays.

    Raises:
        ValueError: If that is more than the budget.
    """
    return plan_memory(
        shape,
        np.dtype(measure.dtype),
        weights,
        norm=measure.norm,
        levels=measure.levels,
        engine=measure.engine,
        max_memory=max_memory,
    )


def load_series(options: SweepOptions) -> TrafficSeries | None:
    """Read or simulate the series of a sweep.

    Args:
        options: The sweep.

    Returns:
        The series, or None where inputs are drawn.

    Raises:
        ValueError: If it cannot be read, or a length exceeds the series.
    """
    if options.source == "gaussian":
        return None
    if options.data is None:
        series = simulate_traffic()
    else:
        try:
            series = load_metr_la(options.data)
        except (ValueError, FileNotFoundError) as error:
            raise ValueError(f"--data: {error}") from error
    steps = len(series.values)
    if max(options.T) > steps:
        raise ValueError(
            f"--T ({max(options.T)}) must not exceed the {steps} steps of "
            f"{options.data or series.name}."
        )
    return series


def draw_inputs(
    options: SweepOptions, series: TrafficSeries | None, T: int, seed: int
) -> Inputs:
    """Draw what is measured at one length for one seed.

    Args:
        options: The sweep.
        series: Traffic, for the sources that need it.
        T: Number of time steps.
        seed: The seed.

    Returns:
        The layer and its inputs, in the dtype of the sweep.
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
    return Inputs(
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
