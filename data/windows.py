"""Windows of consecutive readings, drawn at random and standardised per sensor."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int

from data.scaler import Scaler
from data.series import TrafficSeries
from data.splits import check_sizes


class WindowSample(NamedTuple):
    """Windows of one sensor each, B of them, T steps long.

    Attributes:
        values: Standardised readings without unit, shape (B, T).
        sensor: Index of the sensor of each window, shape (B,).
        start: Index of the first time step of each window, shape (B,).
        filled_share: Share of the B x T readings that were missing and filled.
    """

    values: Float64[np.ndarray, "B T"]
    sensor: Int[np.ndarray, " B"]
    start: Int[np.ndarray, " B"]
    filled_share: float


def draw_windows(
    series: TrafficSeries, length: int, count: int, rng: np.random.Generator
) -> WindowSample:
    r"""Draw windows uniformly over (sensor, start), with replacement.

    A missing reading takes the sensor's last observed one (at the beginning: the
    first). Then each reading :math:`v` of sensor :math:`n` becomes
    :math:`(v - \mu_n) / \sigma_n`, with mean and standard deviation taken over all
    observed readings of that sensor, not over the filled ones.

    Args:
        series: Where windows are drawn from.
        length: Number T of consecutive steps in a window.
        count: Number B of windows.
        rng: Source of the draws; the same state gives the same windows.

    Returns:
        The windows, where they begin, and the share of their readings filled.

    Raises:
        ValueError: If ``length`` or ``count`` is below 1, the series is shorter than
            ``length``, or a sensor of the series (drawn or not, so that no seed
            decides) has no observed reading or never changes.

    Example:
        >>> import numpy as np, pandas as pd
        >>> series = TrafficSeries(
        ...     values=np.array([[40.0], [60.0], [0.0]]),
        ...     missing=np.array([[False], [False], [True]]),
        ...     time=pd.date_range("2012-03-01", periods=3, freq="5min"),
        ...     sensor_ids=("773869",),
        ...     name="tiny",
        ... )
        >>> sample = draw_windows(series, 3, 1, np.random.default_rng(0))
        >>> sample.values.tolist(), round(sample.filled_share, 3)
        ([[-1.0, 1.0, 1.0]], 0.333)
    """
    check_sizes(length=length, count=count)
    steps, nodes = series.values.shape
    if length > steps:
        raise ValueError(
            f"length ({length}) must not exceed the {steps} steps of {series.name!r}."
        )
    filled = series.forward_fill()
    scaler = Scaler.fit(
        series.values, series.missing, per_sensor=True, sensor_ids=series.sensor_ids
    )
    mean, deviation = scaler.mean, scaler.deviation
    sensor = rng.integers(nodes, size=count)
    start = rng.integers(steps - length + 1, size=count)
    rows = start[:, None] + np.arange(length)
    columns = sensor[:, None]
    return WindowSample(
        values=(filled[rows, columns] - mean[columns]) / deviation[columns],
        sensor=sensor,
        start=start,
        filled_share=float(series.missing[rows, columns].mean()),
    )
