"""Baselines by hand, and what they reach on real traffic."""

import numpy as np
import pandas as pd
import pytest

from data import Prepared, TrafficSeries, load_metr_la, prepare
from models.baselines import LastValue, Ridge, TimeOfWeek, baselines, ridge_bytes
from tests.data_files import real

T, H = 3, 2


def tiny(values: np.ndarray | None = None, **options) -> Prepared:
    """Two sensors over two weeks of six-hour steps, about one in six missing."""
    if values is None:
        rng = np.random.default_rng(0)
        values = rng.uniform(20, 70, (56, 2)).round()
        values[rng.random(values.shape) < 0.15] = 0
    series = TrafficSeries(
        values=values,
        missing=values == 0,
        time=pd.date_range("2012-03-01", periods=len(values), freq="6h"),
        sensor_ids=("a", "b"),
        name="tiny",
    )
    return prepare(series, window=T, horizon=H, **options)


def all_starts(prepared: Prepared) -> np.ndarray:
    """Starts of all windows."""
    return np.arange(len(prepared.series.time) - T - H + 1)


# --- by hand ------------------------------------------------------------------------


def test_the_last_value_is_the_last_one_that_was_observed():
    values = np.full((56, 2), 50.0)
    values[:8, 0] = [0, 0, 0, 0, 30, 0, 0, 40]
    prepared = tiny(values)
    forecast = LastValue(prepared).predict(all_starts(prepared)[:7])
    assert forecast.shape == (7, H, 2)
    mean = float(prepared.scaler.mean[0])  # nothing has been observed in windows 0, 1
    expected = [mean, mean, 30, 30, 30, 40, 50]
    np.testing.assert_allclose(forecast[:, :, 0], np.repeat(expected, H).reshape(7, H))
    assert (forecast[:, :, 1] == 50).all()


@pytest.mark.parametrize("convention", ["windows", "time"])
def test_the_time_of_week_is_the_mean_of_the_training_steps_at_that_time(convention):
    prepared = tiny(split=convention)
    starts = prepared.split.test
    forecast = TimeOfWeek(prepared).predict(starts)
    series, last = prepared.series, prepared.split.train[-1] + T + H
    slot, found = series.time.strftime("%a %H"), 0
    for w, h, n in np.ndindex(forecast.shape):
        same = [
            series.values[step, n]
            for step in range(last)
            if slot[step] == slot[starts[w] + T + h] and not series.missing[step, n]
        ]
        if same:
            found += 1
            assert forecast[w, h, n] == pytest.approx(np.mean(same))
    assert found > forecast.size / 2


def ridge_by_hand(prepared: Prepared, penalty: float, starts: np.ndarray) -> np.ndarray:
    """Normal equations, from explicit loops over windows."""
    mean, deviation = (
        float(prepared.scaler.mean[0]),
        float(prepared.scaler.deviation[0]),
    )
    average = prepared.averages
    speeds = np.where(prepared.series.missing, average, prepared.series.values)
    z, z_average = (speeds - mean) / deviation, (average - mean) / deviation

    def features(s: int) -> np.ndarray:
        ahead = z_average[s + T : s + T + H]
        return np.concatenate([z[s : s + T].ravel(), ahead.ravel(), [1.0]])

    train = prepared.split.train
    X = np.array([features(s) for s in train])
    Y = np.array([z[s + T : s + T + H].ravel() for s in train])
    gram = X.T @ X + penalty * len(train) * np.eye(X.shape[1])
    W = np.linalg.inv(gram) @ X.T @ Y
    scores = np.array([features(s) @ W for s in starts])
    return scores.reshape(len(starts), H, 2) * deviation + mean


def test_a_ridge_solves_the_normal_equations():
    prepared = tiny()
    starts = all_starts(prepared)
    actual = Ridge(prepared, penalties=(0.03,)).predict(starts)
    expected = ridge_by_hand(prepared, 0.03, starts)
    np.testing.assert_allclose(actual, expected, rtol=1e-9)


def test_a_ridge_takes_the_penalty_with_the_least_validation_error():
    prepared, penalties = tiny(), (1e-4, 0.1, 100.0)
    windows = prepared.split.validation
    rows = windows[:, None] + T + np.arange(H)
    truth, missing = prepared.series.values[rows], prepared.series.missing[rows]
    errors = [
        np.abs(ridge_by_hand(prepared, penalty, windows) - truth)[~missing].mean()
        for penalty in penalties
    ]
    best = penalties[int(np.argmin(errors))]
    assert best != penalties[0]  # else the first one would do as well
    starts = prepared.split.test
    actual = Ridge(prepared, penalties=penalties).predict(starts)
    np.testing.assert_allclose(actual, ridge_by_hand(prepared, best, starts), rtol=1e-9)


def test_a_ridge_recovers_a_linear_law():
    phase = np.arange(560)[:, None] * np.array([0.7, 1.1])
    prepared = tiny(50 + 10 * np.cos(phase))  # x[t+1] = 2 cos(w) x[t] - x[t-1]
    starts = prepared.split.test
    actual = Ridge(prepared, penalties=(1e-10,)).predict(starts)
    expected = prepared.series.values[starts[:, None] + T + np.arange(H)]
    np.testing.assert_allclose(actual, expected, atol=1e-4)


# --- no leak ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [LastValue, TimeOfWeek, Ridge])
def test_nothing_that_a_window_has_not_read_changes_its_forecast(kind):
    before = tiny()
    first = int(before.split.test[0]) + T + 3
    values = before.series.values.copy()
    values[first:] = values[first:][::-1] + 7  # the rest of the test part
    after = tiny(values)
    starts = np.arange(first - T + 1)  # the last of them reads up to first - 1
    same, changed = (kind(each).predict(starts) for each in (before, after))
    np.testing.assert_array_equal(same, changed)
    later = all_starts(before)[-3:]
    moved = kind(before).predict(later) != kind(after).predict(later)
    assert moved.any() == (kind is not TimeOfWeek)


def test_no_training_reading_is_in_its_own_average():
    before = tiny()
    for step, sensor in np.argwhere(~before.series.missing[:30])[::7]:
        values = before.series.values.copy()
        values[step, sensor] += 30
        moved = tiny(values).averages != before.averages
        assert moved.any()
        assert not moved[step, sensor]


def test_forecasts_do_not_depend_on_which_windows_are_asked_for():
    prepared = tiny()
    starts = all_starts(prepared)
    for baseline in baselines(prepared):
        together, alone = baseline.predict(starts), baseline.predict(starts[5:6])
        np.testing.assert_allclose(together[5:6], alone, rtol=1e-12)


def test_all_baselines_have_a_name_and_one_shape():
    prepared = tiny()
    found = {b.name: b.predict(prepared.split.test).shape for b in baselines(prepared)}
    shape = (len(prepared.split.test), H, 2)
    assert found == {"last value": shape, "time of week": shape, "ridge": shape}


def test_a_ridge_too_large_for_the_memory_is_left_out():
    prepared = tiny()
    features, forecasts = (T + H) * 2 + 1, H * 2
    needed = 8 * features * (2 * features + 3 * forecasts)
    assert ridge_bytes(prepared) == needed
    names = [[b.name for b in baselines(prepared, m)] for m in (needed, needed - 1)]
    assert names == [["last value", "time of week", "ridge"], names[0][:2]]


# --- on real traffic ----------------------------------------------------------------

# Masked test MAE in mph at steps 3, 6 and 12, as measured when this was written: what
# a forecaster is said to beat must not move unnoticed.
REACHED = {
    "last value": (3.633, 4.402, 5.650),
    "time of week": (4.292, 4.293, 4.294),
    "ridge": (3.346, 3.836, 4.253),
}


@pytest.mark.slow
def test_what_baselines_reach_on_metr_la():
    prepared = prepare(load_metr_la(real("metr-la-29")), window=12, horizon=12)
    starts = prepared.split.test
    rows = starts[:, None] + 12 + np.arange(12)
    truth, missing = prepared.series.values[rows], prepared.series.missing[rows]
    for baseline in baselines(prepared):
        error = np.abs(baseline.predict(starts) - truth)
        maes = [error[:, h][~missing[:, h]].mean() for h in (2, 5, 11)]
        np.testing.assert_allclose(maes, REACHED[baseline.name], atol=2e-3)
