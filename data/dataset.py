"""A series made ready to train on: arrays for the device, and windows cut from them."""

import dataclasses
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float32, Float64, Int

from data._calendar import time_of_day
from data.scaler import Scaler
from data.series import TrafficSeries
from data.splits import (
    Convention,
    Split,
    check_choice,
    check_sizes,
    split_windows,
    training_rows,
)
from data.time_of_week import TimeOfWeekAverage, averages_without_own

Scale = Literal["global", "sensor"]
Fill = Literal["mean", "forward", "zero"]


class WindowedSeries(NamedTuple):
    """All S steps of a series, once, from which windows are cut where they are used.

    Attributes:
        inputs: Z-scores of the speeds, missing ones filled, shape (S, N).
        targets: Speeds in mph, exactly 0 where missing, shape (S, N).
        time_of_day: Share of the day that has passed, shape (S,).
        average: Z-scores of the time-of-week average, shape (S, N), or None.
    """

    inputs: Float32[Array, "S N"]
    targets: Float32[Array, "S N"]
    time_of_day: Float32[Array, " S"]
    average: Float32[Array, "S N"] | None


class Batch(NamedTuple):
    """B windows of T steps, and the H steps that follow each.

    Attributes:
        speeds: Z-scores of what is read, shape (B, T, N).
        time_of_day: Share of the day that has passed at the T steps, shape (B, T).
        average: Z-scores of the time-of-week average at all T + H steps, shape
            (B, T+H, N), or None.
        targets: What is forecast, in mph, exactly 0 where missing, shape (B, H, N).
    """

    speeds: Float32[Array, "B T N"]
    time_of_day: Float32[Array, "B T"]
    average: Float32[Array, "B T+H N"] | None
    targets: Float32[Array, "B H N"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """A series ready to train on; all that is fitted comes from training rows only.

    Attributes:
        arrays: What windows are cut from, on the default device.
        split: First steps of the windows of each part.
        scaler: Speeds to z-scores and back.
        time_of_week: The training part's average by time of week, in mph.
        averages: That average at every step, at one of the training part of its other
            weeks (`averages_without_own`), in mph, shape (S, N).
        series: The series itself; a reading of 0 mph counts as missing.
        window: Number T of steps that a forecast reads.
        horizon: Number H of steps that it forecasts.
    """

    arrays: WindowedSeries
    split: Split
    scaler: Scaler
    time_of_week: TimeOfWeekAverage
    averages: Float64[np.ndarray, "S N"]
    series: TrafficSeries
    window: int
    horizon: int


def prepare(
    series: TrafficSeries,
    *,
    window: int,
    horizon: int,
    split: Convention = "windows",
    scale: Scale = "global",
    fill: Fill = "mean",
    time_of_week: bool = False,
) -> Prepared:
    """Split, fit and scale a series, and put it on the device.

    Missing readings are never forecast: they are 0 in the targets, and the loss leaves
    zeros out. So a reading of exactly 0 mph counts as missing, as in the field's files.

    Args:
        series: The series, S steps of N sensors.
        window: Number T of steps that a forecast reads.
        horizon: Number H of steps that it forecasts.
        split: ``"windows"`` or ``"time"``, see `split_windows`.
        scale: Moments of all sensors together (``"global"``) or of each ``"sensor"``.
        fill: What a missing input becomes: the training ``"mean"``, a z-score of 0;
            the sensor's last observed reading (``"forward"``), and the mean where there
            is none yet; or a speed of ``"zero"``, the field's habit. None looks ahead.
        time_of_week: Whether the arrays hold the time-of-week average as an input, a
            training step's without its own reading.

    Returns:
        The prepared series. Z-scores are computed in float64 and stored in float32.

    Raises:
        ValueError: If the series is too short for a window in each part, a sensor has
            no observed reading in the training part or does not vary there, a speed
            does not fit into float32, or an option is none of its choices.

    Example:
        >>> import numpy as np, pandas as pd
        >>> series = TrafficSeries(
        ...     values=(values := 50.0 + np.arange(40.0)[:, None] % 5),
        ...     missing=np.zeros_like(values, dtype=bool),
        ...     time=pd.date_range("2012-03-01", periods=40, freq="5min"),
        ...     sensor_ids=("773869",),
        ...     name="tiny",
        ... )
        >>> ready = prepare(series, window=3, horizon=2)
        >>> batch = gather(ready.arrays, ready.split.test[:4], 3, 2)
        >>> batch.speeds.shape, batch.targets[0, :, 0].tolist()
        ((4, 3, 1), [52.0, 53.0])
        >>> ready.scaler.inverse(batch.speeds)[0, :, 0].round(4).tolist()
        [54.0, 50.0, 51.0]
    """
    check_choice("scale", scale, Scale)
    check_choice("fill", fill, Fill)
    parts = split_windows(len(series.time), window, horizon, split)
    series = _without_zeros(series)
    rows = training_rows(parts, window, horizon)
    ids = series.sensor_ids
    values, missing = series.values[rows], series.missing[rows]
    try:
        scaler = Scaler.fit(values, missing, scale == "sensor", ids)
        average = TimeOfWeekAverage.fit(values, missing, series.time[rows], ids)
    except ValueError as error:
        raise ValueError(f"training part of {series.name!r}: {error}") from error
    averages = average.predict(series.time)
    averages[rows] = averages_without_own(values, missing, series.time[rows])
    targets = _to_float32(series, series.values)
    arrays = WindowedSeries(
        inputs=_to_float32(series, scaler.transform(filled(series, scaler, fill))),
        targets=targets,
        time_of_day=jnp.asarray(time_of_day(series.time), jnp.float32),
        average=(
            _to_float32(series, scaler.transform(averages)) if time_of_week else None
        ),
    )
    return Prepared(
        arrays=arrays,
        split=parts,
        scaler=scaler,
        time_of_week=average,
        averages=averages,
        series=series,
        window=window,
        horizon=horizon,
    )


def gather(
    arrays: WindowedSeries,
    starts: Int[Array | np.ndarray, " B"],
    window: int,
    horizon: int,
) -> Batch:
    """Cut windows out of the series: one gather per array, no copy of the series.

    A pure jax function, for ``jit``, ``scan`` and ``vmap`` over ``starts``; under them
    values cannot be checked, and a start beyond the last window is moved back to it.

    Args:
        arrays: The whole series.
        starts: First step of each of the B windows.
        window: Number T of steps that are read.
        horizon: Number H of steps that are forecast.

    Returns:
        The windows.

    Raises:
        ValueError: If ``window`` or ``horizon`` is below 1, or the series is shorter
            than both together.
    """
    check_sizes(window=window, horizon=horizon)
    steps, both = len(arrays.inputs), window + horizon
    if both > steps:
        raise ValueError(
            f"window + horizon ({both}) must not exceed the {steps} steps of the "
            "series."
        )
    starts = jnp.clip(jnp.asarray(starts), 0, steps - both)
    rows = starts[:, None] + jnp.arange(both, dtype=starts.dtype)
    read, forecast = rows[:, :window], rows[:, window:]
    return Batch(
        speeds=_take(arrays.inputs, read),
        time_of_day=_take(arrays.time_of_day, read),
        average=None if arrays.average is None else _take(arrays.average, rows),
        targets=_take(arrays.targets, forecast),
    )


def _take(array: Array, rows: Array) -> Array:
    """The rows, which are known to exist."""
    return array.at[rows].get(mode="promise_in_bounds")


def _without_zeros(series: TrafficSeries) -> TrafficSeries:
    """The series with missing readings at 0, and readings of 0 missing."""
    missing = series.missing | (series.values == 0)
    values = np.where(missing, 0.0, series.values)
    return dataclasses.replace(series, values=values, missing=missing)


def filled(
    series: TrafficSeries, scaler: Scaler, fill: Fill
) -> Float64[np.ndarray, "S N"]:
    """Speeds without missing entries, from present and past ones only.

    Args:
        series: The series.
        scaler: Its moments.
        fill: The training ``"mean"``; the last observed reading (``"forward"``), and
            the mean where there is none yet; or ``"zero"``.

    Returns:
        Speeds in mph, shape (S, N).
    """
    if fill == "zero":
        return np.where(series.missing, 0.0, series.values)
    last = series.last_observed()
    if fill == "mean":
        last = np.where(series.missing, -1, last)
    seen = np.take_along_axis(series.values, np.maximum(last, 0), axis=0)
    return np.where(last < 0, scaler.mean, seen)


def _to_float32(series: TrafficSeries, values: np.ndarray) -> Array:
    """The values in float32, on the device; refused if one is too large."""
    too_large = np.abs(values) > np.finfo(np.float32).max
    if too_large.any():
        step, sensor = np.argwhere(too_large)[0]
        raise ValueError(
            f"speeds must fit into float32, got {series.values[step, sensor]} mph at "
            f"step {step} of sensor {series.sensor_ids[sensor]!r}."
        )
    return jnp.asarray(values.astype(np.float32))
