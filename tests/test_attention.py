"""The one definition of attention is the oracle's."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings

from sensitivity import ScoreBias
from sensitivity.attention import (
    attend,
    attend_rows,
    attention_matrix,
    attention_weights,
    project,
)
from tests import reference
from tests.helpers import (
    FOLDED,
    PAPER,
    SHAPES,
    assert_close,
    draws,
    full_bias,
    make_array,
    make_layer,
    rounding_scale,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")

jitted = jax.jit(attend, static_argnames="per_head")


@pytest.mark.parametrize("per_head", [False, True])
@pytest.mark.parametrize("name", SHAPES)
@given(draw=draws)
@settings(max_examples=25)
def test_the_output_is_the_oracles(name, per_head, draw):
    x, w, score_bias, bias = draw.of(SHAPES[name])
    oracle = reference.heads if per_head else reference.attention
    actual = jitted(x, x, x, w, score_bias, per_head=per_head)
    scale_of_values = np.abs(x).max() * rounding_scale(x, w, "frobenius").sum()
    atol = 64 * np.finfo(float).eps * (1 + scale_of_values)
    assert_close(actual, oracle(x, w, bias), 1e-12, atol)


@pytest.mark.parametrize(
    "axes", [(), (6,), (6, 1), (6, 6), (1, 6, 6), (3, 1, 6), (2, 1, 1, 6), (2, 3, 6, 6)]
)
@pytest.mark.parametrize("causal", [False, True])
def test_biases_of_every_broadcastable_shape_are_spread(causal, axes):
    rng = np.random.default_rng(0)
    _, w = make_layer(0, FOLDED)
    x, array = rng.normal(size=(2, 6, 6)), rng.normal(size=axes)
    actual = attend(x, x, x, w, ScoreBias(-0.1, causal, array))
    for n in range(2):
        one = np.broadcast_to(array, (2, 3, 6, 6))[n]
        bias = reference.score_bias(6, 3, -0.1, causal, one)
        assert_close(actual[n], reference.attention(x[n], w, bias), 1e-12, 1e-13)


def test_the_three_inputs_feed_the_three_projections():
    rng = np.random.default_rng(0)
    _, w = make_layer(0, PAPER)
    x_q, x_k, x_v = rng.normal(size=(3, 5, 4))
    q, k, v = (
        x @ np.asarray(kernel)[:, 0]
        for x, kernel in ((x_q, w.query), (x_k, w.key), (x_v, w.value))
    )
    weights = np.exp(q @ k.T / 3**0.5)
    expected = weights / weights.sum(1, keepdims=True) @ v
    assert_close(attend(x_q, x_k, x_v, w), expected, 1e-12, 1e-14)


def test_some_rows_are_rows_of_the_whole():
    x, w = make_layer(0, FOLDED)
    score_bias = ScoreBias(-0.1, True, make_array(0, FOLDED, "normal"))
    rows = jax.numpy.array([4, 1])
    for per_head in (False, True):
        whole = attend(x, x, x, w, score_bias, per_head=per_head)
        some = attend_rows(x[[4, 1]], x, x, w, score_bias, rows, per_head)
        assert_close(some, np.asarray(whole)[..., [4, 1], :], 1e-13, 1e-14)


def test_weights_are_rows_of_probabilities_with_exact_zeros():
    x, w = make_layer(0, FOLDED)
    score_bias = ScoreBias(-np.inf, array=make_array(0, FOLDED, "forbidding"))
    q, k = project(x, w.query, w.query_bias), project(x, w.key, w.key_bias)
    alpha, allowed = attention_weights(q, k, score_bias, jax.numpy.arange(6))
    bias = full_bias(FOLDED, score_bias)
    assert_close(alpha, reference.weights(x, w, bias), 1e-12, 1e-15)
    np.testing.assert_array_equal(np.broadcast_to(allowed, alpha.shape), bias > -np.inf)
    np.testing.assert_array_equal(np.asarray(alpha) > 0, bias > -np.inf)
    assert_close(alpha.sum(-1), np.ones((3, 6)), 1e-14)
    assert_close(attention_matrix(x, w, score_bias), alpha, 1e-14)


def test_a_factor_multiplies_the_weights():
    x, w = make_layer(0, PAPER)
    factor = np.random.default_rng(0).integers(0, 3, size=(5, 5)).astype(float)
    alpha = reference.weights(x, w, np.zeros((1, 5, 5)))[0]
    output = attend(x, x, x, w, weight_factor=factor)
    assert_close(output, factor * alpha @ (x @ w.value[:, 0]), 1e-12, 1e-14)


def test_masked_scores_leave_the_gradients_finite():
    x, w = make_layer(0, FOLDED)
    score_bias = ScoreBias(-np.inf, array=make_array(0, FOLDED, "forbidding"))
    gradient = jax.jit(jax.grad(lambda x: attend(x, x, x, w, score_bias).sum()))(x)
    assert np.isfinite(gradient).all()


def test_batch_axes_are_samples():
    rng = np.random.default_rng(0)
    _, w = make_layer(0, FOLDED)
    x = rng.normal(size=(2, 3, 6, 6))
    functions = [attention_matrix] + [
        functools.partial(self_attention, per_head=own) for own in (False, True)
    ]
    for function in functions:
        batch = np.asarray(function(x, w))
        for place in np.ndindex(2, 3):
            assert_close(batch[place], function(x[place], w), 1e-13, 1e-14)


def self_attention(x, w, **options):
    return attend(x, x, x, w, **options)


def test_a_row_with_nothing_to_attend_to_poisons_no_other():
    x, w = make_layer(0, PAPER)
    array = np.zeros((5, 5))
    array[2] = -np.inf
    others = [0, 1, 3, 4]
    output = np.asarray(jitted(x, x, x, w, ScoreBias(array=array)))
    assert_close(output[others], np.asarray(attend(x, x, x, w))[others], 1e-13)
