"""Row statistics are the oracle's, and those of the full tables of norms."""

from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings

from sensitivity import Profile, ScoreBias, path_norms, profile
from sensitivity._closed_form import plan_heads
from sensitivity.profiles import Means, layer_means, means_of
from tests import reference
from tests.helpers import (
    FOLDED,
    NORMS,
    PAPER,
    ROUNDING,
    SHAPES,
    assert_close,
    draws,
    make_case,
    make_layer,
    residual_allowed,
    rounding_scale,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "name", ["paper", "folded", pytest.param("narrow", marks=pytest.mark.slow)]
)
@given(draw=draws)
@settings(max_examples=25)
def test_every_field_is_the_oracles(name, norm, draw):
    shape = SHAPES[name]
    x, w, score_bias, bias = draw.of(shape)
    residual = residual_allowed(w, per_head=True)
    expected = reference.profile(x, w, bias, norm, residual)
    actual = profile(x, w, score_bias=score_bias, norm=norm)
    scale_i = rounding_scale(x, w, norm)
    allowed = (bias > -np.inf) & ~np.eye(shape.T, dtype=bool)
    np.testing.assert_array_equal(actual.other_steps, allowed.sum(-1))
    # Constants are not divided by sqrt(K); distances of all steps round alike.
    s = ROUNDING * scale_i * shape.K**0.5
    # C_Q is relative to what the values of a step weigh, its roundings to all steps'.
    for field in expected.keys() & {*Profile._fields} - {"query_covariance"}:
        assert_close(getattr(actual, field), expected[field], 1e-12, s)
    # A square root: cancellation in a covariance costs half the digits where it is 0.
    error = np.asarray(actual.covariance_error)
    assert_close(
        actual.query_covariance, expected["query_covariance"], 1e-12, s + error
    )
    assert (error <= 1e-7 * scale_i).all()


@pytest.mark.parametrize("norm", NORMS)
def test_means_of_the_layer_are_those_of_its_tables(norm):
    x, w, score_bias = make_case(1, FOLDED, "forbidding")
    options: Any = {"score_bias": score_bias, "norm": norm}
    streamed = layer_means(x, w, **options)
    table = means_of(path_norms(x, w, residual=True, **options))
    assert_close(streamed, table, 1e-9, 1e-13)


def test_means_of_one_head_are_the_layers():
    x, w, score_bias = make_case(1, PAPER, "normal")
    layer = layer_means(x, w, score_bias=score_bias)
    head = profile(x, w, score_bias=score_bias)
    for field in Means._fields:
        np.testing.assert_array_equal(getattr(layer, field), getattr(head, field)[0])


@pytest.mark.parametrize("norm", NORMS)
def test_streaming_rows_under_a_budget_changes_nothing(norm):
    x, w, score_bias = make_case(2, FOLDED, "normal")
    budget = next(b for b in range(1000, 10**6, 250) if rows(x, w, norm, b) == 4)
    tight, easy = (
        profile(x, w, score_bias=score_bias, norm=norm, max_memory=memory)
        for memory in (budget, "1GiB")
    )
    assert_close(tight, easy, 1e-12, 1e-14)


def rows(x, w, norm, budget):
    try:
        return plan_heads(x, w, norm, budget).rows
    except ValueError:
        return 0


def test_batch_axes_are_samples():
    rng = np.random.default_rng(3)
    _, w = make_layer(3, FOLDED)
    x, array = rng.normal(size=(2, 2, 6, 6)), rng.normal(size=(2, 1, 3, 6, 6))
    options: Any = {"norm": "frobenius"}
    batch = profile(x, w, score_bias=ScoreBias(array=array), **options)
    for place in np.ndindex(2, 2):
        own = ScoreBias(array=array[place[0], 0])
        one = profile(x[place], w, score_bias=own, **options)
        own = jax.tree.map(lambda field, place=place: field[place], batch)
        assert_close(own, one, 1e-12, 1e-14)


def test_jit_gives_the_same_numbers():
    x, w, score_bias = make_case(4, FOLDED, "normal")

    def statistics(x):
        return profile(x, w, score_bias=score_bias, norm="frobenius")

    plain = statistics(x)
    assert_close(jax.jit(statistics)(x), plain, 1e-12, 1e-14)
    assert {field.shape for field in plain} == {(3, 6)}  # per head and row
