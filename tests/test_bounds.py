"""The verdicts: what is true holds everywhere, what is printed wrong is found out."""

import contextlib
import dataclasses
import functools
import itertools
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensitivity import ScoreBias, check_bounds, path_norms, profile
from sensitivity.arguments import ArgumentError
from sensitivity.bounds import judge, measure, plan_memory
from sensitivity.equations import OF_COVARIANCES, STATEMENTS
from tests import reference
from tests.helpers import (
    ENGINES,
    FOLDED,
    LEVELS,
    NARROW,
    NORMS,
    PAPER,
    PRINTED,
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
    paper_layer,
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
        ("folded", "closed_form"),
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


# The lines that Eq. 8 should have had.


@pytest.mark.parametrize("norm", NORMS)
@given(draw=draws)
@settings(max_examples=25)
def test_the_tight_lines_hold_and_none_off_the_diagonal_is_looser_than_eq_8(norm, draw):
    x, w, score_bias, _ = draw.of(FOLDED)
    for level in LEVELS:
        options: Any = {"score_bias": score_bias, "norm": norm, "level": level}
        lines = {one.statement: one for one in judged(x, w, **options)}
        for name in ("eq8_off_diagonal_tight", "eq8_diagonal_tight"):
            assert lines[name].holds[lines[name].counted].all()
        tight, loose = (lines[f"eq8_off_diagonal{end}"].bound for end in ("_tight", ""))
        assert (tight <= loose * (1 + 1e-12)).all()
        both = lines["eq8_off_diagonal_tight"], lines["eq8_off_diagonal_conditional"]
        T = FOLDED.T
        tight, loose = (one.bound * n for one, n in zip(both, (T, T - 1), strict=True))
        assert (tight <= loose * (1 + 1e-12)).all()


@pytest.mark.parametrize(
    ("T", "diagonal", "off", "corrected"),
    [
        (16, (1.3, 1.7), (1.2, 1.5), 4.0),
        pytest.param(64, (1.3, 1.6), (1.2, 1.5), 5.0, marks=pytest.mark.slow),
        pytest.param(256, (1.3, 1.7), (1.2, 1.5), 8.0, marks=pytest.mark.slow),
    ],
)
def test_the_tight_lines_do_not_loosen_with_the_number_of_steps(
    T, diagonal, off, corrected
):
    names = ("eq8_diagonal_tight", "eq8_off_diagonal_tight", "eq8_diagonal_corrected")
    medians = np.array(
        [
            [1 / table_of(*paper_layer(seed, T)).median_ratio[name] for name in names]
            for seed in range(5)
        ]
    )
    middle = np.median(medians, axis=0)
    assert diagonal[0] < middle[0] < diagonal[1]
    assert off[0] < middle[1] < off[1]
    assert middle[2] > corrected


# The printed diagonal line of Eq. 8 fails, and its corrected form does not.


def test_the_printed_diagonal_line_fails_on_a_named_seed_and_the_corrected_holds():
    x, w = paper_layer(0, T=96)
    table = table_of(x, w)
    assert table.rows_holding["eq8_diagonal_as_printed"] == 0
    assert table.rows["eq8_diagonal_as_printed"] == 1
    assert table.worst_ratio["eq8_diagonal_as_printed"] > 1
    assert table.rows_holding["eq8_diagonal_corrected"] == 96


def test_the_printed_diagonal_line_fails_on_most_seeds_and_the_corrected_on_none():
    failing = 0
    for seed in range(40):
        table = table_of(*paper_layer(seed, T=96))
        failing += 1 - table.rows_holding["eq8_diagonal_as_printed"]
        assert_true_statements_hold(table)
    assert 0.8 <= failing / 40 < 1.0


def test_the_printed_line_fails_everywhere_under_a_full_mask_as_the_query_path_stays():
    x, w = paper_layer(0, T=48)
    mask = ScoreBias(diagonal=-np.inf)
    table = table_of(x, w, score_bias=mask)
    assert table.rows_holding["eq8_diagonal_as_printed"] == 0
    assert_true_statements_hold(table)
    statistics = profile(x, w, score_bias=mask)
    assert not np.asarray(statistics.diagonal_weight).any()
    assert np.asarray(statistics.query_norm).min() > 0.01
    printed = next(
        one for one in judged(x, w, score_bias=mask) if one.statement == PRINTED[0]
    )
    assert printed.bound == 1.0  # ||I||: nothing else is left of it
    assert printed.exact > 1.0


def test_the_mean_over_other_steps_needs_its_own_bound():
    """Divided by T - 1, the bound of Eq. 8 can fail where alpha_ii < 1 / T."""
    rows = failing = 0
    for seed in range(20):
        x, w = make_layer(seed, PAPER, scale=3.0)
        mask = ScoreBias(diagonal=-np.inf)
        lines = {one.statement: one for one in judged(x, w, score_bias=mask)}
        conditional = lines["eq8_off_diagonal_conditional"]
        assert conditional.holds.all()
        T = PAPER.T
        wrong = conditional.exact > lines["eq8_off_diagonal"].bound * (1 + 1e-9)
        assert_close(
            lines["eq8_off_diagonal"].exact * T / (T - 1), conditional.exact, 1e-14
        )
        rows, failing = rows + wrong.size, failing + wrong.sum()
    assert 0 < failing < rows


def test_the_mean_over_other_steps_can_only_exceed_where_the_diagonal_is_light():
    for seed in range(20):
        x, w = make_layer(seed, PAPER, scale=3.0)
        lines = {one.statement: one for one in judged(x, w)}
        wrong = lines["eq8_off_diagonal_conditional"].exact > (
            lines["eq8_off_diagonal"].bound * (1 + 1e-9)
        )
        light = np.asarray(profile(x, w).diagonal_weight) < 1 / PAPER.T
        assert not (wrong & ~light).any()


# The rounding scale of a verdict is that of its statement: divided where it is.

DIVIDED = {name: 1 for name in ("eq5", "eq6_middle", "eq6", "eq7", "eq8_off_diagonal")}
DIVIDED |= {"eq8_off_diagonal_tight": 1, "eq8_off_diagonal_conditional": 0}


def scale_of(measured, level: Any, statement: str, eps: float) -> np.ndarray:
    """S of a statement, from its definition."""
    scale = 16 * eps * measured.heads.rounding_scale
    scale = scale if level == "head" else scale.sum(-2)
    T = scale.shape[-1]
    if statement in ("query_covariance", "eq8_diagonal_tight"):
        error = np.asarray(measured.heads.covariance_error)
        return scale + (error if level == "head" else error.sum(-2))
    if statement == "eq8_diagonal_as_printed":
        scale = scale.mean(-1, keepdims=True)
    return scale / {1: T, 0: T - 1}.get(DIVIDED.get(statement, 2), 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ratio_and_verdict_are_as_they_are_written_down(dtype):
    x, w, array = jax.tree.map(dtype, (*make_layer(1, FOLDED), np.zeros((3, 6, 6))))
    measured = measure(x, w, score_bias=ScoreBias(array=array), levels=LEVELS)
    assert measured.eps == np.finfo(dtype).eps
    least = 1e-9 if dtype is np.float64 else 1e-4
    large = measured.heads._replace(score_scale=1e9 * measured.heads.score_scale)
    for level, scores in itertools.product(LEVELS, (measured.heads, large)):
        slack = 16 * measured.eps * scores.score_scale
        slack = np.maximum(slack if level == "head" else slack.max(-2), least)
        assert (slack == least).all() == (scores is measured.heads)
        for one in judge(measured._replace(heads=scores), level):
            s = scale_of(measured, level, one.statement, measured.eps)
            expected = (one.exact + s) / (one.bound + s)
            np.testing.assert_allclose(one.ratio, expected, rtol=1e-14)
            excess = one.exact - one.bound
            if level == "head" and one.statement in ("eq5", "eq6_middle"):
                excess = np.abs(excess)
            mean = one.exact.shape != slack.shape
            own = slack.max(-1, keepdims=True) if mean else slack
            np.testing.assert_array_equal(one.holds, excess <= own * one.bound + s)


def test_an_excess_beyond_the_share_of_the_scale_is_found_out():
    """At T = 512 the undivided scale would hide an excess 500 times as large."""
    x, w = jax.tree.map(np.float32, paper_layer(0, T=512, d=4, s=30.0))
    measured = measure(x, w, norm="frobenius", levels=("head",))
    exact = np.asarray(measured.heads.key_mean)
    s = scale_of(measured, "head", "eq6_middle", measured.eps)
    slack = np.maximum(1e-4, 16 * measured.eps * measured.heads.score_scale)
    for factor in (0.9, 1.1):
        moved = exact + factor * (s + slack * exact)
        means = measured.means["head"]._replace(key_mean=moved)
        verdicts = judge(measured._replace(means={"head": means}), "head")
        own = next(one for one in verdicts if one.statement == "eq6_middle")
        assert own.holds.all() == own.holds.any() == (factor < 1)


@given(seed=seeds, log=st.floats(-2, 2), spread=st.floats(-2, 2))
@settings(max_examples=15)
def test_ratios_of_float32_are_those_of_float64_and_nothing_true_fails(
    seed, log, spread
):
    x, w = make_layer(seed, FOLDED, 10**log)
    array = make_array(seed, FOLDED, "forbidding")
    single = jax.tree.map(np.float32, (10**spread * x, w, array))
    double = jax.tree.map(np.float64, single)
    coarse, fine = (
        measure(x, w, score_bias=ScoreBias(array=array), levels=LEVELS)
        for x, w, array in (single, double)
    )
    for level in LEVELS:
        for one, other in zip(judge(coarse, level), judge(fine, level), strict=True):
            if one.statement in TRUE:
                assert one.holds[one.counted].all(), one.statement
                assert other.holds[other.counted].all(), other.statement
            s = scale_of(coarse, level, one.statement, coarse.eps)
            clear = one.counted & (other.bound > 1e4 * s)
            difference = np.abs(one.ratio - other.ratio)[clear]
            assert (difference <= 1e-3).all(), one.statement
