"""A traffic series: readings of N sensors at T time steps, checked when it is made."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrafficSeries:
    """Speeds of N sensors over T time steps, and which of them are missing.

    Attributes:
        values: Speeds in mph, shape (T, N), float64, finite everywhere. Loaders store
            0 where a reading is missing, whether the file has 0 or NaN there.
        missing: Where a reading is missing, shape (T, N).
        time: Time stamps of the T steps, strictly increasing.
        sensor_ids: Name of each of the N sensors, no two alike.
        adjacency: Weights of the sensor graph, shape (N, N), or None if unknown.
        name: Short name of the data set.

    Raises:
        ValueError: If shapes or types disagree, a value is not finite, the time does
            not increase, or two sensors share an id.

    Example:
        >>> import numpy as np, pandas as pd
        >>> series = TrafficSeries(
        ...     values=np.array([[0.0], [60.0], [0.0]]),
        ...     missing=np.array([[True], [False], [True]]),
        ...     time=pd.date_range("2012-03-01", periods=3, freq="5min"),
        ...     sensor_ids=("773869",),
        ...     name="tiny",
        ... )
        >>> series.forward_fill()[:, 0].tolist()
        [60.0, 60.0, 60.0]
    """

    values: Float64[np.ndarray, "T N"]
    missing: Bool[np.ndarray, "T N"]
    time: pd.DatetimeIndex
    sensor_ids: tuple[str, ...]
    adjacency: Float64[np.ndarray, "N N"] | None = None
    name: str

    def __post_init__(self) -> None:
        """Refuse a series whose parts do not fit together."""
        _check_array("values", self.values, np.dtype(np.float64))
        _check_array("missing", self.missing, np.dtype(np.bool_))
        shape = (len(self.time), len(self.sensor_ids))
        if 0 in shape or not self.values.shape == self.missing.shape == shape:
            raise ValueError(
                "values and missing must have one row per time stamp and one column "
                f"per sensor id, at least one of each: got {self.values.shape} and "
                f"{self.missing.shape} for {shape[0]} stamps and {shape[1]} ids."
            )
        if not np.isfinite(self.values).all():
            step, sensor = np.argwhere(~np.isfinite(self.values))[0]
            raise ValueError(
                f"values must be finite, got {self.values[step, sensor]} at step "
                f"{step} of sensor {self.sensor_ids[sensor]!r}."
            )
        if len(set(self.sensor_ids)) < len(self.sensor_ids):
            twice = next(s for s in self.sensor_ids if self.sensor_ids.count(s) > 1)
            raise ValueError(f"sensor_ids must differ, but {twice!r} occurs twice.")
        self._check_time()
        if self.adjacency is not None:
            self._check_adjacency(self.adjacency)

    def _check_time(self) -> None:
        stamps = self.time.asi8
        if self.time.hasnans or (np.diff(stamps) <= 0).any():
            late = 1 + int(np.argmax(np.diff(stamps) <= 0)) if len(stamps) > 1 else 0
            raise ValueError(
                "time must be strictly increasing, got "
                f"{self.time[late]} at step {late}."
            )

    def _check_adjacency(self, adjacency: np.ndarray) -> None:
        _check_array("adjacency", adjacency, np.dtype(np.float64))
        nodes = len(self.sensor_ids)
        if adjacency.shape != (nodes, nodes):
            raise ValueError(
                f"adjacency must have shape {(nodes, nodes)}, one row and column per "
                f"sensor, got {adjacency.shape}."
            )
        if not (np.isfinite(adjacency) & (adjacency >= 0)).all():
            bad = adjacency[~(np.isfinite(adjacency) & (adjacency >= 0))][0]
            raise ValueError(f"adjacency must be finite and not negative, got {bad}.")

    def forward_fill(self) -> Float64[np.ndarray, "T N"]:
        """The values, each missing one replaced by the sensor's last observed one.

        A gap at the beginning takes the sensor's first observed value.

        Returns:
            Speeds in mph, shape (T, N), without missing entries.

        Raises:
            ValueError: If a sensor is missing throughout.
        """
        check_observed(self.missing, self.sensor_ids)
        source = np.maximum(self.last_observed(), np.argmin(self.missing, axis=0))
        return np.take_along_axis(self.values, source, axis=0)

    def last_observed(self) -> Int[np.ndarray, "T N"]:
        """The step of each sensor's newest observed reading so far; -1 before any."""
        steps = np.arange(len(self.time))[:, None]
        return np.maximum.accumulate(np.where(self.missing, -1, steps), axis=0)


def check_observed(
    missing: Bool[np.ndarray, "T N"], sensor_ids: Sequence[str] | None = None
) -> None:
    """Refuse readings among which a sensor has none."""
    if missing.all(axis=0).any():
        column = int(np.argmax(missing.all(axis=0)))
        silent = column if sensor_ids is None else sensor_ids[column]
        raise ValueError(
            f"each sensor needs an observed reading, but {silent!r} is missing at "
            f"all {len(missing)} steps."
        )


def _check_array(name: str, array: np.ndarray, dtype: np.dtype) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 2:
        found = getattr(array, "dtype", type(array).__name__)
        raise ValueError(
            f"{name} must be a two-dimensional {dtype} array, got {found} of shape "
            f"{np.shape(array)}."
        )
