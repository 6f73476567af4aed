"""Queries, their matrix with the keys, classes of heads, and attended values."""

import dataclasses

import numpy as np
import pytest

from analysis import diagnose
from analysis.diagnostics import (
    head_class,
    query_key_spectrum,
    query_similarity,
    signal_propagation,
    value_variance,
)
from analysis.diagnostics.diagnose import courses, summarize_courses
from analysis.diagnostics.lags import mean_by_lag
from analysis.diagnostics.registry import BY_NAME
from analysis.diagnostics.seen import look
from sensitivity import LayerInput, ScoreBias
from tests.helpers import FOLDED, NARROW, TWO, make_weights
from tests.oracles import queries

ENTRIES = (
    *query_key_spectrum.ENTRIES,
    *signal_propagation.ENTRIES,
    *query_similarity.ENTRIES,
    *head_class.ENTRIES,
    *value_variance.ENTRIES,
)
NAMES = [entry.name for entry in ENTRIES]
T = 12
LAG = np.abs(np.subtract.outer(np.arange(T), np.arange(T)))


def layer_of(shape, *batch, **more):
    """A random layer at a random input."""
    rng = np.random.default_rng(3)
    x, weights = rng.normal(size=(*batch, shape.T, shape.D)), make_weights(rng, shape)
    return LayerInput(x=x, weights=weights, **more)


def measured(name, seen):
    """What an entry finds in every head."""
    function = BY_NAME[name].function
    assert function is not None
    return function(seen)


def rows_of(weights):
    """A map of attention whose rows are proportional to these weights."""
    return weights / weights.sum(-1, keepdims=True)


def class_of(alpha, allowed=None):
    """The class of one map."""
    allowed = np.ones(alpha.shape, bool) if allowed is None else allowed
    place = head_class.head_class(alpha[None, None], allowed[None, None])[0, 0]
    assert sorted(place) == [0, 0, 0, 1]
    return head_class.CLASSES[place.argmax()]


def rotated(q, theta):
    """The same query at every step, turned by its rotary position, (T, 2)."""
    angle = theta * np.arange(T)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.einsum("abt,b->ta", turn, q)


@pytest.mark.parametrize("shape", [FOLDED, NARROW])
@pytest.mark.parametrize("name", ["trace", "scale", "variance"])
def test_traces_of_small_products_are_those_of_eigenvalues(shape, name):
    (seen,) = look(layer_of(shape, 1, 4), "frobenius")
    sigma = queries.sigma([*seen.x])  # of all samples that are seen at once
    for head in range(shape.H):
        W = queries.w_qk(seen.weights, head)
        for prefix, own in (("qk", W), ("qk_increment", W @ sigma)):
            found = measured(f"{prefix}_{name}", seen)
            expected = np.full(4, queries.spectrum(own)[name])
            np.testing.assert_allclose(found[:, head], expected, rtol=1e-9, atol=1e-14)


def test_signal_propagation_is_that_of_the_traces_of_big_products():
    (seen,) = look(layer_of(TWO, 1, 4), "frobenius")
    found = measured("signal_propagation", seen)
    assert ((found >= 0) & (found <= 1)).all()
    for head in range(TWO.H):
        W, sigma = queries.w_qk(seen.weights, head), queries.sigma([*seen.x])
        expected = np.full(4, queries.propagation(W, sigma, TWO.T))
        np.testing.assert_allclose(found[:, head].mean(-1), expected, rtol=1e-12)


@pytest.mark.parametrize(("d", "size"), [(6, 1.0), (24, 0.2)])
def test_signal_propagation_is_that_of_random_walks(d, size):
    rng, S, T = np.random.default_rng(0), 2000, 200
    W, root = rng.normal(size=(2, d, d)) / d**0.5
    walks = (rng.normal(size=(S, T, d)) @ root.T).cumsum(1)
    q, real = walks @ (size * W), np.ones((S, T), bool)
    scores = np.einsum("ste,se->st", walks, q[:, -1])
    measured = (scores - scores.mean(1, keepdims=True)) / T
    tau = np.arange(1, T + 1) / T
    mean, variance = signal_propagation.walk_moments(
        tau, q[:, None], walks[:, None], real
    )
    squares = (measured - measured.mean(0)) ** 2
    for samples, moment in ((measured, mean[0]), (squares, variance[0])):
        error = 4 * samples.std(0) / S**0.5
        assert (np.abs(samples.mean(0) - moment) < error + 1 / T).all()
    if d > 6:  # of so many directions the score is nearly Gaussian
        between = ((measured > 0) & (measured < 1)).mean(0)
        rho = signal_propagation.linear_probability(mean, variance)[0]
        np.testing.assert_allclose(between, rho, atol=0.06)


def test_without_variance_signals_pass_where_the_mean_is_between_0_and_1():
    mean, nothing = np.array([-1.0, 0.0, 0.5, 1.0, 2.0]), np.zeros(5)
    found = signal_propagation.linear_probability(mean, nothing)
    assert found.tolist() == [0, 0.5, 1, 0.5, 0]
    near = signal_propagation.linear_probability(mean, nothing + 1e-12)
    np.testing.assert_allclose(near, found, rtol=0, atol=1e-15)


def test_equal_queries_are_alike_and_orthonormal_ones_are_not():
    real = np.ones((1, 4), bool)
    same, apart = np.full((1, 1, 4, 5), 0.3), np.eye(4)[None, None]
    for q, value in ((same, 1), (-7 * same, 1), (apart, 0), (0 * same, 0)):
        table = query_similarity.cosines(q, real)
        for farthest in (1, 3):
            found = query_similarity.mean_cosine(table, farthest)
            np.testing.assert_allclose(found, value, rtol=0, atol=1e-15)


def test_similarity_by_lag_is_that_of_a_loop_and_of_a_rotation_its_cosine():
    (seen,) = look(layer_of(FOLDED, 1, 2), "frobenius")
    found = courses(seen)["query_similarity_by_lag"]
    for s, head, lag in np.ndindex(2, FOLDED.H, FOLDED.T - 1):
        expected = queries.similarity(seen.q[s, head], range(lag + 1, lag + 2))
        assert found[s, head, lag] == pytest.approx(expected, rel=1e-12)
    q = rotated(np.array([0.6, -1.1]), 0.4)[None, None]
    table = query_similarity.cosines(q, np.ones((1, T), bool))
    by_lag = mean_by_lag(table)[0, 0]
    np.testing.assert_allclose(by_lag, np.cos(0.4 * np.arange(T)), atol=1e-14)


def test_one_key_and_query_under_rotary_positions_make_a_periodic_toeplitz_map():
    q = rotated(np.array([1.2, 0.9]), np.pi / 2)
    alpha = rows_of(np.exp(q @ q.T))  # whole periods: all rows have one denominator
    np.testing.assert_allclose(alpha[1:, 1:], alpha[:-1, :-1], rtol=0, atol=1e-15)
    profile = mean_by_lag(alpha[None, None])[0, 0]
    np.testing.assert_allclose(profile, alpha[0], rtol=0, atol=1e-15)
    everything = np.ones((1, 1, T, T), bool)
    assert head_class.period(alpha[None, None], everything) == 4
    assert class_of(alpha) == "periodic"


CAUSAL = np.tri(T, dtype=bool)
SINK = np.where(np.arange(T) == 3, 1.0, 0.05) + 0 * LAG
BAND = np.exp(-2.0 * LAG)
COMB = np.where(LAG % 4 == 0, 1.0, 0.05)


@pytest.mark.parametrize(
    ("weights", "name"),
    [
        (SINK, "reaccess"),
        (SINK[:, ::-1], "reaccess"),
        (BAND, "sequential"),
        (np.eye(T, k=-1) + np.eye(T) * (np.arange(T) == 0), "sequential"),
        (COMB, "periodic"),
        (np.where(LAG % 3 == 0, 1.0, 0.01), "periodic"),
        (np.ones((T, T)), "unpredictable"),
        (np.exp(np.random.default_rng(0).normal(size=(T, T))), "unpredictable"),
        (np.eye(T)[np.random.default_rng(0).permutation(T)], "unpredictable"),
    ],
)
def test_planted_maps_have_their_class(weights, name):
    alpha, everything = rows_of(weights), np.ones((T, T), bool)
    assert class_of(alpha) == queries.head_class(alpha, everything) == name


@pytest.mark.parametrize(
    ("weights", "name"),
    [
        (np.where(np.arange(T) == 0, 1.0, 0.01) + 0 * LAG, "reaccess"),
        (BAND, "sequential"),
        (np.where(LAG % 4 == 0, 1.0, 0.01), "periodic"),
        (np.ones((T, T)), "unpredictable"),
    ],
)
def test_classes_are_judged_by_what_a_mask_leaves(weights, name):
    alpha = rows_of(weights * CAUSAL)
    assert class_of(alpha, CAUSAL) == queries.head_class(alpha, CAUSAL) == name


def test_the_shares_of_the_classes_add_up_to_one():
    table = diagnose(layer_of(FOLDED, 2, 5), [e.name for e in head_class.ENTRIES])
    np.testing.assert_allclose(table.groupby("head")["value"].sum(), 1, rtol=1e-15)


def test_independent_values_vary_as_the_concentration_of_attention():
    rng, D = np.random.default_rng(0), 40_000
    values = 1.5 * rng.normal(size=(T, D))
    peaked = rows_of(np.exp(2 * rng.normal(size=(T, T))))
    for alpha in (peaked, rows_of(1.0 * CAUSAL)):
        variances = (alpha @ values).var(-1)
        expected = 1.5**2 * value_variance.concentration(alpha)
        np.testing.assert_allclose(variances, expected, rtol=0.04)
        logs = np.log(variances), np.log(expected)
        (found,) = value_variance.correlation(*(own[None] for own in logs))
        assert found > 0.999
    np.testing.assert_allclose(expected, 1.5**2 / np.arange(1, T + 1), rtol=1e-14)


def test_correlations_need_three_rows_and_spread():
    one, nothing = np.array([[1.0, 3.0, 2.0, np.nan]]), np.nan
    rows = np.array([[2.0, 6.0, 4.0, 9.0], [2, 2, 2, 9], [2, 6, nothing, 9]])
    found = value_variance.correlation(one, rows)
    np.testing.assert_allclose(found, [1, nothing, nothing], rtol=1e-15)
    variances = np.array([[1.0, nothing, 6, 2], [5, nothing, 1, nothing], [0, 0, 0, 1]])
    found = value_variance.discrepancy(np.concatenate([variances, [[nothing] * 4]]))
    np.testing.assert_allclose(found, [3, 5 / 3, nothing, nothing], rtol=1e-15)


def test_rows_of_padding_count_nowhere():
    layer = layer_of(FOLDED, 1, 3)
    real = np.arange(FOLDED.T) < 4
    padded = dataclasses.replace(
        layer,
        x=np.where(real[:, None], layer.x, 1e3 * layer.x),
        score_bias=ScoreBias(array=np.where(real, 0.0, -np.inf)),
        rows=real,
    )
    alone = dataclasses.replace(layer, x=layer.x[..., :4, :])
    one, other = (diagnose(own, NAMES)["value"] for own in (padded, alone))
    assert other.notna().all()
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-13)
    long, short = (
        summarize_courses([courses(seen) for seen in look(own, "frobenius")])
        .query("quantity == 'query_similarity_by_lag'")
        .pivot_table(index="head", columns="at", values="value")
        for own in (padded, alone)
    )
    np.testing.assert_allclose(long, short, rtol=1e-12)


@pytest.mark.parametrize("rows", [None, np.zeros(1, bool)])
def test_what_one_step_has_no_value_of_says_what_it_needs(rows):
    layer = layer_of(FOLDED._replace(T=1), 1, 2, rows=rows)
    table = diagnose(layer, NAMES).query("head == 'layer'").set_index("quantity")
    missing = table.index[table["value"].isna()]
    always = {"qk_trace", "qk_scale", "qk_variance"}
    if rows is None:
        always |= {"value_variance_discrepancy", "effective_support"}
    assert set(table.index) - set(missing) == always
    assert all(
        table["note"][name] == f"needs {BY_NAME[name].needs}" for name in missing
    )
    (seen,) = look(layer, "frobenius")
    assert courses(seen)["query_similarity_by_lag"].shape == (2, FOLDED.H + 1, 0)
    assert "query_similarity_by_lag" not in set(
        summarize_courses([courses(seen)])["quantity"]
    )


def test_values_of_one_channel_have_no_variance():
    layer = layer_of(FOLDED._replace(V=1), 1, 2)
    table = diagnose(layer, [entry.name for entry in value_variance.ENTRIES])
    missing = table.set_index("quantity")["value"].isna()
    assert set(missing.index[~missing]) == {"effective_support"}
