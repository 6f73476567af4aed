"""Sliding windows and ALiBi slopes: masks that need no table of pairs of steps."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from sensitivity import ScoreBias, check_bounds, path_norms, profile
from sensitivity.forms import AttentionForm
from sensitivity.profiles import layer_means
from sensitivity.rotary import Rotary
from tests.helpers import FOLDED, PATHS, make_layer

pytestmark = pytest.mark.usefixtures("strict_promotion")


def tables(T: int, window: int | None, slopes: Any, causal: bool) -> np.ndarray:
    """The same as a table, (H, T, T)."""
    away = np.subtract.outer(np.arange(T), np.arange(T))
    bias = np.zeros((1, T, T)) if slopes is None else -slopes[:, None, None] * abs(away)
    forbidden = np.zeros((T, T), bool) if window is None else abs(away) >= window
    return np.where(forbidden | (causal & (away < 0)), -np.inf, bias)


@pytest.mark.parametrize(
    "norm", ["frobenius", pytest.param("spectral", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    ("window", "sloped", "causal"),
    [(1, False, False), (3, False, True), (3, True, False), (None, True, True)],
)
def test_windows_and_slopes_are_the_tables_that_they_stand_for(
    window, sloped, causal, norm
):
    x, weights = make_layer(3, FOLDED)
    slopes = np.array([0.5, 0.1, 3.0]) if sloped else None
    given = ScoreBias(causal=causal, window=window, slopes=slopes)
    table = ScoreBias(array=tables(FOLDED.T, window, slopes, causal))
    for per_head in (False, True):
        one, other = (
            path_norms(x, weights, score_bias=bias, norm=norm, per_head=per_head)
            for bias in (given, table)
        )
        for path in PATHS:
            np.testing.assert_allclose(
                *(getattr(norms, path) for norms in (one, other)),
                rtol=1e-10,
                atol=1e-12,
            )


@pytest.mark.parametrize(
    ("kind", "causal"),
    [
        pytest.param(kind, causal, marks=[] if quick else pytest.mark.slow)
        for kind, causal, quick in (
            *(("plain", True, True), ("padded", False, True), ("padded", True, False)),
            *(("slopes", False, False), ("rotary", False, False)),
            ("rotary", True, False),
        )
    ],
)
def test_a_long_input_in_slices_has_the_rows_of_the_whole(kind, causal):
    T = 400
    _, weights = make_layer(3, FOLDED)
    x = np.random.default_rng(2).normal(size=(2, T, FOLDED.D))
    rows, array, slopes = None, None, None
    if kind == "padded":
        rows = np.arange(T) < np.array([[T], [T - 170]])
        array = np.where(rows, 0.0, -np.inf)[:, None, None]
    if kind == "slopes":
        slopes = np.array([0.5, 0.1, 3.0])
    if kind == "rotary":
        form = AttentionForm(rotary=Rotary.of_base(T, 2, 10.0))
        weights = dataclasses.replace(weights, form=form)
    bias = ScoreBias(window=20, causal=causal, array=array, slopes=slopes)
    table = tables(T, 20, slopes, causal)
    if array is not None:
        table = table + array
    whole = ScoreBias(array=table)
    options: Any = {
        "norm": "frobenius",
        "empty_rows": "skip" if array is not None else "error",
    }
    for measure in (profile, layer_means):
        one, other = (
            measure(x, weights, score_bias=own, **options) for own in (bias, whole)
        )
        for name in one._fields:
            np.testing.assert_allclose(
                *(np.asarray(getattr(rows, name)) for rows in (one, other)),
                rtol=1e-9,
                atol=1e-12,
                err_msg=name,
            )
    one, other = (
        check_bounds(x, weights, score_bias=own, rows=rows, **options)
        for own in (bias, whole)
    )
    np.testing.assert_allclose(one["median_ratio"], other["median_ratio"], rtol=1e-8)
    assert one["rows_holding"].tolist() == other["rows_holding"].tolist()


def test_a_window_whose_keys_are_all_padding_is_named():
    x, weights = make_layer(3, FOLDED)
    array = np.where(np.arange(6) < 1, 0.0, -np.inf)
    bias = ScoreBias(window=2, causal=True, array=array)
    with pytest.raises(ValueError, match="leaves row i=2 nothing to attend to"):
        path_norms(x, weights, score_bias=bias)
    with pytest.raises(ValueError, match="leaves row i=0 nothing to attend to"):
        path_norms(x, weights, score_bias=ScoreBias(-np.inf, window=1))


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"window": 0}, "window must be an integer number of steps, at least 1, got 0"),
        ({"window": 2.0}, "window must be an integer number of steps"),
        ({"window": True}, "window must be an integer number of steps"),
        ({"slopes": np.ones((2, 2))}, r"slopes must be numbers, one for each head"),
        ({"slopes": ["a"]}, "slopes must be an array of numbers"),
    ],
)
def test_what_is_no_window_and_no_slopes_is_refused(given, rule):
    with pytest.raises(ValueError, match=rule):
        ScoreBias(**given)


def test_slopes_of_another_number_of_heads_are_refused():
    x, weights = make_layer(3, FOLDED)
    with pytest.raises(ValueError, match=r"score_bias.slopes must have shape \(3,\)"):
        path_norms(x, weights, score_bias=ScoreBias(slopes=np.ones(2)))
