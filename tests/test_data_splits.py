"""Both conventions give the field's counts, and their parts keep apart."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import split_windows, training_rows

SIZES = {"window": st.integers(1, 12), "horizon": st.integers(1, 12)}


@pytest.mark.parametrize(
    ("size", "convention", "counts"),
    [
        (12, "windows", [23974, 3425, 6850]),
        (12, "time", [23967, 3404, 6831]),
        (36, "time", [23919, 3356, 6783]),
    ],
)
def test_metr_la_splits_into_the_counts_of_the_field(size, convention, counts):
    split = split_windows(34272, size, size, convention)
    assert [len(part) for part in split] == counts
    assert {part.dtype for part in split} == {np.dtype(np.int32)}


@given(steps=st.integers(150, 2000), **SIZES)
def test_windows_first_means_every_window_once_and_in_order(steps, window, horizon):
    split = split_windows(steps, window, horizon)
    count = steps - window - horizon + 1
    np.testing.assert_array_equal(np.concatenate(split), np.arange(count))
    assert abs(len(split.train) - 0.7 * count) <= 0.5
    assert abs(len(split.test) - 0.2 * count) <= 0.5


@given(steps=st.integers(250, 2000), **SIZES)
def test_time_first_means_that_no_step_is_in_two_parts(steps, window, horizon):
    split = split_windows(steps, window, horizon, "time")
    for earlier, later in itertools.pairwise(split):
        assert earlier[-1] + window + horizon == later[0]
    assert split.train[0] == 0
    assert steps - 2 <= split.test[-1] + window + horizon <= steps


@given(steps=st.integers(250, 2000), **SIZES)
@pytest.mark.parametrize("convention", ["windows", "time"])
def test_training_rows_are_what_training_windows_touch(
    convention, steps, window, horizon
):
    split = split_windows(steps, window, horizon, convention)
    rows = training_rows(split, window, horizon)
    touched = split.train[:, None] + np.arange(window + horizon)
    assert set(range(steps)[rows]) == set(touched.ravel().tolist())


@pytest.mark.parametrize("convention", ["windows", "time"])
@pytest.mark.parametrize("window", [1, 5])
def test_a_series_too_short_is_told_how_many_steps_suffice(convention, window):
    rule = r"a window of \d and a horizon of 2 steps need a series of \d+ steps .*got "
    with pytest.raises(ValueError, match=rule + "0 steps") as caught:
        split_windows(0, window, 2, convention)
    enough = int(str(caught.value).split(" steps for ")[0].split()[-1])
    assert all(len(part) for part in split_windows(enough, window, 2, convention))
    for steps in range(enough):
        with pytest.raises(ValueError, match=rule + f"{steps} steps"):
            split_windows(steps, window, 2, convention)


def test_sizes_and_conventions_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="window must be at least 1, got 0"):
        split_windows(100, 0, 1)
    with pytest.raises(ValueError, match="horizon must be at least 1, got -1"):
        split_windows(100, 1, -1)
    unknown: Any = "random"
    with pytest.raises(ValueError, match="one of .*windows.*time.*, got 'random'"):
        split_windows(100, 1, 1, unknown)
