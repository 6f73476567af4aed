"""What is measured where a form of attention makes rows add up to less than 1."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

from analysis import diagnose
from sensitivity import AttentionForm, LayerInput, ScoreBias
from sensitivity.attention import attention_matrix
from tests.helpers import PAPER, make_weights

BY_SHARES = [
    *("entropy", "attention_entropy", "effective_steps", "effective_support"),
    *("diagonal_excess", "mean_lag", "class_unpredictable"),
]


def layer_of(sink: float, scale: float = 1.0) -> LayerInput:
    """A random layer, its queries scaled, with one more entry in its softmax."""
    rng = np.random.default_rng(1)
    x, weights = rng.normal(size=(2, PAPER.T, PAPER.D)), make_weights(rng, PAPER)
    form = AttentionForm(sink=np.full(PAPER.H, sink))
    weights = dataclasses.replace(weights, query=weights.query * scale, form=form)
    return LayerInput(x=x, weights=weights, residual=False)


def numbers(layer: LayerInput, names: list[str]) -> dict[Any, float]:
    """Of the layer as a whole."""
    table = diagnose(layer, names)
    return table[table["head"] == "layer"].set_index("quantity")["value"].to_dict()


def test_a_sink_does_not_change_how_evenly_the_steps_are_attended():
    far = numbers(layer_of(-1e3), BY_SHARES)
    assert numbers(layer_of(2.0), BY_SHARES) == pytest.approx(far, rel=1e-9)
    T, even = PAPER.T, numbers(layer_of(0.0, scale=0.0), BY_SHARES)
    assert even["entropy"] == pytest.approx(1)
    assert even["effective_steps"] == pytest.approx(T)
    assert even["effective_support"] == pytest.approx(T)
    assert even["diagonal_excess"] == pytest.approx(1)
    assert even["mean_lag"] == pytest.approx((T * T - 1) / (3 * T))


def test_rows_that_give_all_to_the_sink_have_no_shares_and_say_so():
    table = diagnose(layer_of(1e4), BY_SHARES)
    assert table["value"].isna().all()
    assert table["note"].str.startswith("needs ").all()


def test_contraction_is_of_the_attended_values_themselves():
    layer = layer_of(1.0)
    weights = layer.weights
    alpha = np.asarray(attention_matrix(layer.x, weights))
    ratios = []
    for x, maps in zip(layer.x, alpha, strict=True):
        for n, own in enumerate(maps):
            v = x @ weights.value[:, n]
            v = v if weights.value_bias is None else v + weights.value_bias[n]
            ratios.append(widest(own @ v) / widest(v))
    found = numbers(layer, ["contraction"])["contraction"]
    assert found == pytest.approx(np.mean(ratios))


def test_weights_that_a_form_adds_where_a_mask_forbids_are_measured():
    layer, T = layer_of(0.0), PAPER.T
    added = np.full((PAPER.H, T, T), 0.5 / T)
    form = AttentionForm(gain=np.full(PAPER.H, 0.5), added=added)
    weights = dataclasses.replace(layer.weights, form=form)
    mask = ScoreBias(diagonal=-np.inf)
    table = diagnose(dataclasses.replace(layer, weights=weights, score_bias=mask))
    found = table[table["head"] == "layer"].set_index("quantity")
    assert found["value"]["diagonal_share"] == pytest.approx(0.5 / T)
    for name in ("entropy_bound", "entropy_bound_by_weights"):
        assert found["note"][name].startswith("needs a row that counts, of a plain")


def widest(points: np.ndarray) -> float:
    """The largest distance of two points."""
    pairs = itertools.combinations(points, 2)
    return max(float(np.linalg.norm(a - b)) for a, b in pairs)
