"""Layers over time against plain loops, in float64, and what they can see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from models.layers import layer_norm
from models.config import TemporalConfig
from tests import models_reference, reference
from tests.forecasters import build, parameters, quick_jit, run, small

N, B, T, D = 4, 2, 5, 6  # of the small forecaster


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    """Inputs N(0, 1)."""
    return np.random.default_rng(seed).normal(size=shape)


def first_layer(temporal: TemporalConfig, **changes):
    """A temporal layer with random parameters."""
    return build(small(temporal, **changes)).temporal[0]


# --- against plain loops ------------------------------------------------------------


@pytest.mark.parametrize("heads", [1, 2, 6])
def test_attention_is_that_of_plain_loops(heads):
    mix, x = first_layer(TemporalConfig(heads=heads)).mix, draw(N, B, T, D)
    actual, p = run(mix, "__call__", x), parameters(mix)
    expected = [[models_reference.attention(row, p) for row in rows] for rows in x]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("regularizer", ["none", "penalty", "mask", "dropout"])
def test_attention_weights_are_those_of_plain_loops(regularizer):
    temporal = TemporalConfig(heads=3, regularizer=regularizer, penalty=-1.5)
    mix, x = first_layer(temporal).mix, draw(N, B, T, D)
    diagonal = {"penalty": -1.5, "mask": -np.inf}.get(regularizer, 0.0)
    bias, p = reference.score_bias(T, 3, diagonal), parameters(mix)
    expected = [[reference.weights(row, p, bias) for row in rows] for rows in x]
    weights = run(mix, "attention", x)
    np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-12)


@pytest.mark.parametrize("taps", [1, 2, 4, 7])  # 7 reaches beyond the window
def test_a_convolution_is_that_of_plain_loops(taps):
    temporal = TemporalConfig(kind="convolution", taps=taps)
    mix, x = first_layer(temporal).mix, draw(N, B, T, D)
    actual, p = run(mix, "__call__", x), parameters(mix)
    expected = [
        [models_reference.convolution(row, p, taps) for row in rows] for rows in x
    ]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)
    assert (np.asarray(actual) == 0).any()  # relu was at work
    assert (np.asarray(actual) > 0).any()


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("kind", ["attention", "convolution"])
def test_a_layer_adds_its_clock_and_its_input_and_is_normalised(kind, residual):
    temporal = TemporalConfig(kind=kind, heads=3, residual=residual)
    layer, x = first_layer(temporal), draw(N, B, T, D)
    clock = np.random.default_rng(1).random((B, T))
    clocks = np.broadcast_to(clock[..., None], (N, B, T, 1))
    actual, p = run(layer, "__call__", x, clocks), parameters(layer)
    for b in range(B):
        expected = models_reference.temporal_layer(
            x[:, b], clock[b], p, kind=kind, residual=residual
        )
        np.testing.assert_allclose(actual[:, b], expected, rtol=0, atol=1e-12)


def test_a_layer_norm_adds_1e_5_to_the_variance():
    norm = layer_norm(2, rngs=nnx.Rngs(0))
    x = np.array([[1.003, 0.997], [2.0, 2.0]])  # variance 9e-6, and 0
    expected = [[0.003 / (9e-6 + 1e-5) ** 0.5, -0.003 / (9e-6 + 1e-5) ** 0.5], [0, 0]]
    np.testing.assert_allclose(run(norm, "__call__", x), expected, atol=1e-12)


def test_a_layer_norm_keeps_small_differences_on_a_large_mean():
    norm = layer_norm(4, rngs=nnx.Rngs(0))
    small_part = np.array([0.25, -0.25, 0.5, -0.5])
    expected = models_reference.layer_norm(small_part, parameters(norm))
    actual = run(norm, "__call__", (1000 + small_part).astype(np.float32))
    # mean(x^2) - mean(x)^2 in float32 would be off by a whole variance
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@given(scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_a_layer_norm_forgets_scale_and_offset(scale, shift):
    norm, x = layer_norm(D, rngs=nnx.Rngs(0)), draw(3, D)
    moved = run(norm, "__call__", 1e3 * scale * x + shift)
    expected = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    np.testing.assert_allclose(moved, expected, rtol=0, atol=1e-7)


# --- what a step can see ------------------------------------------------------------


def influence(layers: list, steps: int) -> np.ndarray:
    """Largest entry of d output[i] / d input[j] of layers in a row, shape (T, T)."""
    graph, state = nnx.split(nnx.List(layers))

    @quick_jit
    def jacobians(state, x):
        def forward(x):
            x, clock = x[None, None], jnp.full((1, 1, steps, 1), 0.3)
            for layer in nnx.merge(graph, state):
                x = layer(x, clock)
            return x[0, 0]

        # 16 inputs, as a relu can be shut for one.
        return jax.vmap(jax.jacrev(forward))(x)  # (16, T, D, T, D)

    return np.abs(np.asarray(jacobians(state, draw(16, steps, D)))).max((0, 2, 4))


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize(("taps", "depth"), [(1, 2), (2, 1), (2, 3), (3, 2)])
def test_a_causal_convolution_sees_its_reach_and_nothing_of_the_future(
    taps, depth, residual
):
    temporal = TemporalConfig(kind="convolution", taps=taps, residual=residual)
    model = build(small(temporal, window=8, layers=depth), seed=3)
    seen = influence(list(model.temporal), 8)
    lag = np.arange(8)[:, None] - np.arange(8)
    reach = (taps - 1) * depth + 1
    assert not seen[(lag < 0) | (lag >= reach)].any()  # exactly zero, no tolerance
    assert (seen[(lag >= 0) & (lag < reach)] > 1e-6).all()


def test_attention_sees_all_steps_in_one_layer():
    model = build(small(window=8, layers=1))
    assert (influence(list(model.temporal), 8) > 1e-6).all()


@pytest.mark.parametrize("kind", ["attention", "convolution"])
def test_a_temporal_layer_sees_one_node_and_one_sample(kind):
    layer = first_layer(TemporalConfig(kind=kind, heads=3))
    x, clock = draw(N, B, T, D), np.full((N, B, T, 1), 0.3)
    changed = x.copy()
    changed[1, 0] += 1.0
    before, after = (np.asarray(run(layer, "__call__", y, clock)) for y in (x, changed))
    same = (before == after).all((2, 3))
    assert same.sum() == N * B - 1
    assert not same[1, 0]
