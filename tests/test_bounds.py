"""The verdicts: what is true holds everywhere, what is printed wrong is found out."""

import contextlib
import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings

from sensitivity import ScoreBias, check_bounds, path_norms, profile
from sensitivity.arguments import ArgumentError
from sensitivity.bounds import plan_memory
from sensitivity.equations import OF_COVARIANCES, STATEMENTS
from tests import reference
from tests.helpers import (
    ENGINES,
    FOLDED,
    LEVELS,
    NARROW,
    NORMS,
    PAPER,
    ROUNDING,
    SHAPES,
    TRUE,
    Shape,
    assert_close,
    assert_true_statements_hold,
    diagonals,
    draws,
    judged,
    kinds,
    make_array,
    make_case,
    make_layer,
    residual_allowed,
    rounding_scale,
    scales,
    seeds,
    table_of,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")

COLUMNS = ["statement", "rows", "rows_holding", "worst_ratio", "median_ratio"]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("paper", "closed_form"),
        ("paper", "autodiff"),
        pytest.param("folded", "closed_form", marks=pytest.mark.slow),
        pytest.param("folded", "autodiff", marks=pytest.mark.slow),
        pytest.param("narrow", "closed_form", marks=pytest.mark.slow),
    ],
)
@given(draw=draws)
@settings(max_examples=10)
def test_both_sides_of_every_statement_are_the_oracles(name, engine, norm, draw):
    shape = SHAPES[name]
    x, w, score_bias, bias = draw.of(shape)
    for level in LEVELS:
        per_head = level == "head"
        residual = residual_allowed(w, per_head)
        expected = reference.statements(x, w, bias, norm, residual, level)
        options: Any = {"norm": norm, "level": level, "engine": engine}
        lines = judged(x, w, score_bias=score_bias, **options)
        scale_i = ROUNDING * rounding_scale(x, w, norm)
        scale_i = scale_i if per_head else scale_i.sum(0)
        assert [one.statement for one in lines] == list(expected)
        for one in lines:
            exact, bound, kept = expected[one.statement]
            s = scale_i
            if one.exact.shape != s.shape:  # a mean over the rows
                exact, bound, kept = (np.atleast_1d(a) for a in (exact, bound, kept))
                exact, bound, kept = (
                    a.reshape(one.exact.shape) for a in (exact, bound, kept)
                )
                s = s.mean(-1, keepdims=True)
            # Means over j are sums of T rounded terms, and constants have sqrt(K).
            assert_close(one.exact, exact, 1e-9, shape.T * s)
            noise = 1e-7 * s / ROUNDING if one.statement in OF_COVARIANCES else 0
            assert_close(one.bound, bound, 1e-9, shape.T * s + noise)
            np.testing.assert_array_equal(one.counted, kept)
            excess = exact - bound
            if per_head and one.statement in ("eq5", "eq6_middle"):
                excess = np.abs(excess)
            clear = np.abs(excess - 1e-9 * bound - s) > 3 * s + 1e-8 * bound
            holds = excess <= 1e-9 * bound + s
            np.testing.assert_array_equal(one.holds[clear], holds[clear])
            if one.statement in TRUE:
                assert one.holds[one.counted].all()


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
@given(seed=seeds, scale=scales, diagonal=diagonals, kind=kinds)
@settings(max_examples=15)
def test_true_statements_hold_in_float32(norm, seed, scale, diagonal, kind):
    shape = FOLDED
    x, w = make_layer(seed, shape, scale)
    array = make_array(seed, shape, kind)
    x, w, array = jax.tree.map(np.float32, (x, w, array))
    for level in LEVELS:
        table = table_of(
            x, w, score_bias=ScoreBias(diagonal, array=array), norm=norm, level=level
        )
        assert_true_statements_hold(table)


@given(seed=seeds, scale=scales)
@settings(max_examples=15)
def test_true_statements_hold_under_a_causal_mask(seed, scale):
    x, w = make_layer(seed, PAPER, scale)
    table = table_of(x, w, score_bias=ScoreBias(causal=True))
    assert_true_statements_hold(table)
    assert table.rows["eq8_off_diagonal"] == 4  # the first row has no other step
    assert table.rows["eq8_off_diagonal_conditional"] == 4
    assert table.rows["eq7"] == 5


def test_rows_without_other_steps_are_skipped():
    x, w = make_layer(0, PAPER._replace(T=1))
    table = table_of(x, w)
    for name in ("eq8_off_diagonal", "eq8_off_diagonal_conditional"):
        assert table.rows[name] == table.rows_holding[name] == 0
        assert np.isnan(table.worst_ratio[name])
        assert np.isnan(table.median_ratio[name])
    assert table.rows["eq5"] == 1
    assert_true_statements_hold(table)


@pytest.mark.parametrize("norm", NORMS)
@given(draw=draws)
@settings(max_examples=25)
def test_the_rungs_are_ordered_where_they_must_be(norm, draw):
    x, w, score_bias, _ = draw.of(FOLDED)
    p = profile(x, w, score_bias=score_bias, norm=norm)
    names = ("query_constant", "query_weighted", "query_centred", "query_covariance")
    constant, weighted, centred, covariance = (
        np.asarray(getattr(p, name)) for name in names
    )
    most = constant / FOLDED.K**0.5
    s = ROUNDING * np.asarray(p.rounding_scale)
    assert (weighted <= most * (1 + 1e-9) + s).all()
    assert (p.query_norm <= covariance * (1 + 1e-9) + s).all()
    if not np.isinf(draw.diagonal) and draw.kind == "zero":
        assert np.isfinite(centred).all()


def test_the_query_constant_bounds_the_centred_rung_only_without_a_key_offset():
    """The key bias is a gauge: it moves C_Q and its rungs, and no path."""
    x, w = make_layer(1, FOLDED)
    moved = dataclasses.replace(w, key_bias=np.asarray(w.key_bias) + 5.0)
    score_bias = ScoreBias(array=make_array(1, FOLDED, "normal"))
    before, after = (profile(x, v, score_bias=score_bias) for v in (w, moved))
    for name in ("value_mean", "key_mean", "query_mean", "off_diagonal_mean"):
        assert_close(getattr(after, name), getattr(before, name), 1e-11)
    for name in ("diagonal_norm", "query_norm", "query_centred", "query_covariance"):
        assert_close(getattr(after, name), getattr(before, name), 1e-11, 1e-13)
    for name in ("query_constant", "query_weighted"):
        difference = np.abs(getattr(after, name) - getattr(before, name))
        assert difference.min() > 1e-3


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("level", LEVELS)
def test_rounding_makes_no_verdict_under_hard_attention(level, norm):
    x, w = make_layer(2, FOLDED)
    for dtype in (np.float64, np.float32):
        hard = dataclasses.replace(w, query=np.asarray(w.query) * 1e4)
        own_x, own = jax.tree.map(dtype, (x, hard))
        bias = ScoreBias(array=np.zeros((3, 6, 6), dtype))
        table = table_of(own_x, own, score_bias=bias, norm=norm, level=level)
        assert_true_statements_hold(table)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("level", LEVELS)
def test_identical_tokens_are_equal_to_rounding_with_ratio_near_one(level, norm):
    x, w = make_layer(3, FOLDED)
    x = np.broadcast_to(x[:1], x.shape)
    for dtype in (np.float64, np.float32):
        own_x, own = jax.tree.map(dtype, (x, w))
        bias = ScoreBias(array=np.zeros((3, 6, 6), dtype))
        table = table_of(own_x, own, score_bias=bias, norm=norm, level=level)
        assert_true_statements_hold(table)
        for name in ("eq6", "eq7", "query_max", "query_weighted", "query_covariance"):
            assert_close(table.worst_ratio[name], 1.0, 0.1)
            assert_close(table.median_ratio[name], 1.0, 0.1)


def test_an_equality_has_ratio_one():
    x, w, score_bias = make_case(4, PAPER, "normal")
    for engine in ENGINES:
        table = table_of(x, w, score_bias=score_bias, engine=engine)
        for name in ("eq5", "eq6_middle"):
            assert_close(table.worst_ratio[name], 1.0, 1e-12)
            assert_close(table.median_ratio[name], 1.0, 1e-12)


def test_the_table_has_its_columns_and_statements_in_order():
    table = check_bounds(*make_layer(0, PAPER))
    assert list(table.columns) == COLUMNS
    assert tuple(table.statement) == STATEMENTS


def test_the_table_says_whether_the_diagonal_has_the_identity():
    shape = Shape(5, 4, 2, 2, 2, None, biases=False)  # O = D for the layer only
    x, w = make_layer(0, shape)
    head = check_bounds(x, w, norm="frobenius").attrs["identity"]
    layer = check_bounds(x, w, norm="frobenius", level="layer").attrs["identity"]
    assert "without the identity" in head
    assert "not as wide as D = 4" in head
    assert "without" not in layer
    assert "have the identity" in layer


def test_rows_pool_heads_and_samples():
    rng = np.random.default_rng(0)
    _, w = make_layer(0, NARROW)
    x = rng.normal(size=(2, 3, 4, 1))
    table = table_of(x, w, norm="frobenius")
    assert table.rows["eq5"] == 2 * 3 * 2 * 4
    assert table.rows["eq8_diagonal_as_printed"] == 2 * 3 * 2
    layer = table_of(x, w, norm="frobenius", level="layer")
    assert layer.rows["eq5"] == 2 * 3 * 4
    assert layer.rows["eq8_diagonal_as_printed"] == 2 * 3


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("level", LEVELS)
def test_a_plan_is_refused_where_the_measurement_is(engine, level):
    x, w = make_layer(0, FOLDED)
    options: Any = {"norm": "frobenius", "engine": engine}
    plan = functools.partial(plan_memory, x.shape, x.dtype, w, **options)
    assert plan(levels=(level,)) <= plan(levels=LEVELS) < 2**30

    def least(function, **own: Any) -> int:
        for budget in range(2, 100, 4):
            with contextlib.suppress(ArgumentError):
                function(max_memory=f"{budget}KiB", **own)
                return budget
        return 0

    measured = least(functools.partial(check_bounds, x, w, level=level, **options))
    assert 2 < measured == least(plan, levels=(level,))


def test_the_exact_side_of_the_ladder_is_the_query_path():
    x, w, score_bias = make_case(4, PAPER, "normal")
    query = np.asarray(path_norms(x, w, score_bias=score_bias, residual=True).query)
    for one in judged(x, w, score_bias=score_bias):
        if one.statement.startswith("query_"):
            assert_close(one.exact[0], query.diagonal(), 1e-12)
