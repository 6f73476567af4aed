"""Where in the day and in the week a time stamp lies, in its own local time."""

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

MINUTES_PER_DAY = 24 * 60
MINUTES_PER_WEEK = 7 * MINUTES_PER_DAY


def time_of_day(time: pd.DatetimeIndex) -> Float64[np.ndarray, " S"]:
    """The share of the day that has passed on the clock: 0 at midnight, 0.5 at noon."""
    return _minute_of_day(time) / MINUTES_PER_DAY


def slot_of_week(time: pd.DatetimeIndex, minutes: float) -> Int64[np.ndarray, " S"]:
    """The slot of the week, from Monday at 0:00 on; the last one may be shorter."""
    if not 0 < minutes <= MINUTES_PER_WEEK:
        raise ValueError(
            f"minutes must be above 0 and at most {MINUTES_PER_WEEK}, got {minutes}."
        )
    day = np.asarray(time.day_of_week, dtype=np.int64)
    minute = day * MINUTES_PER_DAY + _minute_of_day(time)
    return np.floor_divide(minute, minutes).astype(np.int64)


def step_minutes(time: pd.DatetimeIndex) -> float:
    """The commonest step of a series: the mean would count the gaps of files."""
    if len(time) < 2:
        raise ValueError(f"time must have at least 2 stamps, got {len(time)}.")
    steps, counts = np.unique(np.diff(time.asi8), return_counts=True)
    unit = pd.Timedelta(1, unit=time.unit)
    return float(steps[np.argmax(counts)] * (unit / pd.Timedelta(minutes=1)))


def _minute_of_day(time: pd.DatetimeIndex) -> np.ndarray:
    """Minutes since midnight on the clock, which days of 23 and 25 hours keep too."""
    seconds = 1e-6 * time.microsecond + 1e-9 * time.nanosecond + time.second
    return np.asarray(time.hour * 60 + time.minute + seconds / 60, dtype=np.float64)
