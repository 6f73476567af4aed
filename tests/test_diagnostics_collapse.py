"""Rank collapse, spectra and contraction: what must hold beyond the oracles."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import diagnose
from analysis.diagnostics import contraction, rank_collapse, spectrum
from analysis.diagnostics.registry import BY_NAME
from analysis.diagnostics.seen import Seen, look
from sensitivity import AttentionWeights, LayerInput, ScoreBias
from tests.helpers import (
    FOLDED,
    MANY,
    NARROW,
    PAPER,
    full_bias,
    make_layer,
    make_weights,
    scales,
    seeds,
)
from tests.oracles import collapse
from tests.oracles.view import views

FILES = (rank_collapse, spectrum, contraction)
NAMES = [entry.name for file in FILES for entry in file.ENTRIES]
EYE = np.eye(3)[:, None]


def seen_of(x: Any, weights: AttentionWeights, **more: Any) -> Seen:
    """The only sample of a layer."""
    return next(look(LayerInput(x=x, weights=weights, **more), "frobenius"))


def value_of(name: str, seen: Seen, *, whole: bool = False) -> np.ndarray:
    """Of heads, or of the layer."""
    entry = BY_NAME[name]
    function = entry.whole if whole else entry.function
    assert function is not None
    return np.asarray(function(seen))


def softmax(scores: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    found = np.exp(scores - scores.max(-1, keepdims=True))
    return found / found.sum(-1, keepdims=True)


@pytest.mark.parametrize("shape", [PAPER, FOLDED, MANY])
def test_without_a_mask_every_measure_has_the_value_of_its_oracle(shape):
    rng = np.random.default_rng(3)
    x, w = rng.normal(size=(2, shape.T, shape.D)), make_weights(rng, shape)
    has_residual = shape.output == shape.D
    layer = LayerInput(x=x, weights=w, residual=has_residual)
    found = diagnose(layer, NAMES).set_index(["head", "quantity"])["value"].to_dict()
    samples = views(x, w, full_bias(shape, ScoreBias()), "frobenius", has_residual)
    expected = {
        (head, name): oracle(own)
        for head, own in samples.items()
        for name, oracle in collapse.ORACLES.items()
        if "with_residual" not in name or (head == "layer" and has_residual)
    }
    assert found == pytest.approx(expected, rel=1e-9)


@given(seeds, scales, st.sampled_from([PAPER, FOLDED, NARROW, MANY]))
def test_no_output_is_farther_from_rank_one_than_the_bound_allows(seed, scale, shape):
    x, w = make_layer(seed, shape, scale)
    seen = seen_of(scale * x, w)
    largest = 1.01 * (shape.T - 1) ** 0.5 / 8  # by our proof; 1 % for rounding
    for whole in (False, True):
        ratio = value_of("rank_bound_ratio", seen, whole=whole)
        assert (ratio[~np.isnan(ratio)] <= largest).all()


def test_two_steps_reach_what_our_proof_leaves_of_the_bound():
    kernel = np.full((1, 1, 1), 1.0)
    w = AttentionWeights(kernel, kernel, kernel)
    ratio = value_of("rank_bound_ratio", seen_of(np.array([[1e-3], [-1e-3]]), w))
    np.testing.assert_allclose(ratio, 1 / 8, rtol=1e-5)


def test_the_bound_holds_where_rows_attend_to_themselves_and_for_long_windows():
    T, found = 200, []
    for sharpness in np.geomspace(0.1, 100, 13):
        kernel = np.eye(T)[:, None]
        w = AttentionWeights(sharpness * kernel, kernel, kernel)
        found.append(value_of("rank_bound_ratio", seen_of(np.eye(T), w)))
    assert 1e-3 < np.max(found) < 1


def test_biases_of_projections_leave_the_residual_of_a_head_alone():
    x, w = make_layer(1, FOLDED)
    bias = {"key_bias": None, "value_bias": None}
    one, other = seen_of(x, w), seen_of(x, dataclasses.replace(w, **bias))
    found, expected = (value_of("rank_bound_ratio", seen) for seen in (one, other))
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_equal_steps_are_rank_one_and_have_neither_bound_nor_spread():
    x, w = make_layer(2, FOLDED)
    seen = seen_of(np.repeat(x[:1], FOLDED.T, 0), w, residual=True)
    for name in ("rank_residual_input", "rank_residual_output"):
        assert np.abs(value_of(name, seen)).max() < 1e-15  # rounding of a mean
    assert value_of("rank_residual_with_residual", seen, whole=True).max() < 1e-15
    for name in ("rank_bound_ratio", "stable_rank_without_mean"):
        assert np.isnan(value_of(name, seen)).all()


def test_nearly_equal_steps_do_not_pass_the_bound_by_rounding():
    x, w = make_layer(3, FOLDED)
    for size in 10.0 ** np.arange(-12, 1):
        ratio = value_of("rank_bound_ratio", seen_of(x[:1] + size * x, w))
        assert (np.isnan(ratio) | (ratio < 0.3)).all()


def spectra(T: int, deviation: float) -> tuple[np.ndarray, ...]:
    """Of 12 maps with independent scores, as they are and without the mean."""
    alpha = softmax(np.random.default_rng(4).normal(size=(12, T, T)) * deviation)
    rest = spectrum.without_mean(alpha, np.ones((12, T), bool))
    return alpha, spectrum.singular_values(alpha), spectrum.singular_values(rest)


@pytest.mark.parametrize(
    ("deviation", "near"), [(0.5, 0.03), (np.log(2) ** 0.5, 0.12), (1.0, 0.2)]
)
def test_independent_scores_have_the_singular_values_that_theory_predicts(
    deviation, near
):
    T = 200
    alpha, values, rest = spectra(T, deviation)
    predicted = spectrum.predicted_second(rest, np.ones(12, bool))
    by_entries = 2 * (T * alpha - 1).std((-2, -1)) / T**0.5
    np.testing.assert_allclose(predicted, by_entries, rtol=1e-12)
    exact = 2 * (np.exp(deviation**2) - 1) ** 0.5 / T**0.5
    np.testing.assert_allclose(predicted, exact, rtol=0.08)  # of 40,000 entries
    np.testing.assert_allclose(values[:, 0], 1, rtol=0.01)
    # Wider scores have entries of heavier tails, whose limit is farther away.
    assert np.median(values[:, 1] / predicted) == pytest.approx(1, abs=near)


def test_the_stable_rank_grows_with_the_window_only_without_the_mean():
    found = [spectra(T, np.log(2) ** 0.5)[1:] for T in (50, 200)]
    ranks = [[np.median(spectrum.stable_rank(v)) for v in pair] for pair in found]
    (short, short_rest), (long, long_rest) = ranks
    assert 1.7 < short < long < 2.1  # 1 + sigma_A^2 = 2 at large T
    assert long_rest > 3 * short_rest


@given(seeds, st.sampled_from([0.1, 1.0, 10.0]), st.booleans())
def test_attention_draws_values_together_at_least_by_dobrushins_coefficient(
    seed, scale, causal
):
    x, w = make_layer(seed, FOLDED, scale)
    seen = seen_of(x + 1e6, w, score_bias=ScoreBias(causal=causal))
    tau, found = value_of("dobrushin", seen), value_of("contraction", seen)
    assert (found <= tau * (1 + 1e-9) + 1e-12).all()  # values 1e6 times their distance
    assert (tau <= 1 + 1e-12).all()


def test_dobrushins_coefficient_is_reached():
    rows = np.random.default_rng(6).dirichlet(np.ones(3), 2)
    alpha = np.stack([rows[0], rows[1], rows.mean(0)])
    every = np.ones(3, bool)
    more = rows[0] > rows[1]  # values at two points, by which row has more of them
    v = np.where(more, 1.0, -1.0)[:, None]
    tau = contraction.dobrushin(alpha, every)
    ratio = contraction.diameter(alpha @ v, every) / contraction.diameter(v, every)
    assert ratio == pytest.approx(tau, rel=1e-12)
    assert 0 < tau < 1


def test_attention_to_itself_contracts_nothing_and_uniform_attention_everything():
    x = np.random.default_rng(7).normal(size=(3, 3))
    huge = AttentionWeights(1e4 * EYE, 1e4 * EYE, EYE)
    seen = seen_of(np.eye(3), huge)
    for name in ("dobrushin", "contraction", "spread_contraction", "spectral_norm"):
        assert value_of(name, seen) == pytest.approx(1, rel=1e-12)
    uniform = seen_of(x, AttentionWeights(0 * EYE, EYE, EYE))
    for name in ("dobrushin", "contraction", "spread_contraction"):
        assert value_of(name, uniform) == pytest.approx(0, abs=1e-15)


def test_a_diameter_keeps_its_digits_far_from_the_origin_and_among_many_points():
    points = np.random.default_rng(8).normal(size=(5, 40, 3))
    far, every = points + 1e3, np.ones(40, bool)
    exact = [collapse.diameter(one) for one in points]
    np.testing.assert_allclose(contraction.diameter(far, every), exact, rtol=1e-11)


def test_rows_and_steps_of_padding_change_nothing():
    x, w = make_layer(9, FOLDED)
    real = np.arange(FOLDED.T) < 4
    padded = seen_of(
        np.where(real[:, None], x, 1e3 * x),
        w,
        score_bias=ScoreBias(array=np.where(real, 0.0, -np.inf) + np.zeros((6, 6))),
        rows=real,
        residual=True,
    )
    alone = seen_of(x[:4], w, residual=True)
    for name in set(NAMES) - {"rank_bound_ratio"}:  # with a mask it has none
        for whole in (False, True):
            if (BY_NAME[name].whole if whole else BY_NAME[name].function) is None:
                continue
            one, other = (value_of(name, s, whole=whole) for s in (padded, alone))
            np.testing.assert_allclose(one, other, rtol=1e-9)


def test_what_has_no_value_is_missing_and_says_what_it_needs():
    x, w = make_layer(10, FOLDED)
    causal = LayerInput(x=x, weights=w, score_bias=ScoreBias(causal=True))
    lost = LayerInput(x=x, weights=w, rows=np.zeros(FOLDED.T, bool))
    single = LayerInput(x=x[:1], weights=w)
    of_full_maps = {"predicted_second_singular_value", "second_singular_value_ratio"}
    missing = {}
    for case, layer in {"causal": causal, "lost": lost, "single": single}.items():
        table = diagnose(layer, NAMES)
        empty = table[table["value"].isna()]
        assert (empty["note"].str.len() > len("needs ")).all()
        missing[case] = set(empty["quantity"])
    assert missing["causal"] == {"rank_bound_ratio", *of_full_maps}
    assert missing["lost"] == set(NAMES)
    assert missing["single"] == {
        *("rank_bound_ratio", "second_singular_value", "spectral_gap"),
        *("stable_rank_without_mean", "contraction", "spread_contraction"),
        *of_full_maps,
    }
