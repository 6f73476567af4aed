"""Masked errors against cases worked out by hand and a plain loop."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.errors import (
    ErrorSums,
    array_sums,
    error_sums,
    mean_over_steps,
    metric_rows,
    metrics_of,
    pooled_mae,
    step_metrics,
)

# Two windows, two steps, two nodes; 0 is missing.
TARGET = np.array([[[50.0, 0], [40, 20]], [[25, 10], [0, 0]]])
FORECAST = np.array([[[40.0, 99], [44, 20]], [[25, 14], [-9, 7]]])

# Speeds as files have them: missing, nearly nothing, or ordinary.
speeds = st.sampled_from([0.0, 5e-5, 1e-4, 0.5, 3.0, 31.25, 64.5])
shapes = st.sampled_from([(1, 1, 1), (3, 2, 4), (2, 5, 1)])


@st.composite
def forecasts(draw):
    """A forecast and its target, (W, H, N)."""
    shape = draw(shapes)
    target = draw(arrays.arrays(np.float64, shape, elements=speeds))
    noise = st.floats(-80, 80, allow_subnormal=False).map(lambda x: round(x, 3))
    return draw(arrays.arrays(np.float64, shape, elements=noise)), target


def one_by_one(forecast, target):
    """MAE, RMSE and MAPE of each step, a reading at a time."""
    W, H, N = target.shape
    rows = []
    for h in range(H):
        absolute, percent = [], []
        for w in range(W):
            for n in range(N):
                y, error = target[w, h, n], abs(forecast[w, h, n] - target[w, h, n])
                if y != 0:
                    absolute.append(error)
                if abs(y) > 1e-4:
                    percent.append(100 * error / abs(y))
        squares = [error**2 for error in absolute]
        means = [math.fsum(x) / len(x) if x else math.nan for x in (absolute, squares)]
        mape = math.fsum(percent) / len(percent) if percent else math.nan
        rows.append((means[0], math.sqrt(means[1]), mape))
    return np.array(rows).T


# --- by hand ------------------------------------------------------------------------


def test_a_case_with_missing_readings_worked_out_by_hand():
    metrics = step_metrics(FORECAST, TARGET)
    # Step 1: errors 10, 0, 4 of 50, 25, 10; step 2: errors 4, 0 of 40, 20.
    np.testing.assert_allclose(metrics.mae, [14 / 3, 2], rtol=1e-15)
    np.testing.assert_allclose(
        metrics.rmse, [math.sqrt(116 / 3), math.sqrt(8)], rtol=1e-15
    )
    np.testing.assert_allclose(metrics.mape, [(20 + 0 + 40) / 3, 5], rtol=1e-15)


def test_the_rmse_is_the_root_of_the_pooled_square_not_a_mean_of_roots():
    target = np.full((2, 1, 1), 50.0)
    rmse = step_metrics(target + [[[3]], [[4]]], target).rmse
    assert rmse.tolist() == [math.sqrt(12.5)]
    assert rmse[0] != 3.5


def test_a_step_with_every_reading_missing_has_no_error_and_says_so():
    target = TARGET.copy()
    target[:, 1] = 0
    metrics = step_metrics(FORECAST, target)
    assert all(np.isnan(x).tolist() == [False, True] for x in metrics)
    assert all(map(math.isnan, mean_over_steps(metrics)))
    rows = metric_rows(array_sums(FORECAST, target))
    assert rows["readings"].tolist() == [3, 0, 3]
    assert rows["mae"].isna().tolist() == [False, True, True]


def test_a_speed_of_almost_nothing_counts_but_has_no_percentage():
    target = np.array([[[1e-4, 50.0]]])
    metrics = step_metrics(target + 1, target)
    assert metrics.mae[0] == pytest.approx(1, rel=1e-12)
    assert metrics.mape[0] == pytest.approx(2, rel=1e-12)


def test_the_mean_over_steps_weighs_each_step_the_same():
    metrics = step_metrics(FORECAST, TARGET)
    mean = mean_over_steps(metrics)
    assert mean.mae == pytest.approx((14 / 3 + 2) / 2, rel=1e-15)
    assert mean.rmse == pytest.approx((math.sqrt(116 / 3) + math.sqrt(8)) / 2)
    assert pooled_mae(array_sums(FORECAST, TARGET)) == pytest.approx(18 / 5)


def test_rows_are_labelled_with_their_step_or_as_the_mean():
    rows = metric_rows(array_sums(FORECAST, TARGET))
    assert rows["horizon"].tolist() == [1, 2, "mean"]
    assert rows["mape"].tolist() == pytest.approx([20, 5, 12.5])
    assert rows["readings"].tolist() == [3, 2, 5]


@given(forecasts())
def test_arrays_have_the_errors_of_a_plain_loop(case):
    np.testing.assert_allclose(
        np.stack(step_metrics(*case)), one_by_one(*case), rtol=1e-12, atol=1e-12
    )


# --- sums under jit -----------------------------------------------------------------

sums_of = jax.jit(error_sums)


@given(forecasts())
def test_sums_under_jit_are_those_of_the_arrays(case):
    actual = jax.tree.leaves(sums_of(*map(jnp.asarray, case)))
    expected = jax.tree.leaves(array_sums(*case))
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


@given(forecasts(), st.data())
def test_what_is_forecast_of_a_missing_reading_has_no_effect(case, data):
    forecast, target = case
    wild = data.draw(st.sampled_from([np.nan, np.inf, 1e30]))
    for function in (sums_of, array_sums):
        plain = function(jnp.asarray(forecast), jnp.asarray(target))
        changed = jnp.asarray(np.where(target == 0, wild, forecast))
        other = function(changed, jnp.asarray(target))
        assert all(
            np.array_equal(a, b)
            for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(other), strict=True)
        )


def test_batches_add_up_to_the_whole_in_float64():
    random = np.random.default_rng(0)
    target = 60 * random.random((5, 8, 3, 4)) * (random.random((5, 8, 3, 4)) < 0.8)
    forecast = target + random.normal(size=target.shape)
    batches = [jnp.asarray(x, jnp.float32) for x in (forecast, target)]
    scanned = jax.jit(lambda *x: jax.lax.map(lambda pair: error_sums(*pair), x))
    stacked = scanned(*batches)
    assert {x.dtype for x in jax.tree.leaves(stacked)} == {np.dtype(np.float32)}
    assert stacked.absolute.shape == (5, 3)
    total = stacked.total()
    assert isinstance(total.absolute, np.ndarray)
    assert total.absolute.dtype == np.float64
    whole = step_metrics(*(x.reshape(40, 3, 4) for x in batches))
    # Rounding of float32 sums of 32 readings, against float64.
    np.testing.assert_allclose(np.stack(metrics_of(total)), whole, rtol=1e-5)


def test_sums_are_added_by_plus_and_keep_the_axis_of_seeds():
    one = array_sums(FORECAST[:1], TARGET[:1])
    two = array_sums(FORECAST[1:], TARGET[1:])
    both = one + two
    np.testing.assert_array_equal(
        np.stack(metrics_of(both)), np.stack(step_metrics(FORECAST, TARGET))
    )
    seeds = jax.tree.map(lambda a, b: np.stack([[a, b], [b, b]]), one, two)
    assert metrics_of(seeds.total(axis=1)).mae.shape == (2, 2)
    np.testing.assert_array_equal(
        metrics_of(seeds.total(axis=1)).mae[0], metrics_of(both).mae
    )


def test_half_precision_is_summed_in_float32():
    target = jnp.full((8, 1, 64), 50, jnp.bfloat16)  # a sum of 512 ones
    sums = sums_of(target + 1, target)
    assert sums.absolute.dtype == jnp.float32
    assert sums.absolute.tolist() == sums.count.tolist() == [512.0]


def test_a_window_that_fills_up_a_batch_counts_for_nothing():
    padded = sums_of(
        jnp.asarray(np.concatenate([FORECAST, FORECAST])),
        jnp.asarray(np.concatenate([TARGET, 0 * TARGET])),
    )
    assert padded.count.tolist() == [3, 2]
    assert padded.absolute.tolist() == [14, 4]


# --- the loss -----------------------------------------------------------------------


def test_the_gradient_of_the_loss_is_the_sign_by_the_count():
    forecast = np.where(TARGET == 0, np.nan, FORECAST + 0.5)
    loss = jax.jit(jax.grad(lambda x: pooled_mae(error_sums(x, jnp.asarray(TARGET)))))
    expected = np.where(TARGET == 0, 0, np.sign(FORECAST + 0.5 - TARGET) / 5)
    np.testing.assert_allclose(loss(jnp.asarray(forecast)), expected, rtol=1e-15)


def test_a_batch_of_missing_readings_has_loss_and_gradient_zero():
    nothing = jnp.zeros((2, 2, 2))
    loss = jax.jit(jax.value_and_grad(lambda x: pooled_mae(error_sums(x, nothing))))
    value, gradient = loss(jnp.ones((2, 2, 2)))
    assert value == 0
    assert not gradient.any()


# --- what is refused ----------------------------------------------------------------


@pytest.mark.parametrize("function", [error_sums, array_sums])
@pytest.mark.parametrize("shape", [(2, 2), (2, 2, 1), (2, 2, 2, 1)])
def test_shapes_that_do_not_fit_are_named(function, shape):
    with pytest.raises(
        ValueError, match=rf"\(., H, N\), got \({shape[0]}.*\(2, 2, 2\)"
    ):
        function(jnp.zeros(shape), jnp.asarray(TARGET))


def test_a_target_that_is_no_number_is_placed():
    target = TARGET.copy()
    target[1, 0, 1] = np.nan
    with pytest.raises(ValueError, match="got nan in window 1 at step 1 of node 1"):
        array_sums(FORECAST, target)


def test_rows_are_of_one_forecaster():
    stacked = ErrorSums(*[np.ones((2, 3))] * 5)
    with pytest.raises(ValueError, match=r"shape \(H,\), got \(2, 3\)"):
        metric_rows(stacked)
