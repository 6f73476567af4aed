"""Z-scores are by the moments of what was observed, and go back to speeds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import Scaler

VALUES = np.array([[40.0, 10.0], [60.0, 99.0], [-7.0, 30.0]])
MISSING = np.array([[False, False], [False, True], [True, False]])


def test_the_moments_are_those_of_all_observed_readings():
    scaler = Scaler.fit(VALUES, MISSING)
    assert scaler.mean.tolist() == [35.0]  # of 40, 60, 10, 30
    assert scaler.deviation.tolist() == [np.sqrt((25 + 625 + 625 + 25) / 4)]


def test_each_sensor_can_have_moments_of_its_own():
    scaler = Scaler.fit(VALUES, MISSING, per_sensor=True)
    assert scaler.mean.tolist() == [50.0, 20.0]
    assert scaler.deviation.tolist() == [10.0, 10.0]
    assert scaler.transform(np.array([[60.0, 20.0]])).tolist() == [[1.0, 0.0]]


@given(st.sampled_from([(2, 1), (5, 3), (40, 2)]), st.integers(0, 9), st.booleans())
def test_observed_z_scores_have_mean_0_and_deviation_1(shape, seed, per_sensor):
    rng = np.random.default_rng(seed)
    values, missing = rng.normal(50, 9, shape), rng.random(shape) < 0.3
    missing[:2] = False
    scaler = Scaler.fit(values, missing, per_sensor)
    scores = scaler.transform(values)
    axis = 0 if per_sensor else None
    np.testing.assert_allclose(scores.mean(axis, where=~missing), 0, atol=1e-12)
    np.testing.assert_allclose(scores.std(axis, where=~missing), 1, rtol=1e-12)
    np.testing.assert_allclose(scaler.inverse(scores), values, rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_jax_arrays_keep_their_type_under_jit_and_numpy_arrays_theirs(dtype):
    scaler = Scaler.fit(VALUES, MISSING)
    scores = jax.jit(Scaler.transform)(scaler, jnp.asarray(VALUES, dtype))
    assert isinstance(scores, jax.Array)
    assert scores.dtype == dtype
    plain = scaler.transform(VALUES.astype(dtype))
    assert isinstance(plain, np.ndarray)
    assert plain.dtype == dtype
    np.testing.assert_allclose(scores, plain, rtol=1e-6)


def test_bfloat16_scores_become_speeds_in_float32():
    scaler = Scaler(np.array([54.4]), np.array([20.3]))
    speeds = scaler.inverse(jnp.zeros(3, jnp.bfloat16))
    assert speeds.tolist() == [np.float32(54.4)] * 3


def test_a_sensor_without_a_reading_is_named():
    missing = MISSING | np.array([False, True])
    with pytest.raises(ValueError, match="but 'b' is missing at all 3 steps"):
        Scaler.fit(VALUES, missing, sensor_ids=("a", "b"))
    with pytest.raises(ValueError, match="but 1 is missing at all 3 steps"):
        Scaler.fit(VALUES, missing)


def test_readings_that_never_change_are_refused():
    values = np.array([[0.1, 5.0], [0.1, 6.0], [0.1, 7.0]])
    seen = np.zeros((3, 2), bool)
    with pytest.raises(ValueError, match=r"but 'a' always reads 0\.1 mph"):
        Scaler.fit(values, seen, per_sensor=True, sensor_ids=("a", "b"))
    with pytest.raises(ValueError, match=r"but every sensor always reads 0\.1 mph"):
        Scaler.fit(values[:, :1], seen[:, :1])
    assert Scaler.fit(values, seen).mean.shape == (1,)  # together they vary
    with pytest.raises(ValueError, match="must vary"):  # but its square is 0 in float64
        Scaler.fit(np.array([[1e-200], [2e-200]]), seen[:2, :1])


def test_readings_beyond_what_float64_can_square_are_refused():
    values = np.array([[1e200, 1.0], [3e200, 2.0]])
    seen = np.zeros((2, 2), bool)
    with pytest.raises(ValueError, match=r"'a' are too large .* 1e\+200 to 3e\+200"):
        Scaler.fit(values, seen, per_sensor=True, sensor_ids=("a", "b"))
    with pytest.raises(ValueError, match="readings are too large"):
        Scaler.fit(values, seen)
