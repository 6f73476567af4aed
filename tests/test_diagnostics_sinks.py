"""Sinks, salience and the least entropy: against their sources, and at their edges."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import diagnose
from analysis.diagnostics import columns, entropy
from analysis.diagnostics.diagnose import values
from analysis.diagnostics.registry import BY_NAME
from analysis.diagnostics.seen import Seen, look
from analysis.diagnostics.sinks import EPSILON, exceeding, first_step
from sensitivity import LayerInput, ScoreBias
from tests.helpers import FOLDED, PAPER, make_weights
from tests.oracles import sinks as oracles

SINKS = ("first_step_sink", "any_sink", "sink_share", "diagonal_sink")
BOUNDS = ("entropy_bound", "entropy_bound_by_weights")
NAMES = (*SINKS, *BOUNDS, "mean_salience", "largest_salience")


def layer_of(shape: Any, scale: float = 1.0, samples: int = 3, **more: Any) -> Any:
    """A random layer at a random input, with room for all that masks it."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(samples, shape.T, shape.D))
    return LayerInput(x=x, weights=make_weights(rng, shape, scale), **more)


def whole(layer: LayerInput) -> Seen:
    """All samples of it at once."""
    (seen,) = look(dataclasses.replace(layer, x=np.asarray(layer.x)[None]), "frobenius")
    return seen


def softmax(scores: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Of the allowed steps."""
    top = np.where(allowed, scores, -np.inf).max(-1, keepdims=True)
    weights = np.where(allowed, np.exp(np.where(allowed, scores - top, 0)), 0)
    return weights / weights.sum(-1, keepdims=True)


def bound_of(scores: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """By the norm of each row's own scores."""
    norms = entropy.score_norm(scores, allowed)
    return entropy.entropy_bound(norms, allowed.sum(-1))


def test_no_row_of_20_000_has_less_entropy_than_its_bound():
    rng, T = np.random.default_rng(0), 20
    scores = rng.normal(size=(1000, T, T)) * 10 ** rng.uniform(-3, 3, (1000, T, 1))
    scores[::2] += np.eye(T) * 10 ** rng.uniform(-3, 3, (500, T, 1))  # nearly tight
    allowed = rng.random(scores.shape) < rng.random((1000, T, 1))
    allowed |= np.eye(T, dtype=bool)
    gap = entropy.attention_entropy(softmax(scores, allowed))
    gap -= bound_of(scores, allowed)
    assert gap.size == 20_000
    assert gap.min() > -1e-13  # sums of 20 in float64
    assert (gap > 1e-3).mean() > 0.3


@given(st.lists(st.floats(-1e300, 1e300) | st.floats(-9, 9), min_size=1, max_size=9))
def test_no_scores_however_large_bring_the_entropy_below_the_bound(row):
    scores, allowed = np.array([row]), np.ones((1, len(row)), bool)
    (found,) = entropy.attention_entropy(softmax(scores, allowed))
    (bound,) = bound_of(scores, allowed)
    assert 0 <= bound <= found + 1e-13


@pytest.mark.parametrize("n", [1, 2, 3, 12, 200])
def test_the_bound_is_that_of_one_step_that_stands_out(n):
    norms = np.array([0, 1e-300, 1e-8, 0.1, 1, 3, 10, 30, 700, 1e4, 1e300])
    found = entropy.entropy_bound(norms, np.full(norms.shape, n))
    assert found[0] == pytest.approx(np.log(n), rel=1e-15)
    assert (np.diff(found) <= 1e-15).all()  # less the wider scores spread
    expected = [oracles.least_entropy(norm, n) for norm in norms]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
    assert found[-1] == 0


@pytest.mark.parametrize("scale", [0.1, 1.0, 8.0, 100.0])
@pytest.mark.parametrize("shape", [PAPER, FOLDED])
@pytest.mark.parametrize(
    "bias",
    [
        ScoreBias(),
        ScoreBias(causal=True, diagonal=-0.1),
        ScoreBias(diagonal=-np.inf),
        ScoreBias(array=3 * np.random.default_rng(1).normal(size=(1, 1))),
        ScoreBias(array=np.array([-2e3, 0.0, 1.0, 0.0, -5.0, -700.0])),
    ],
)
def test_weights_bound_the_bound_of_rows_which_bounds_their_entropy(scale, shape, bias):
    if bias.array is not None:
        bias = dataclasses.replace(bias, array=bias.array[..., : shape.T])
    seen = whole(layer_of(shape, scale, samples=20, score_bias=bias))
    found = entropy.attention_entropy(seen.alpha)
    table = values(seen, [BY_NAME[name] for name in BOUNDS])
    own, by_weights = (table[name][:, :-1] for name in BOUNDS)  # heads
    assert own.shape == by_weights.shape == found.shape
    assert (own <= found + 1e-12 * max(1, scale**2)).all()  # scores are rounded
    assert (by_weights <= own + 1e-12).all()


def test_queries_and_keys_of_one_direction_reach_the_norm_of_the_weights():
    x = np.array([[0.0], [0.0], [0.0]])
    x[1] = 2  # one step differs from all others
    kernel = np.array([[3.0, 4.0]])
    norm = entropy.largest_score_norm(
        x[None], x[None], kernel[:, None], kernel[:, None]
    )
    assert norm.item() == pytest.approx(25 * 4 / np.sqrt(2), rel=1e-14)
    row = x @ kernel @ kernel.T @ x.T / np.sqrt(2)
    assert np.linalg.norm(row, axis=-1).max() == pytest.approx(norm.item(), rel=1e-14)


def test_importance_is_that_of_gu_on_causal_maps_and_of_zipcache_on_all():
    seen = whole(layer_of(FOLDED, 3.0, score_bias=ScoreBias(causal=True)))
    found = columns.of_steps(seen)
    for place in np.ndindex(found.shape):
        alpha = seen.alpha[place[:2]]
        k = place[2] + 1
        assert found[place] == pytest.approx(oracles.importance(alpha, k), rel=1e-14)
    nonzero = (seen.alpha > 0).sum(-2)  # nnz of the column
    np.testing.assert_allclose(found, seen.alpha.sum(-2) / nonzero, rtol=1e-14)
    table = diagnose(layer_of(FOLDED, 3.0)).set_index(["head", "quantity"])["value"]
    means = table[:, "mean_salience"]
    np.testing.assert_allclose(means, 1 / FOLDED.T, rtol=1e-14)
    np.testing.assert_allclose(
        table[:, "largest_salience"], table[:, "largest_column_mean"], rtol=1e-14
    )


def test_a_planted_sink_is_found_and_a_weight_of_epsilon_is_none():
    alpha = np.full((1, 1, 4, 4), 0.2)
    alpha[..., 0] = 0.4
    found = exceeding(columns.salience(alpha, np.ones((4, 4), bool)))
    assert found.tolist() == [[[1, 0, 0, 0]]]
    assert exceeding(np.array([EPSILON, np.nan, 0.31])).tolist()[::2] == [0, 1]
    assert all(str(EPSILON) in BY_NAME[name].meaning for name in SINKS)


def test_the_largest_column_mean_is_what_it_was_to_the_last_bit():
    alpha = np.array(whole(layer_of(FOLDED, 3.0)).alpha)
    found = columns.largest_column_mean(alpha)
    assert found.tolist() == alpha.mean(-2).max(-1).tolist()
    alpha[0], alpha[1, :, 2:] = np.nan, np.nan
    found = columns.largest_column_mean(alpha)
    assert np.isnan(found[0]).all()
    assert found[1].tolist() == (alpha[1, :, :2].sum(-2).max(-1) / 2).tolist()


@pytest.mark.parametrize("empty", [False, True])
def test_rows_and_steps_of_padding_count_nowhere(empty):
    layer, real = layer_of(FOLDED), np.arange(FOLDED.T) < 4
    allowed = real & (real[:, None] | (not empty))
    padded = dataclasses.replace(
        layer,
        x=np.where(real[:, None], layer.x, 1e3 * layer.x),
        score_bias=ScoreBias(array=np.where(allowed, 0.0, -np.inf)),
        rows=np.tile(real, (3, 1)),
    )
    alone = dataclasses.replace(layer, x=layer.x[:, :4])
    one, other = (diagnose(own, NAMES) for own in (padded, alone))
    np.testing.assert_allclose(one["value"], other["value"], rtol=1e-10, atol=1e-300)
    curve, short = (columns.CURVES[0].function(whole(own)) for own in (padded, alone))
    assert np.isnan(curve[..., :2]).all()  # the newest steps, which no row sees
    np.testing.assert_allclose(curve[..., 2:], short, rtol=1e-10)


def test_the_first_step_of_a_padded_window_is_the_first_that_a_row_sees():
    layer = layer_of(PAPER)
    array = np.array([-np.inf, *[0.0] * (PAPER.T - 1)])
    real = np.tile(array == 0, (3, 1))
    padded = dataclasses.replace(layer, score_bias=ScoreBias(array=array), rows=real)
    alone = dataclasses.replace(layer, x=layer.x[:, 1:])
    one, other = (diagnose(own, NAMES)["value"] for own in (padded, alone))
    np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-300)
    assert first_step(np.array([[np.nan, 2, 3], [np.nan] * 3]))[0] == 2


def test_samples_without_a_row_have_no_sink_and_the_table_says_why():
    nobody = dataclasses.replace(layer_of(PAPER), rows=np.zeros((3, PAPER.T), bool))
    notes = diagnose(nobody, NAMES)["note"]
    starts = notes[1 : len(NAMES)].str.startswith("needs a row that counts")
    assert starts.all()


def test_one_step_is_a_sink_of_no_entropy():
    layer = layer_of(PAPER)
    table = diagnose(dataclasses.replace(layer, x=layer.x[:, :1]), NAMES)
    found = table[table["head"] == "layer"].set_index("quantity")["value"]
    assert found.to_dict() == {name: float(name not in BOUNDS) for name in NAMES}


def test_salience_by_age_begins_at_the_newest_step():
    alpha = np.tril(np.ones((3, 3))) / np.arange(1, 4)[:, None]
    layer = layer_of(PAPER)
    layer = dataclasses.replace(layer, x=np.zeros((1, 3, PAPER.D)))  # uniform attention
    (entry,) = columns.CURVES
    assert entry.uniform is not None
    np.testing.assert_allclose(entry.function(whole(layer))[0, 0], entry.uniform(3))
    causal = dataclasses.replace(layer, score_bias=ScoreBias(causal=True))
    expected = [alpha[2, 2], alpha[1:, 1].mean(), alpha[:, 0].mean()]
    np.testing.assert_allclose(entry.function(whole(causal))[0, 0], expected)
