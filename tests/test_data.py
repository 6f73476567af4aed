"""Series and windows are what they say, those of the real files among them."""

import numpy as np
import pandas as pd
import pytest

from data import draw_windows, load_metr_la
from tests.data_files import real, series

# --- the real files -----------------------------------------------------------------


def test_the_29_sensors_of_metr_la_load_as_described():
    loaded = load_metr_la(real("metr-la-29"))
    assert loaded.values.shape == (34272, 29)
    assert round(100 * loaded.missing.mean(), 2) == 7.75
    assert (loaded.values[loaded.missing] == 0).all()
    assert str(loaded.time[0]) == "2012-03-01 00:00:00"
    assert str(loaded.time[-1]) == "2012-06-27 23:55:00"
    assert loaded.adjacency is not None
    assert (np.diag(loaded.adjacency) == 1).all()


def test_the_python_2_graph_of_all_207_sensors_loads():
    loaded = load_metr_la(real("metr-la-207-week1"))
    assert loaded.values.shape == (2016, 207)
    assert loaded.adjacency is not None
    assert np.count_nonzero(loaded.adjacency) == 1722


# --- the series ---------------------------------------------------------------------

DAY = pd.Timestamp("2012-03-01")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"values": np.zeros((4, 2), np.float32)}, "values must be .* float64 array"),
        (
            {"values": np.full((4, 2), np.nan)},
            "finite, got nan at step 0 of sensor 'a'",
        ),
        ({"missing": np.zeros((4, 2))}, "missing must be .* bool array"),
        ({"missing": np.zeros((4, 3), bool)}, r"\(4, 2\) and \(4, 3\)"),
        ({"sensor_ids": ("a", "a")}, "'a' occurs twice"),
        ({"time": pd.DatetimeIndex([DAY] * 4)}, "strictly increasing, .* at step 1"),
        ({"adjacency": np.eye(3)}, r"adjacency must have shape \(2, 2\)"),
        ({"adjacency": -np.eye(2)}, "not negative, got -1.0"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, rule):
    with pytest.raises(ValueError, match=rule):
        series(**changes)


def test_forward_fill_takes_the_last_reading_and_the_first_at_the_beginning():
    values = np.array([[0.0, 5], [7, 0], [0, 0], [9, 6]])
    expected = [[7.0, 5], [7, 5], [7, 5], [9, 6]]
    assert series(values).forward_fill().tolist() == expected


def test_a_sensor_missing_throughout_is_named():
    with pytest.raises(ValueError, match="'b' is missing at all 4 steps"):
        series(np.array([[1.0, 0]] * 4)).forward_fill()


# --- windows ------------------------------------------------------------------------


def test_windows_are_the_filled_readings_in_units_of_the_observed_spread():
    source = series()
    sample = draw_windows(source, 3, 50, np.random.default_rng(1))
    filled = source.forward_fill()
    share = 0
    for window, sensor, start in zip(*sample[:3], strict=True):
        observed = source.values[~source.missing[:, sensor], sensor]
        expected = (
            filled[start : start + 3, sensor] - observed.mean()
        ) / observed.std()
        np.testing.assert_allclose(window, expected, rtol=1e-14)
        share += source.missing[start : start + 3, sensor].mean() / 50
    assert sample.filled_share == pytest.approx(share)
    assert set(sample.sensor.tolist()) == {0, 1}
    assert set(sample.start.tolist()) == {0, 1}


def test_the_same_seed_gives_the_same_windows():
    one, two = (draw_windows(series(), 2, 9, np.random.default_rng(5)) for _ in "ab")
    np.testing.assert_array_equal(one.values, two.values)
    np.testing.assert_array_equal(one.start, two.start)


@pytest.mark.parametrize(
    ("length", "count", "rule"),
    [
        (0, 1, "length must be at least 1, got 0"),
        (1, 0, "count must be at least 1, got 0"),
        (5, 1, r"length \(5\) must not exceed the 4 steps"),
    ],
)
def test_sizes_that_cannot_be_drawn_are_refused(length, count, rule):
    with pytest.raises(ValueError, match=rule):
        draw_windows(series(), length, count, np.random.default_rng(0))


def test_a_sensor_that_never_changes_is_named():
    flat = series(np.array([[0.1, 1], [0.1, 2], [0.1, 3], [0, 4]]))
    with pytest.raises(ValueError, match="'a' always reads 0.1 mph"):
        draw_windows(flat, 1, 1, np.random.default_rng(0))
