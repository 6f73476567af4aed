"""Where in the day and in the week a time stamp lies, in its own local time."""

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

MINUTES_PER_DAY = 24 * 60
MINUTES_PER_WEEK = 7 * MINUTES_PER_DAY


def time_of_day(time: pd.DatetimeIndex) -> Float64[np.ndarray, " S"]:
    """The share of the day that has passed on the clock: 0 at midnight, 0.5 at noon.

    Args:
        time: Time stamps of S steps.

    Returns:
        Shares in [0, 1).

    Example:
        >>> import pandas as pd
        >>> time = pd.DatetimeIndex(["2012-03-01 00:00", "2012-03-01 18:00"])
        >>> time_of_day(time).tolist()
        [0.0, 0.75]
    """
    return _minute_of_day(time) / MINUTES_PER_DAY


def slot_of_week(time: pd.DatetimeIndex, minutes: float) -> Int64[np.ndarray, " S"]:
    """The slot of the week that a time stamp lies in; slot 0 begins on Monday at 0:00.

    Args:
        time: Time stamps of S steps.
        minutes: Length of a slot. If a week is no multiple of it, the last is shorter.

    Returns:
        Slots from 0 to ``ceil(10080 / minutes) - 1``.

    Raises:
        ValueError: If ``minutes`` is not above 0 and at most a week.

    Example:
        >>> import pandas as pd
        >>> time = pd.DatetimeIndex(["2012-03-05 00:04", "2012-03-11 23:55"])
        >>> slot_of_week(time, 5).tolist()
        [0, 2015]
    """
    if not 0 < minutes <= MINUTES_PER_WEEK:
        raise ValueError(
            f"minutes must be above 0 and at most {MINUTES_PER_WEEK}, got {minutes}."
        )
    day = np.asarray(time.day_of_week, dtype=np.int64)
    minute = day * MINUTES_PER_DAY + _minute_of_day(time)
    return np.floor_divide(minute, minutes).astype(np.int64)


def step_minutes(time: pd.DatetimeIndex) -> float:
    """The step of a series: the commonest difference of neighbouring time stamps.

    Not the mean: files have gaps, such as the hour that summer time skips.

    Args:
        time: Time stamps, at least two, increasing.

    Returns:
        The step in minutes.

    Raises:
        ValueError: If there are fewer than two time stamps.

    Example:
        >>> import pandas as pd
        >>> step_minutes(pd.date_range("2012-03-01", periods=9, freq="5min"))
        5.0
    """
    if len(time) < 2:
        raise ValueError(f"time must have at least 2 stamps, got {len(time)}.")
    steps, counts = np.unique(np.diff(time.asi8), return_counts=True)
    unit = pd.Timedelta(1, unit=time.unit)
    return float(steps[np.argmax(counts)] * (unit / pd.Timedelta(minutes=1)))


def _minute_of_day(time: pd.DatetimeIndex) -> np.ndarray:
    """Minutes since midnight on the clock, which days of 23 and 25 hours keep too."""
    seconds = 1e-6 * time.microsecond + 1e-9 * time.nanosecond + time.second
    return np.asarray(time.hour * 60 + time.minute + seconds / 60, dtype=np.float64)
