"""Seeds are independent models: alone, in turn or side by side, and when they stop."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import models.train._setup
from data import TrafficSeries
from data.splits import split_windows
from models.early_stopping import Recipe, TrainState, stop_early
from models.train._loop import validation_mae
from models.train._setup import Setup
from tests import train_runs
from tests.helpers import compiles_fast
from tests.train_runs import made, one_of, walk

command_line = train_runs.command_line


class Trained(NamedTuple):
    """A few epochs of a small model."""

    state: TrainState
    losses: np.ndarray
    setup: Setup


def trained(seeds, at_once=1) -> Trained:
    """Two epochs of these seeds."""
    setup = made("--seeds-at-once", at_once)
    state, losses = setup.trainer.init(seeds), []
    for _ in range(2):
        state, of_epoch = setup.trainer.epoch(state, setup.prepared.split.train, 0.01)
        losses.append(np.asarray(of_epoch))
        state = setup.trainer.judge(state, np.full(len(seeds), 3.0))
    return Trained(state, np.concatenate(losses, 1), setup)


@pytest.fixture(scope="module")
def in_turn():
    """Seeds 0 and 1, one after another."""
    return trained([0, 1])


@pytest.fixture(scope="module")
def side_by_side():
    """Seeds 0 and 1, as one batch of models."""
    return trained([0, 1], at_once=2)


BOTH = ["in_turn", pytest.param("side_by_side", marks=pytest.mark.slow)]


@pytest.mark.slow
def test_a_seed_trained_alone_is_the_same_to_the_last_bit(in_turn):
    alone = trained([1])
    assert (alone.losses[0] == in_turn.losses[1]).all()
    pairs = zip(one_of(alone.state, 0), one_of(in_turn.state, 1), strict=True)
    for one, other in pairs:
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_seeds_side_by_side_are_those_in_turn_up_to_rounding(in_turn, side_by_side):
    np.testing.assert_allclose(side_by_side.losses, in_turn.losses, rtol=1e-5)
    weights = [
        jax.tree.leaves_with_path(r.state.params) for r in (in_turn, side_by_side)
    ]
    for (path, one), (_, other) in zip(*weights, strict=True):
        if "key_bias" in jax.tree_util.keystr(path):
            continue  # moves no score: its gradient is rounding, which Adam scales up
        np.testing.assert_allclose(other, one, atol=1e-4)
    errors = [
        run.setup.trainer.evaluate(run.state.params, run.setup.prepared.split.test)
        for run in (in_turn, side_by_side)
    ]
    np.testing.assert_allclose(errors[1].absolute, errors[0].absolute, rtol=1e-5)
    np.testing.assert_array_equal(errors[1].count, errors[0].count)


@pytest.mark.slow
def test_seeds_differ_in_weights_and_shuffles(in_turn):
    assert not (in_turn.losses[0] == in_turn.losses[1]).any()
    drawn = jax.tree.leaves(in_turn.setup.trainer.init([0, 1]).params)
    assert any((part[0] != part[1]).all() for part in drawn)


@pytest.mark.slow
@pytest.mark.parametrize("how", BOTH)
def test_every_step_of_every_epoch_and_seed_draws_its_own_dropout(request, how):
    _, _, (_, prepared, trainer) = request.getfixturevalue(how)
    same = np.full_like(prepared.split.train, 7)  # one window all the time,
    state, losses = trainer.init([0, 1]), []
    alike = jax.tree.map(lambda w: jnp.stack([w[0], w[0]]), state.params)
    state = trainer.put(state._replace(params=alike))
    for _ in range(2):
        state, of_epoch = trainer.epoch(state, same, 0.0)  # and the same weights
        losses.append(np.asarray(of_epoch))
    assert len(np.unique(losses)) == 2 * 2 * 4


@pytest.mark.slow
@pytest.mark.parametrize("how", BOTH)
def test_a_seed_that_has_stopped_is_frozen_to_the_last_bit(request, how):
    before, _, (_, prepared, trainer) = request.getfixturevalue(how)
    state = jax.tree.map(jnp.copy, before)  # what is passed to an epoch is used up
    state = trainer.put(state._replace(stopped=jnp.array([False, True])))
    state, losses = trainer.epoch(state, prepared.split.train, 0.01)
    state = trainer.judge(state, np.array([1e-3, 1e-3]))
    assert np.isfinite(losses[0]).all()
    assert np.isnan(losses[1]).all()
    pairs = zip(one_of(state[:5], 1), one_of(before[:5], 1), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)
    moved = zip(one_of(state.params, 0), one_of(before.params, 0), strict=True)
    assert all((one != other).any() for one, other in moved)
    assert state.best_mae.tolist() == [np.float32(1e-3), 3.0]
    assert state.epoch.tolist() == [3, 2]
    assert state.stopped.tolist() == [False, True]


# --- early stopping -----------------------------------------------------------------


def judged(maes, patience=2):
    """One weight that is the number of the epoch, after these validation errors."""
    zero = jnp.zeros((), jnp.int32)
    state = TrainState(
        params=jnp.zeros(()),
        optimizer=(),
        best=jnp.asarray(-1.0),
        best_mae=jnp.asarray(jnp.inf, jnp.float32),
        since_best=zero,
        stopped=jnp.zeros((), bool),
        epoch=zero,
        key=jnp.zeros(2, jnp.uint32),
    )
    for number, mae in enumerate(maes, 1):
        state = state._replace(params=jnp.asarray(float(number)))
        state = stop_early(Recipe(patience=patience), state, jnp.float32(mae))
    return state


@pytest.mark.parametrize(
    ("maes", "best", "stopped"),
    [
        ([3.0], 1, False),
        ([3.0, 2.0, 2.5], 2, False),
        ([3.0, 2.0, 2.5, 2.5], 2, True),
        ([3.0, 2.0, 2.5, 1.5, 1.6], 4, False),  # patience begins anew
        ([3.0, 2.99995, 2.9999], 1, True),  # by less than counts
        ([3.0, 2.0, 2.5, 2.5, 1.0], 2, True),  # too late
        ([3.0, float("nan"), 2.0], 3, False),
    ],
)
def test_a_seed_stops_after_patience_and_keeps_its_best_weights(maes, best, stopped):
    state = judged(maes)
    assert float(state.best) == best
    assert bool(state.stopped) is stopped
    assert float(state.best_mae) == np.float32(maes[best - 1])


# --- no leak ------------------------------------------------------------------------


def recurring() -> TrafficSeries:
    """Seven weeks of four readings a day; a sensor is silent where each part ends."""
    series, missing = walk(), walk().missing.copy()
    for part in split_windows(len(series.time), 4, 3):
        missing[part[-1] - 3 : part[-1] + 4 + 3, 0] = True
    return dataclasses.replace(
        series,
        values=np.where(missing, 0.0, series.values),
        missing=missing,
        time=pd.date_range("2024-01-01", periods=len(series.time), freq="6h"),
    )


def doubled(series, first):
    """The series with all readings from a step on doubled."""
    values = series.values.copy()
    values[first:] *= 2
    return dataclasses.replace(series, values=values)


@pytest.mark.slow
@pytest.mark.parametrize(
    "choices", [("--time-of-week",), ("--scale", "global", "--fill", "mean")]
)
def test_no_number_of_training_or_validation_depends_on_later_rows(
    monkeypatch, choices
):
    def numbers_of(series):
        """Losses of an epoch over all windows, validation MAE and test errors."""
        monkeypatch.setattr(models.train._setup, "load_series", lambda options: series)
        _, prepared, trainer = made("--steps-per-epoch", 8, *choices)
        state, losses = trainer.epoch(trainer.init([0]), prepared.split.train, 0.01)
        mae = validation_mae(trainer, state.params, prepared.split.validation)
        test = trainer.evaluate(state.params, prepared.split.test)
        return np.asarray(losses), mae, test.absolute

    series = recurring()
    train, validation, _ = split_windows(len(series.time), 4, 3)
    with compiles_fast():
        losses, mae, test = numbers_of(series)
        untested = numbers_of(doubled(series, validation[-1] + 4 + 3))
        untrained = numbers_of(doubled(series, train[-1] + 4 + 3))
    np.testing.assert_array_equal(untested[0], losses)
    np.testing.assert_array_equal(untested[1], mae)
    assert np.all(untested[2] != test)  # the change is seen where it may be
    np.testing.assert_array_equal(untrained[0], losses)
    assert np.all(untrained[1] != mae)
