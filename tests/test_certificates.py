"""Certificates of a whole layer hold inside their domains, and name what is not."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensitivity import AttentionWeights, ScoreBias
from sensitivity.certificates import CERTIFICATES, certificates, operator_norm
from tests import reference
from tests.helpers import (
    FOLDED,
    MANY,
    NARROW,
    PAPER,
    Shape,
    diagonals,
    kinds,
    make_array,
    make_layer,
    residual_allowed,
    scales,
    seeds,
    with_array,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")

ONE = Shape(6, 5, 1, 3, 4, 5, biases=True)
FREE = with_array(PAPER)  # nothing, but compiled as any other


def still(value, query_bias=0.0):
    """A head whose scores do not depend on the queries' inputs: W^Q = 0."""
    D, _, K = np.shape(value)
    key = np.eye(D, K)[:, None]
    bias = np.full((1, K), query_bias) * (np.arange(K) == K - 1)
    return AttentionWeights(
        query=np.zeros((D, 1, K)), key=key, value=value, query_bias=bias
    )


def dense(x, w, score_bias=None, residual=False):
    """The norm from the oracle's explicit Jacobian."""
    T, bias = len(x), score_bias or ScoreBias()
    table = reference.score_bias(T, w.heads, bias.diagonal, bias.causal, bias.array)
    blocks = reference.path_jacobians(x, w, table)["total"]
    whole = np.moveaxis(blocks, 2, 1).reshape(T * blocks.shape[2], -1)
    return np.linalg.norm(whole + residual * np.eye(*whole.shape), 2)


def table_of(*args, **kwargs) -> Any:
    return certificates(*args, **kwargs).set_index("certificate")


@given(seed=seeds, scale=scales, kind=kinds, diagonal=diagonals)
@settings(max_examples=30)
@pytest.mark.parametrize("shape", [PAPER, ONE, FOLDED, NARROW, MANY])
def test_certificates_hold_wherever_they_apply(shape, seed, scale, kind, diagonal):
    x, w = make_layer(seed, shape, scale)
    bias = with_array(shape, make_array(seed, shape, kind), diagonal)
    residual = residual_allowed(w, per_head=False)
    table = table_of(x, w, bias, residual=residual)
    expected = dense(x, w, bias, residual)
    np.testing.assert_allclose(table["exact"], expected, rtol=1e-9)
    nothing = kind == "zero" and diagonal == 0
    assert table.index.tolist() == list(CERTIFICATES)
    assert table["holds"].isna().tolist() == [False, False, False, not nothing]
    assert table["holds"].dropna().all()
    known = table.dropna(subset="bound")
    assert (known["exact"] <= known["bound"] * (1 + 1e-9)).all()
    assert table["bound"].iloc[0] <= table["bound"].iloc[1] * (1 + 1e-12)


@given(seed=seeds, scale=st.sampled_from([0.1, 0.5, 1.0]))
@settings(max_examples=25)
def test_the_published_domain_is_one_head_without_biases(seed, scale):
    x, w = make_layer(seed, PAPER, scale)
    table = table_of(x, w, FREE)
    assert table["holds"].all()
    published = ["as derived"] * 2 + ["as published"] * 2
    assert table["applies"].tolist() == published
    # The formulas of Castin et al., with A = W^K^T W^Q / sqrt(K) and n = T.
    A = np.linalg.norm(w.query[:, 0] @ w.key[:, 0].T, 2) / PAPER.K**0.5
    R, V, n = (
        np.linalg.norm(x, axis=1).max(),
        np.linalg.norm(w.value[:, 0], 2),
        len(x),
    )
    printed = 3**0.5 * V * (A**2 * R**4 * (4 * n + 1) + n) ** 0.5
    np.testing.assert_allclose(table.loc["castin", "bound"], printed, rtol=1e-12)
    printed = V * (1 + 3 * A * R**2) * np.exp(2 * A * R**2)
    np.testing.assert_allclose(table.loc["mean_field", "bound"], printed, rtol=1e-12)


def test_the_column_sum_is_attained_where_attention_does_not_move():
    rng = np.random.default_rng(0)
    w, x = still(rng.normal(size=(4, 1, 4))), rng.normal(size=(5, 4))
    sink = np.where(np.arange(5) == 2, 0.0, -np.inf)
    for array, rungs in ((0.0, 1), (sink, 2)):
        table = table_of(x, w, with_array(PAPER, array))
        np.testing.assert_allclose(table["ratio"].iloc[:rungs], 1, atol=1e-9)
        assert table["holds"].dropna().all()


def test_a_query_bias_cannot_be_ignored():
    """Opposite tokens, and a query bias along an axis on which all tokens are 0.

    Scores do not feel it, but their slopes do.
    """
    w = still(np.eye(4)[:, None], query_bias=100.0)
    x = np.array([[1.0], [-1], [1], [-1], [1]]) * np.eye(4)[0]
    table = table_of(x, w, FREE)
    without = table_of(x, still(np.eye(4)[:, None]), FREE)
    assert table["holds"].all()
    assert table.loc["castin", "applies"] == "extended to a query bias"
    assert (table["exact"] > 10 * without["bound"]).all()


def test_key_and_value_biases_move_neither_the_norm_nor_a_bound():
    x, w = make_layer(3, FOLDED)
    zeros = {"key_bias": np.zeros((3, 2)), "value_bias": np.zeros((3, 3))}
    one, other = (
        table_of(x, layer, with_array(FOLDED), residual=True)
        for layer in (w, dataclasses.replace(w, **zeros))
    )
    for column in ("exact", "bound"):
        np.testing.assert_allclose(one[column], other[column], rtol=1e-9)
    assert "key and value biases, a residual" in one.loc["castin", "applies"]


def test_the_mean_field_bound_does_not_survive_a_mask():
    """Uniform attention to the past: the norm of the Cesaro matrix is above 1."""
    w = still(np.eye(4)[:, None])
    x = np.random.default_rng(0).normal(size=(5, 4))
    free = table_of(x, w, FREE)
    past = with_array(PAPER, np.where(np.tri(5, dtype=bool), 0, -np.inf))
    masked = table_of(x, w, past)
    assert masked.loc["mean_field", "applies"] == "no: masks and score biases"
    assert np.isnan(masked.loc["mean_field", ["bound", "ratio"]].tolist()).all()
    cesaro = np.tri(5) / np.arange(1, 6)[:, None]
    assert masked.loc["column_sum", "exact"] == pytest.approx(
        np.linalg.norm(cesaro, 2), rel=1e-9
    )
    assert np.linalg.norm(cesaro, 2) > 1.2
    assert free.loc["column_sum", "bound"] == pytest.approx(1)


@pytest.mark.slow
def test_every_sample_has_its_own_rows():
    x, w = make_layer(5, FOLDED)
    batch = np.stack([x, 2 * x, -x])[:, None]
    arrays = np.stack([make_array(seed, FOLDED, "normal") for seed in range(3)])
    table = certificates(batch, w, ScoreBias(array=arrays[:, None]), residual=True)
    assert table["sample"].tolist() == [n for n in range(3) for _ in CERTIFICATES]
    for n in range(3):
        alone = certificates(batch[n, 0], w, with_array(FOLDED, arrays[n]), True)
        mine = table[table["sample"] == n]
        for column in ("exact", "bound"):
            np.testing.assert_allclose(mine[column], alone[column], rtol=1e-9)


def test_float64_is_kept_without_the_global_setting():
    x, w = make_layer(6, PAPER)
    expected = dense(x, w)
    with jax.enable_x64(False):
        found = table_of(x, w)
    np.testing.assert_allclose(found["exact"], expected, rtol=1e-9)


@pytest.mark.parametrize("power", [-20, 0, 12])
def test_float32_is_as_good_as_it_can_be(power):
    x, w = make_layer(7, PAPER)
    small = dataclasses.replace(w, value=w.value * 10.0**power)
    x, small = jax.tree.map(lambda a: a.astype(np.float32), (x, small))
    table = table_of(x, small)
    np.testing.assert_allclose(table["exact"], dense(x, small), rtol=1e-4)
    assert table["holds"].all()


def test_a_layer_without_values_and_one_beyond_all_scores_have_bounds_too():
    x, w = make_layer(8, PAPER)
    nothing = table_of(x, dataclasses.replace(w, value=np.zeros_like(w.value)), FREE)
    assert nothing["ratio"].tolist() == [1.0] * 4
    assert nothing["holds"].all()
    sharp = table_of(100 * x, w, FREE)
    assert sharp.loc["mean_field", "bound"] == np.inf
    assert sharp["holds"].all()


def test_a_residual_needs_an_output_as_wide_as_the_input():
    x, w = make_layer(9, NARROW)
    with pytest.raises(ValueError, match="residual needs an output as wide"):
        certificates(x, w, residual=True)
    with pytest.raises(ValueError, match="x must have shape"):
        certificates(x[:, :0], w)


def test_the_norm_of_any_function_is_that_of_its_jacobian():
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(30, 12)) * 0.5 ** np.arange(12)

    def function(x):
        return jnp.tanh(jnp.asarray(matrix) @ x.ravel()).reshape(5, 6)

    x = jnp.asarray(rng.normal(size=(4, 3)))
    full = np.asarray(jax.jacobian(function)(x)).reshape(30, 12)
    found = jax.jit(lambda x: operator_norm(function, x))(x)
    np.testing.assert_allclose(found, np.linalg.norm(full, 2), rtol=1e-9)
