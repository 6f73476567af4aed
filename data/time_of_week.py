"""What a sensor reads on average at this time of the week: the forecast to beat."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64

from data.calendar_features import (
    MINUTES_PER_DAY,
    MINUTES_PER_WEEK,
    slot_of_week,
    step_minutes,
)
from data.series import check_observed


class TimeOfWeekAverage(NamedTuple):
    """The average reading of each sensor in each slot of the week.

    Attributes:
        table: Averages in mph, shape (W, N), one row per slot of the week.
        minutes: Length of a slot.
    """

    table: Float64[np.ndarray, "W N"]
    minutes: float

    @classmethod
    def fit(
        cls,
        values: Float64[np.ndarray, "S N"],
        missing: Bool[np.ndarray, "S N"],
        time: pd.DatetimeIndex,
        sensor_ids: Sequence[str] | None = None,
    ) -> "TimeOfWeekAverage":
        """Average the observed readings of each sensor in each slot of the week.

        A slot is as long as the step of the series (at least a minute, at most a day).
        One in which a sensor was never observed takes the sensor's average at that
        time of day, over all days; failing that, over all its readings.

        Args:
            values: Speeds of the training part in mph, shape (S, N).
            missing: Where a reading is missing; what ``values`` has there is ignored.
            time: Time stamps of the S steps.
            sensor_ids: Names of the N sensors, for messages.

        Returns:
            The averages.

        Raises:
            ValueError: If a sensor has no observed reading, or there are fewer than
                two steps.

        Example:
            >>> import numpy as np, pandas as pd
            >>> time = pd.DatetimeIndex(["2012-03-05", "2012-03-06", "2012-03-12"])
            >>> values = np.array([[30.0], [40.0], [50.0]])  # Monday, Tuesday, Monday
            >>> average = TimeOfWeekAverage.fit(values, values == 0, time)
            >>> average.predict(pd.date_range("2012-03-19", periods=3))[:, 0].tolist()
            [40.0, 40.0, 40.0]
        """
        check_observed(missing, sensor_ids)
        minutes = min(max(step_minutes(time), 1.0), float(MINUTES_PER_DAY))
        observed = np.where(missing, 0.0, values)
        weekly = slot_of_week(time, minutes)
        slots = np.arange(math.ceil(MINUTES_PER_WEEK / minutes))
        daily = np.floor_divide(slots * minutes % MINUTES_PER_DAY, minutes)
        daily = daily.astype(np.int64)  # slot of the day of each slot of the week
        table = _mean_by_slot(observed, missing, weekly, len(slots))
        by_day = _mean_by_slot(observed, missing, daily[weekly], daily.max() + 1)[daily]
        whole = _mean_by_slot(observed, missing, np.zeros_like(weekly), 1)
        table = np.where(np.isnan(table), by_day, table)
        return cls(np.where(np.isnan(table), whole, table), minutes)

    def predict(self, time: pd.DatetimeIndex) -> Float64[np.ndarray, "S N"]:
        """The averages at any time stamps, past or future.

        Args:
            time: Time stamps of S steps, in the local time that was fitted.

        Returns:
            Speeds in mph, shape (S, N).
        """
        return self.table[slot_of_week(time, self.minutes)]


def _mean_by_slot(
    values: Float64[np.ndarray, "S N"],
    missing: Bool[np.ndarray, "S N"],
    slot: Int64[np.ndarray, " S"],
    slots: int,
) -> Float64[np.ndarray, "slots N"]:
    """Mean of the observed readings in each slot; NaN where there is none."""
    total = np.zeros((slots, values.shape[1]))
    count = np.zeros_like(total)
    np.add.at(total, slot, values)
    np.add.at(count, slot, ~missing)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
