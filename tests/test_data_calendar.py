"""Time of day, slots of the week, and the average reading in each slot."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import TimeOfWeekAverage
from data._calendar import slot_of_week, step_minutes, time_of_day
from data.time_of_week import averages_without_own


def fit(stamps, readings):
    """The average of one sensor; 0 is missing."""
    values = np.array(readings, dtype=float)[:, None]
    return TimeOfWeekAverage.fit(values, values == 0, pd.DatetimeIndex(stamps))


# --- the calendar -------------------------------------------------------------------


def test_time_of_day_begins_anew_each_day():
    time = pd.date_range("2012-03-01", periods=3 * 288, freq="5min")
    expected = np.tile(np.arange(288) / 288, 3)
    np.testing.assert_allclose(time_of_day(time), expected, rtol=1e-15)


def test_time_of_day_is_that_of_the_clock_when_summer_time_begins_and_ends():
    stamps = ["2017-03-12 12:00", "2017-11-05 23:59:30.5"]  # days of 23 and 25 hours
    time = pd.DatetimeIndex(stamps).tz_localize("America/Los_Angeles")
    seconds = np.array([43200, 86370.5])
    np.testing.assert_allclose(time_of_day(time), seconds / 86400, rtol=1e-15)


@pytest.mark.parametrize("minutes", [1, 5, 7, 15, 60, 1440])
def test_slots_count_up_from_monday_and_begin_anew_each_week(minutes):
    time = pd.date_range("2012-03-05", periods=2 * 10080, freq="1min")  # a Monday
    expected = np.tile(np.arange(10080) // minutes, 2)
    np.testing.assert_array_equal(slot_of_week(time, minutes), expected)


@pytest.mark.parametrize("minutes", [0, -5, 10081])
def test_a_slot_that_is_no_part_of_a_week_is_refused(minutes):
    with pytest.raises(ValueError, match=f"at most 10080, got {minutes}"):
        slot_of_week(pd.DatetimeIndex(["2012-03-05"]), minutes)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_the_step_is_the_commonest_one(unit):
    time = pd.date_range("2017-03-12", "2017-03-12 03:30", freq="5min", unit=unit)
    summer = time[(time.hour != 2)]  # an hour is skipped
    assert step_minutes(summer) == 5.0
    with pytest.raises(ValueError, match="at least 2 stamps, got 1"):
        step_minutes(summer[:1])


# --- the average --------------------------------------------------------------------


def test_a_slot_is_the_mean_of_its_observed_readings():
    weeks = ["2012-03-05", "2012-03-12", "2012-03-19"]
    stamps = [f"{day} 08:{minute}" for day in weeks for minute in ("00", "05")]
    average = fit(stamps, [30, 9, 0, 0, 50, 11])
    later = pd.DatetimeIndex(["2013-01-07 08:00", "2013-01-07 08:05"])
    assert average.minutes == 5
    assert average.predict(later)[:, 0].tolist() == [40.0, 10.0]


def test_slots_are_at_least_a_minute_and_at_most_a_day():
    weekly = pd.date_range("2012-03-05", periods=3, freq="7D")
    average = fit(weekly, [1, 2, 6])
    assert average.minutes == 1440
    assert average.predict(weekly)[:, 0].tolist() == [3.0] * 3
    seconds = pd.date_range("2012-03-05", periods=120, freq="1s")
    average = fit(seconds, [1] * 60 + [2] * 60)
    assert average.minutes == 1
    assert average.predict(seconds[[0, 59, 60]])[:, 0].tolist() == [1.0, 1.0, 2.0]


def test_an_unseen_slot_takes_the_day_and_an_unseen_time_of_day_takes_all():
    stamps = pd.date_range("2012-03-05", periods=3, freq="12h")  # Monday, Tuesday
    average = fit(stamps, [10, 40, 30])
    week = pd.date_range("2012-03-05", periods=14, freq="12h")
    expected = [10, 40, 30, 40] + 5 * [20, 40]
    assert average.predict(week)[:, 0].tolist() == expected
    average = fit(stamps, [10, 0, 30])  # nothing at noon on any day
    assert average.predict(week)[:, 0].tolist() == [10, 20, 30, 20] + 5 * [20, 20]


@given(st.integers(0, 20), st.sampled_from(["5min", "15min", "7min", "1D"]))
def test_the_average_agrees_with_a_group_by_of_pandas(seed, step):
    rng = np.random.default_rng(seed)
    time = pd.date_range("2012-03-01 03:10", periods=700, freq=step)
    values = rng.normal(50, 9, (700, 2))
    missing = rng.random((700, 2)) < 0.4
    average = TimeOfWeekAverage.fit(values, missing, time)
    table = pd.DataFrame(np.where(missing, np.nan, values))
    slot = slot_of_week(time, average.minutes)
    seen = table.groupby(slot).transform("mean").to_numpy()
    predicted = average.predict(time)
    known = ~np.isnan(seen)
    np.testing.assert_allclose(predicted[known], seen[known], rtol=1e-12)
    assert np.isfinite(average.table).all()
    assert (predicted[~known] >= np.nanmin(table)).all()


@given(st.integers(0, 20), st.sampled_from(["5min", "1h", "15min", "1D"]))
def test_averages_without_own_are_those_of_the_other_weeks(seed, step):
    rng = np.random.default_rng(seed)
    time = pd.date_range("2012-03-01 03:10", periods=700, freq=step)
    values = rng.normal(50, 9, (700, 2))
    missing = rng.random((700, 2)) < 0.4
    found = averages_without_own(values, missing, time)
    minutes = TimeOfWeekAverage.fit(values, missing, time).minutes
    week, day = slot_of_week(time, minutes), (time.hour * 60 + time.minute) // minutes
    for s, n in rng.integers(0, [700, 2], (20, 2)):
        others = ~missing[:, n] & (np.arange(700) != s)
        same = (week == week[s], day == day[s], np.full(700, True))
        finest = next(some for some in same if (some & others).any())
        expected = values[finest & others, n].mean()
        assert found[s, n] == pytest.approx(expected, rel=1e-12)


def test_a_single_reading_has_no_other_average_than_itself():
    time = pd.date_range("2012-03-05", periods=2, freq="D")
    values, missing = np.array([[10.0], [0.0]]), np.array([[False], [True]])
    assert averages_without_own(values, missing, time).tolist() == [[10.0], [10.0]]


def test_each_sensor_falls_back_to_readings_of_its_own():
    time = pd.date_range("2012-03-05", periods=2, freq="D")
    values = np.array([[10.0, 1.0], [30.0, 5.0]])
    missing = np.array([[False, True], [False, False]])
    average = TimeOfWeekAverage.fit(values, missing, time)
    assert average.predict(time).tolist() == [[10.0, 5.0], [30.0, 5.0]]
    silent = missing | np.array([False, True])
    with pytest.raises(ValueError, match="but 'b' is missing at all 2 steps"):
        TimeOfWeekAverage.fit(values, silent, time, ("a", "b"))
