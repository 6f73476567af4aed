"""The numbers of a file as a series: what counts as missing, and whose fault it is."""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64

from data.series import TrafficSeries


def series_of_readings(
    path: Path,
    values: Float64[np.ndarray, "T N"],
    time: pd.DatetimeIndex,
    sensor_ids: tuple[str, ...],
    *,
    adjacency: Float64[np.ndarray, "N N"] | None,
    name: str,
) -> TrafficSeries:
    """Make a series of what a file holds; 0 and NaN are missing, and stored as 0.

    Args:
        path: The file, for the message.
        values: Readings in mph, shape (T, N).
        time: Time stamps of the T steps.
        sensor_ids: Name of each of the N sensors.
        adjacency: Weights of the sensor graph, shape (N, N), or None.
        name: Short name of the data set.

    Returns:
        The series.

    Raises:
        ValueError: If the parts make no valid series, or a speed is negative; the
            message names the file.
    """
    missing = np.isnan(values) | (values == 0)
    try:
        series = TrafficSeries(
            values=np.where(missing, 0.0, values),
            missing=missing,
            time=time,
            sensor_ids=sensor_ids,
            adjacency=adjacency,
            name=name,
        )
        if (values < 0).any():
            step, sensor = np.argwhere(values < 0)[0]
            raise ValueError(
                f"speeds must not be negative, got {values[step, sensor]} at step "
                f"{step} of sensor {sensor_ids[sensor]!r}; a missing one is 0 or NaN."
            )
        return series
    except ValueError as error:
        raise ValueError(f"{path} holds no valid series: {error}") from error


def check_file(path: Path, argument: str) -> None:
    """Refuse a path that is no file.

    Args:
        path: Where the file should be.
        argument: The argument that named it, for the message.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: {argument} must name a file.")
