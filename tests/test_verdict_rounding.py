"""The rounding scale of a verdict is that of its statement: divided where it is."""

import itertools
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensitivity import ScoreBias
from sensitivity.bounds import judge, measure
from tests.helpers import (
    FOLDED,
    LEVELS,
    TRUE,
    make_array,
    make_layer,
    paper_layer,
    seeds,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")


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


@pytest.mark.slow
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
