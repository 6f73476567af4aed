"""Bounds between steps through causal convolutions: closed forms, and a network."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensitivity.convolution_bounds import convolution_bound, tap_gain

pytestmark = pytest.mark.usefixtures("strict_promotion")

T, P, D, LAYERS = 7, 3, 2, 2


def ways_to_newest(T, taps, layers):
    """Coefficients of (1 + z + ... + z^(taps - 1))^layers."""
    ways = [1] + [0] * (T - 1)
    for _ in range(layers):
        ways = [sum(ways[max(0, i - taps + 1) : i + 1]) for i in range(T)]
    return ways


@pytest.mark.parametrize("taps", [1, 2, 3, 9])
@pytest.mark.parametrize("layers", [0, 1, 4])
def test_the_bound_counts_the_ways_from_step_to_step(taps, layers):
    ways = ways_to_newest(T, taps, layers)
    if taps == 2:
        assert ways == [math.comb(layers, i) for i in range(T)]
    expected = [[ways[i - j] if i >= j else 0 for j in range(T)] for i in range(T)]
    found = convolution_bound(T, taps, 0.5, layers)
    np.testing.assert_array_equal(found, np.array(expected) * 0.5**layers)


@pytest.mark.parametrize("taps", [2, 3])
def test_the_older_step_wins_by_a_power_of_the_number_of_layers(taps):
    """Prop. 4.2: lag j against lag i > j falls like L^-(i-j), times i! / j!."""
    L, i, j = 20_000, 5, 3
    ways = convolution_bound(T, taps, 1.0, L)[:, 0]
    limit = math.factorial(i) / math.factorial(j)
    assert ways[j] / ways[i] * L ** (i - j) == pytest.approx(limit, rel=5e-3)
    assert ways[:-1].max() < ways[-1]


@jax.jit
def blocks(kernels, x, residual):
    """Jacobian blocks [t', t] of a stack of relu convolutions."""

    def network(x):
        for taps in kernels:
            padded = jnp.pad(x, ((P - 1, 0), (0, 0)))
            lags = [jnp.roll(padded, p, 0)[-T:] @ taps[p].T for p in range(P)]
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
    kernels = scale * rng.normal(size=(LAYERS, P, D, D))
    exact = blocks(kernels, rng.normal(size=(T, D)), residual)
    norms = np.linalg.norm(exact, 2, axis=(2, 3))
    gain = tap_gain(kernels, residual=bool(residual))
    bound = convolution_bound(T, P, gain, LAYERS)
    assert (norms <= bound * (1 + 1e-9)).all()
    assert (norms[bound == 0] == 0).all()


def test_the_bound_is_attained_by_equal_taps():
    equal = np.broadcast_to(np.eye(D), (LAYERS, P, D, D))
    norms = np.linalg.norm(blocks(equal, np.ones((T, D)), 0.0), 2, axis=(2, 3))
    np.testing.assert_allclose(norms, convolution_bound(T, P, 1.0, LAYERS), atol=1e-12)
