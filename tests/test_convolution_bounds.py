"""Bounds between steps through causal convolutions: closed forms, and a network."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensitivity.convolution_bounds import (
    convolution_bound,
    dilations,
    lag_matrix,
    row_normalised,
    tap_gain,
    ways_to_newest,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")

T, P, D = 7, 3, 2


@pytest.mark.parametrize("taps", [1, 2, 3, 9])
@pytest.mark.parametrize("layers", [0, 1, 4])
def test_ways_to_the_newest_step_are_coefficients_of_a_power(taps, layers):
    power = np.linalg.matrix_power(lag_matrix(T, taps), layers)
    found = ways_to_newest(T, taps, layers)
    np.testing.assert_array_equal(power[:, 0], found)
    if taps == 2:
        assert found.tolist() == [math.comb(layers, i) for i in range(T)]
    # R is Toeplitz: entry [i, j] depends on i - j alone.
    expected = [[found[i - j] if i >= j else 0 for j in range(T)] for i in range(T)]
    np.testing.assert_array_equal(power, expected)


@pytest.mark.parametrize("taps", [2, 3])
def test_the_older_step_wins_by_a_power_of_the_number_of_layers(taps):
    """Prop. 4.2: lag j against lag i > j falls like L^-(i-j), times i! / j!."""
    L, i, j = 20_000, 5, 3
    ways = ways_to_newest(T, taps, L)
    limit = math.factorial(i) / math.factorial(j)
    assert ways[j] / ways[i] * L ** (i - j) == pytest.approx(limit, rel=5e-3)
    assert ways[:-1].max() < ways[-1]


def test_normalised_rows_forget_no_step_and_prefer_none():
    R, L = lag_matrix(20, taps=3), 40
    plain = np.linalg.matrix_power(R, L)[:, 0]
    fair = np.linalg.matrix_power(row_normalised(R), L)[:, 0]
    assert plain[-1] / plain.sum() == pytest.approx(0.604, abs=1e-3)
    assert plain[0] / plain.sum() < 1e-6
    assert fair[[0, -1]] / fair.sum() == pytest.approx(0.05, abs=1e-3)
    np.testing.assert_allclose(fair, 1, atol=0.01)
    np.testing.assert_allclose(row_normalised(R).sum(1), 1)


@pytest.mark.parametrize("taps", [2, 3])
def test_dilated_layers_reach_every_step_once(taps):
    size, layers = taps**3, 3
    dilation = dilations(taps, 2 * layers, size)
    assert dilation == [1, taps, taps**2] * 2
    bound = convolution_bound(size, taps, 1.0, dilation[:layers])
    np.testing.assert_array_equal(bound, np.tri(size))


@jax.jit
def blocks(kernels, x, weight, residual):
    """Jacobian blocks [t', t] of relu convolutions with dilations 1 and 2."""

    def network(x):
        for taps, d in zip(kernels, (1, 2), strict=True):
            seen = weight[:, None] * x
            padded = jnp.pad(seen, ((d * (P - 1), 0), (0, 0)))
            lags = [jnp.roll(padded, d * p, 0)[-T:] @ taps[p].T for p in range(P)]
            x = residual * x + jax.nn.relu(jnp.stack(lags).sum(0))
        return x

    return jax.jacrev(network)(x).transpose(0, 2, 1, 3)


@given(
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([0.1, 1.0, 3.0]),
    residual=st.sampled_from([0.0, 1.0]),
)
@settings(max_examples=40)
def test_a_stack_of_convolutions_never_exceeds_its_bound(seed, scale, residual):
    rng = np.random.default_rng(seed)
    kernels = scale * rng.normal(size=(2, P, D, D))
    exact = blocks(kernels, rng.normal(size=(T, D)), np.ones(T), residual)
    norms = np.linalg.norm(exact, 2, axis=(2, 3))
    gain = tap_gain(kernels, residual=bool(residual))
    bound = convolution_bound(T, P, gain, [1, 2])
    assert (norms <= bound * (1 + 1e-9)).all()
    assert (norms[bound == 0] == 0).all()


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20)
def test_the_normalised_matrix_bounds_convolutions_of_weighted_inputs(seed):
    rng = np.random.default_rng(seed)
    kernels = rng.normal(size=(2, P, D, D))
    kernels[1, 1:] = 0  # the second layer has taps 0 only: no dilation to see
    lag = np.arange(T)[::-1]
    weight = 1 / np.minimum(lag + 1, P)
    exact = blocks(kernels, rng.normal(size=(T, D)), weight, 0.0)
    norms = np.linalg.norm(exact, 2, axis=(2, 3))
    R_N = row_normalised(lag_matrix(T, P))
    by_lag = tap_gain(kernels) ** 2 * R_N @ R_N
    assert (norms <= by_lag[::-1, ::-1].T * (1 + 1e-9)).all()


def test_the_bound_is_attained_by_equal_taps():
    norms = np.linalg.norm(
        blocks(
            np.broadcast_to(np.eye(D), (2, P, D, D)), np.ones((T, D)), np.ones(T), 0.0
        ),
        2,
        axis=(2, 3),
    )
    np.testing.assert_allclose(norms, convolution_bound(T, P, 1.0, [1, 2]), atol=1e-12)
