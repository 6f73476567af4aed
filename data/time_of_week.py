"""What a sensor reads on average at this time of the week: the forecast to beat."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64

from data._calendar import (
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
        sums = _Sums.of(values, missing, time)
        table = np.full((len(sums.daily), values.shape[1]), np.nan)
        for slot, total, count in sums.from_fine_to_coarse():
            table = np.where(np.isnan(table), _mean(total, count)[slot], table)
        return cls(table, sums.minutes)

    def predict(self, time: pd.DatetimeIndex) -> Float64[np.ndarray, "S N"]:
        """The averages at any time stamps, past or future.

        Args:
            time: Time stamps of S steps, in the local time that was fitted.

        Returns:
            Speeds in mph, shape (S, N).
        """
        return self.table[slot_of_week(time, self.minutes)]


def averages_without_own(
    values: Float64[np.ndarray, "S N"],
    missing: Bool[np.ndarray, "S N"],
    time: pd.DatetimeIndex,
) -> Float64[np.ndarray, "S N"]:
    """The average at each step of the readings at that time of *other* weeks."""
    # A model that is trained on the training part's plain averages finds a share 1/m of
    # each answer in its input (all of it where the part is one week long), which no
    # test reading is. So each of the m readings of a slot gets the mean of the others.
    # Where a slot has no other reading, those of other days at that time of day count;
    # failing that all other readings, and failing that the step's own.
    sums = _Sums.of(values, missing, time)
    own = np.where(missing, 0.0, values)
    found = np.full_like(own, np.nan)
    for slot, total, count in sums.from_fine_to_coarse():
        row = slot[sums.weekly]
        others = _mean(total[row] - own, count[row] - ~missing)
        found = np.where(np.isnan(found), others, found)
    return np.where(np.isnan(found), own, found)


class _Sums(NamedTuple):
    """Sums of the observed readings by slot of the week."""

    total: Float64[np.ndarray, "W N"]
    readings: Float64[np.ndarray, "W N"]  # how many there are
    weekly: Int64[np.ndarray, " S"]  # slot of the week of each step
    daily: Int64[np.ndarray, " W"]  # slot of the day of each slot of the week
    minutes: float  # length of a slot

    @classmethod
    def of(
        cls, values: np.ndarray, missing: np.ndarray, time: pd.DatetimeIndex
    ) -> Self:
        minutes = min(max(step_minutes(time), 1.0), float(MINUTES_PER_DAY))
        weekly = slot_of_week(time, minutes)
        slots = np.arange(math.ceil(MINUTES_PER_WEEK / minutes))
        daily = np.floor_divide(slots * minutes % MINUTES_PER_DAY, minutes)
        total = _by_slot(np.where(missing, 0.0, values), weekly, len(slots))
        readings = _by_slot(~missing, weekly, len(slots))
        return cls(total, readings, weekly, daily.astype(np.int64), minutes)

    def from_fine_to_coarse(
        self,
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Which sum each slot of the week belongs to, sums and counts."""
        for slot in (np.arange(len(self.daily)), self.daily, np.zeros_like(self.daily)):
            count = slot.max() + 1
            total, readings = (
                _by_slot(sums, slot, count) for sums in (self.total, self.readings)
            )
            yield slot, total, readings


def _by_slot(
    rows: Float64[np.ndarray, "S N"] | Bool[np.ndarray, "S N"],
    slot: Int64[np.ndarray, " S"],
    slots: int,
) -> Float64[np.ndarray, "slots N"]:
    """The sum of the rows in each slot."""
    total = np.zeros((slots, rows.shape[1]))
    np.add.at(total, slot, rows)
    return total


def _mean(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Total over count; NaN where there is none."""
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
