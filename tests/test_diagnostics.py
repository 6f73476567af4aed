"""Every diagnostic against loops over rows and steps; what is said of uniform ones."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from analysis import diagnose
from analysis.diagnostics import diagonal, entropy, rows, seen
from analysis.diagnostics.registry import BY_NAME, DIAGNOSTICS, PANELS, SHOWN
from sensitivity import LayerInput, ScoreBias
from sensitivity.arguments import ArgumentError
from tests import reference
from tests.helpers import FOLDED, PAPER, full_bias, make_weights
from tests.oracles.every import ORACLES
from tests.oracles.view import views

OF_A_RESIDUAL = {name for name in BY_NAME if "with_residual" in name}


def layer_of(shape: Any, residual: bool, *batch: int, **bias: Any) -> LayerInput:
    """A random layer at a random input."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(*batch, shape.T, shape.D))
    weights = make_weights(rng, shape)
    return LayerInput(
        x=x, weights=weights, score_bias=ScoreBias(**bias), residual=residual
    )


@pytest.mark.parametrize(
    ("shape", "residual", "norm", "diagonal"),
    [
        (FOLDED, True, "frobenius", -0.1),
        (PAPER, False, "spectral", -np.inf),
        pytest.param(FOLDED, True, "spectral", 0.0, marks=pytest.mark.slow),
    ],
)
def test_every_diagnostic_is_what_its_oracle_says(shape, residual, norm, diagonal):
    layer = layer_of(shape, residual, 3, diagonal=diagonal)
    table = diagnose(layer, norm=norm)
    found = table.set_index(["head", "quantity"])["value"].to_dict()
    bias = full_bias(shape, layer.score_bias)
    samples = views(layer.x, layer.weights, bias, norm, residual)
    assert set(ORACLES) == set(BY_NAME)
    expected = {
        (head, name): oracle(own)
        for head, own in samples.items()
        for name, oracle in ORACLES.items()
        if name not in OF_A_RESIDUAL or own[0].kept is not None
    }
    assert found == pytest.approx(expected, rel=1e-8, abs=1e-14, nan_ok=True)
    assert table.loc[table["value"].isna(), "note"].str.startswith("needs ").all()
    order = [name for name in BY_NAME if ("layer", name) in expected]
    assert table.loc[table["head"] == "layer", "quantity"].tolist() == order


def test_uniform_attention_has_the_values_that_the_registry_gives_it():
    layer = layer_of(PAPER, False, 2)
    query = np.zeros_like(layer.weights.query)
    weights = dataclasses.replace(layer.weights, query=query)
    table = diagnose(dataclasses.replace(layer, weights=weights))
    uniform = {e.name: e.uniform(PAPER.T) for e in DIAGNOSTICS if e.uniform is not None}
    assert len(uniform) > 10
    for _, own in table.groupby("head"):
        values = own.set_index("quantity")["value"].to_dict()
        found = {name: values[name] for name in uniform}
        assert found == pytest.approx(uniform, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("ahead", [(), (1,), (1, 1)])
def test_a_table_of_all_samples_stays_one(ahead):
    layer = layer_of(PAPER, False, 2, 2)
    T, H = PAPER.T, PAPER.H
    array = np.random.default_rng(2).normal(size=(H, T, T))
    of_all = ScoreBias(array=array.reshape(*ahead, H, T, T))
    looked = dataclasses.replace(layer, score_bias=of_all)
    shapes = {np.shape(one.score_bias.array) for one in seen.look(looked, "frobenius")}
    assert shapes == {(1,) * bool(ahead) + (H, T, T)}
    of_each = ScoreBias(array=np.broadcast_to(array, (2, 2, H, T, T)))
    every = dataclasses.replace(layer, score_bias=of_each)
    names = ["diagonal_share", "attention_entropy"]
    one, other = (diagnose(own, names)["value"] for own in (looked, every))
    np.testing.assert_allclose(one, other, rtol=1e-12)


def test_samples_and_nodes_count_alike_and_each_has_its_own_mask():
    layer = layer_of(PAPER, False, 2, 2)
    flat = dataclasses.replace(layer, x=layer.x.reshape(4, PAPER.T, PAPER.D))
    names = ["diagonal_share", "largest_column_mean"]  # compile quickly
    one, other = (diagnose(own, names)["value"] for own in (layer, flat))
    np.testing.assert_allclose(one, other, rtol=1e-12)
    array = np.random.default_rng(2).normal(size=(2, 2, 1, PAPER.T, PAPER.T))
    biased = dataclasses.replace(layer, score_bias=ScoreBias(array=array))
    single = [
        diagnose(
            dataclasses.replace(
                layer, x=layer.x[b, n], score_bias=ScoreBias(array=array[b, n])
            ),
            names,
        )
        for b in (0, 1)
        for n in (0, 1)
    ]
    mean = np.mean([table["value"] for table in single], 0)
    np.testing.assert_allclose(diagnose(biased, names)["value"], mean, rtol=1e-12)


@pytest.mark.parametrize("low", [-1e4, -1e9, float(np.finfo(np.float32).min)])
def test_a_finite_mask_gives_the_diagnostics_of_minus_infinity(low):
    mask = np.where(np.tri(FOLDED.T, dtype=bool), 0.0, -np.inf)
    names = [e.name for e in DIAGNOSTICS if e.column != 3]  # compile quickly
    one, other = (
        diagnose(layer_of(FOLDED, False, 2, array=array), names)["value"]
        for array in (mask, np.maximum(mask, low))
    )
    np.testing.assert_allclose(other, one, rtol=1e-12)


OF_A_ROW = (
    *("diagonal_share", "entropy", "attention_entropy", "effective_steps"),
    *("largest_column_mean", "value_diagonal", "total_diagonal", "rows"),
    *("rows_without_ratio", "total_off_diagonal", "parroting_median"),
    *("parroting_with_residual_mean", "uniform_share", "diagonal_excess"),
)


@pytest.mark.parametrize("empty", [False, True])
def test_rows_of_padding_count_nowhere(empty):
    layer = layer_of(FOLDED, True, 2)
    real = np.arange(FOLDED.T) < 4
    allowed = real & (real[:, None] | (not empty))
    padded = dataclasses.replace(
        layer,
        x=np.where(real[:, None], layer.x, 1e3 * layer.x),
        score_bias=ScoreBias(array=np.where(allowed, 0.0, -np.inf)),
        rows=np.stack([real, real]),
    )
    alone = dataclasses.replace(layer, x=layer.x[:, :4])
    one, other = (diagnose(own, OF_A_ROW)["value"] for own in (padded, alone))
    np.testing.assert_allclose(one, other, rtol=1e-10)
    if empty:
        everything = dataclasses.replace(padded, rows=np.ones(FOLDED.T, bool))
        for name in ("entropy", "value_diagonal"):
            with pytest.raises(ValueError, match=r"rows must leave out row i=4 of sam"):
                diagnose(everything, [name])


def test_only_what_the_names_need_is_computed_and_float32_is_no_less_exact(monkeypatch):
    layer = layer_of(FOLDED, True, 1)
    monkeypatch.setattr(seen, "path_norms", None)  # would fail if it were called
    table = diagnose(layer, ["entropy", "diagonal_share"])
    assert table["quantity"].tolist() == ["entropy", "diagonal_share"] * 4
    rounded = layer.x.astype(np.float32)
    single, double = (
        diagnose(dataclasses.replace(layer, x=x), ["entropy"])["value"]
        for x in (rounded, rounded.astype(float))
    )
    assert single.tolist() == double.tolist()


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(ArgumentError, match=r"names must be among diagonal_share, .*"):
        diagnose(layer_of(PAPER, False, 1), ["diagonal"])


def test_queries_keys_and_values_are_those_of_the_attention():
    layer = layer_of(FOLDED, True, 2)
    for at in seen.look(layer, "frobenius"):
        scores = at.q @ at.k.mT / FOLDED.K**0.5
        alpha = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        np.testing.assert_allclose(at.alpha, alpha, rtol=1e-12)
        out = np.einsum("shtj,shjv,hvo->sto", alpha, at.v, at.weights.out)
        bias = np.zeros((FOLDED.H, FOLDED.T, FOLDED.T))
        whole = reference.attention(at.x[0], at.weights, bias)
        np.testing.assert_allclose(out[0] + at.weights.out_bias, whole, rtol=1e-9)


def test_the_registry_names_its_entries_once_and_says_what_they_are():
    assert len(BY_NAME) == len(DIAGNOSTICS)
    assert len({entry.label for entry in DIAGNOSTICS}) == len(DIAGNOSTICS)
    assert all(entry.meaning and entry.source for entry in DIAGNOSTICS)
    assert all(entry.compared for entry in SHOWN)
    assert [panel.file for panel in PANELS if panel.file] == [
        *("diagonal-share", "parroting")
    ]


def test_rows_without_a_value_count_in_no_mean_and_no_median():
    nothing = np.full((2, 2), np.nan)
    some = np.array([[2.0, np.nan], [4.0, 9.0]])
    assert (rows.mean(some), rows.median(some), rows.count(some)) == (5, 4, 3)
    assert (rows.added(some), rows.added(nothing)) == (15, 0)
    assert np.isnan([rows.mean(nothing), rows.median(nothing)]).all()


def test_one_step_has_nothing_off_the_diagonal_and_a_sink_no_entropy():
    assert np.isnan(diagonal.off_diagonal(np.ones((1, 1)), np.ones(1, bool))).all()
    assert np.isnan(diagonal.excess(np.array([[[1.0, 0], [1.0, 0]]])))
    assert diagonal.excess(np.array([[[1.0, 1], [1.0, 1]]])) == np.inf
    huge = np.array([[1e300, 1.0, 3.0], [2.0, 1e300, 4.0], [0.0, 0.0, 1e300]])
    three = np.ones(3, bool)
    assert diagonal.off_diagonal(huge, three).tolist() == [2, 3, 0]
    padded = np.array([[5.0, 4, 0], [6, 5, 0], [2, 8, 0]])  # two steps count
    assert diagonal.off_diagonal(padded, np.arange(3) < 2).tolist() == [4, 6, 5]
    sink = np.zeros((2, 3, 3))
    sink[..., 1] = 1
    everything = np.ones((3, 3), bool)
    assert not entropy.relative_entropy(sink, everything).any()
    causal = np.tril(everything)
    alpha = causal / causal.sum(-1, keepdims=True)
    found = entropy.relative_entropy(alpha[None, None], causal)
    assert np.isnan(found[..., 0]).all()  # one step: nothing to spread over
    np.testing.assert_allclose(found[..., 1:], 1, rtol=1e-15)
