"""What must be so whatever the numbers: math.md section 5, in every engine."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings

from sensitivity import AttentionWeights, ScoreBias, path_norms, profile
from tests.helpers import (
    ENGINES,
    FOLDED,
    NORMS,
    PAPER,
    ROUNDING,
    TWO,
    Shape,
    assert_close,
    assert_true_statements_hold,
    draws,
    folded_values,
    jacobians,
    kinds,
    make_array,
    make_layer,
    rounding_scale,
    scales,
    seeds,
    slack,
    table_of,
    with_array,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")


def norms(x, w, score_bias=None, norm: Any = "spectral", engine: Any = "closed_form"):
    options: Any = {"norm": norm, "engine": engine, "per_head": True}
    tables = path_norms(x, w, score_bias=score_bias, residual=False, **options)
    return jax.tree.map(np.asarray, tables)


@given(draw=draws)
@settings(max_examples=25)
def test_the_key_path_sums_to_zero_and_the_value_path_to_its_matrix(draw):
    x, w, score_bias, _ = draw.of(TWO)
    paths = jacobians(x, w, score_bias)
    s = ROUNDING * rounding_scale(x, w, "frobenius")[..., None, None]
    assert_close(paths.key.sum(2), np.zeros((2, 6, 5, 5)), 0, s)
    value = np.broadcast_to(folded_values(w)[:, None], (2, 6, 5, 5))
    assert_close(paths.value.sum(2), value, 1e-12, s)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("engine", ENGINES)
def test_identical_tokens_share_the_value_path_evenly_and_have_no_other(engine, norm):
    x, w = make_layer(0, TWO, scale=3.0)
    x = np.broadcast_to(x[:1], x.shape)
    tables = norms(x, w, with_array(TWO), norm, engine)
    size = np.linalg.norm(folded_values(w), {"spectral": 2}.get(norm, "fro"), (1, 2))
    even = np.broadcast_to(size[:, None, None] / 6, (2, 6, 6))
    s = slack(x, w, norm, per_head=True)
    assert_close(tables.value, even, 1e-12)
    assert_close(tables.total, even, 1e-12, s)
    assert_close(tables.key, np.zeros_like(even), 0, s)
    assert_close(tables.query, np.zeros_like(even), 0, s)


def test_identical_tokens_give_exact_zeros_where_nothing_is_rounded():
    """Whole numbers and T a power of two: weights 1/4, differences exactly zero."""
    shape = Shape(4, 2, 1, 2, 2, None, biases=False)
    rng = np.random.default_rng(0)
    kernels = rng.integers(-3, 4, size=(3, 2, 1, 2)).astype(float)
    w = AttentionWeights(*kernels)
    x = np.full((4, 2), [1.0, -2.0])
    paths = jacobians(x, w, with_array(shape))
    assert not paths.key.any()
    assert not paths.query.any()
    np.testing.assert_array_equal(
        paths.value, np.broadcast_to(folded_values(w)[0] / 4, (1, 4, 4, 2, 2))
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_no_query_kernel_and_no_query_bias_is_uniform_attention(engine):
    x, w = make_layer(1, TWO)
    w = dataclasses.replace(w, query=0 * w.query, query_bias=0 * w.query_bias)
    tables = norms(x, w, with_array(TWO), "frobenius", engine)
    size = np.linalg.norm(folded_values(w), axis=(1, 2))
    even = np.broadcast_to(size[:, None, None] / 6, (2, 6, 6))
    assert_close(tables.total, even, 1e-12)
    assert not tables.key.any()
    assert not tables.query.any()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_query_bias_alone_keeps_a_key_path_and_no_query_path(engine):
    x, w = make_layer(1, TWO)
    w = dataclasses.replace(w, query=0 * w.query)
    tables = norms(x, w, with_array(TWO), "frobenius", engine)
    assert tables.key.min() > 1e-4
    assert not tables.query.any()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("engine", ENGINES)
def test_hard_attention_leaves_one_step_and_the_value_path(engine, norm):
    x, w = make_layer(2, TWO)
    w = dataclasses.replace(
        w, query=1e4 * np.asarray(w.query), query_bias=1e4 * np.asarray(w.query_bias)
    )
    tables = norms(x, w, with_array(TWO), norm, engine)
    size = np.linalg.norm(folded_values(w), {"spectral": 2}.get(norm, "fro"), (1, 2))
    s = slack(x, w, norm, per_head=True)
    assert_close(tables.value.max(-1), np.repeat(size[:, None], 6, 1), 1e-12)
    hot = tables.value == tables.value.max(-1, keepdims=True)
    assert (hot.sum(-1) == 1).all()
    assert_close(tables.value, hot * size[:, None, None], 1e-12, 1e-12)
    assert_close(tables.key, np.zeros_like(tables.key), 0, s)
    assert_close(tables.query, np.zeros_like(tables.query), 0, s)


@pytest.mark.parametrize("engine", ENGINES)
def test_one_step_has_the_value_matrix_and_nothing_else(engine):
    x, w = make_layer(3, TWO._replace(T=1))
    tables = norms(x, w, norm="frobenius", engine=engine)
    size = np.linalg.norm(folded_values(w), axis=(1, 2))
    assert_close(tables.total[:, 0, 0], size, 1e-14)
    assert not tables.key.any()
    assert not tables.query.any()


@pytest.mark.parametrize("engine", ENGINES)
def test_two_steps_under_a_full_mask_have_no_influence_on_themselves(engine):
    x, w = make_layer(3, TWO._replace(T=2))
    mask = ScoreBias(diagonal=-np.inf)
    tables = norms(x, w, mask, norm="frobenius", engine=engine)
    size = np.linalg.norm(folded_values(w), axis=(1, 2))
    s = slack(x, w, "frobenius", per_head=True)
    for i in range(2):
        assert not tables.value[:, i, i].any()
        assert not tables.key[:, i, i].any()
        assert_close(tables.total[:, i, i], np.zeros(2), 0, s[:, i, 0])
        assert_close(tables.total[:, i, 1 - i], size, 1e-12, s[:, i, 0])


@given(seed=seeds, kind=kinds, scale=scales)
@settings(max_examples=15)
def test_a_constant_added_to_a_row_of_scores_changes_nothing(seed, kind, scale):
    x, w = make_layer(seed, TWO, scale)
    array = make_array(seed, TWO, kind)
    shift = np.random.default_rng(seed).integers(-8, 9, size=(2, 6, 1))
    before = norms(x, w, ScoreBias(array=array))
    after = norms(x, w, ScoreBias(array=array + shift))
    s = slack(x, w, "spectral", per_head=True)
    assert_close(after, before, 1e-11, s)


@pytest.mark.parametrize("norm", NORMS)
def test_queries_and_keys_rotated_together_change_nothing(norm):
    x, w = make_layer(4, FOLDED)
    turn = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 2, 2)))[0]

    def rotated(array):
        return np.einsum("...hk,hkl->...hl", array, turn)

    names = ("query", "key", "query_bias", "key_bias")
    turned = dataclasses.replace(w, **{n: rotated(getattr(w, n)) for n in names})
    bias = with_array(FOLDED)
    options: Any = {"score_bias": bias, "norm": norm}
    one, other = (
        path_norms(x, v, residual=True, per_head=True, **options) for v in (w, turned)
    )
    assert_close(other, one, 1e-12, slack(x, w, norm, per_head=True))
    one, other = (profile(x, v, **options) for v in (w, turned))
    assert_close(other, one, 1e-11, 1e-13)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_offset_of_the_values_changes_no_path_and_costs_no_digit(engine):
    x, w = make_layer(5, TWO)
    plain = norms(x, w, with_array(TWO), engine=engine)
    for offset in (1000.0, 1e8):
        moved = dataclasses.replace(w, value_bias=np.asarray(w.value_bias) + offset)
        after = norms(x, moved, with_array(TWO), engine=engine)
        jax.tree.map(np.testing.assert_array_equal, plain, after)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [1e2, 3e4])
def test_identical_tokens_of_any_size_pass_every_true_statement(engine, size):
    x, w = make_layer(0, TWO)
    x = np.repeat(size * x[:1], len(x), axis=0)
    assert_true_statements_hold(table_of(x, w, engine=engine))


def test_an_offset_of_the_keys_changes_no_path():
    x, w = make_layer(5, TWO)
    moved = dataclasses.replace(w, key_bias=np.asarray(w.key_bias) + 2.0)
    bias = with_array(TWO)
    s = slack(x, moved, "spectral", per_head=True)
    assert_close(norms(x, moved, bias), norms(x, w, bias), 1e-11, s)


@pytest.mark.parametrize("engine", ENGINES)
@given(seed=seeds, scale=scales)
@settings(max_examples=15)
def test_a_full_mask_removes_value_and_key_from_the_diagonal_but_not_the_query(
    engine, seed, scale
):
    x, w = make_layer(seed, TWO, min(scale, 1.0))
    tables = norms(x, w, with_array(TWO, diagonal=-np.inf), "frobenius", engine)
    assert not tables.value.diagonal(axis1=1, axis2=2).any()
    assert not tables.key.diagonal(axis1=1, axis2=2).any()
    query = tables.query.diagonal(axis1=1, axis2=2)
    assert (query > 0).all()
    np.testing.assert_array_equal(
        tables.total.diagonal(axis1=1, axis2=2) > 0, np.ones((2, 6), bool)
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_the_query_path_is_on_the_diagonal_alone(engine):
    x, w = make_layer(6, TWO)
    tables = norms(x, w, with_array(TWO), "frobenius", engine)
    assert not tables.query[:, ~np.eye(6, dtype=bool)].any()


def test_a_change_of_all_steps_alike_moves_by_value_and_query_alone():
    x, w = make_layer(7, TWO)
    paths = jacobians(x, w, with_array(TWO))
    steps = np.arange(6)
    whole = folded_values(w)[:, None] + paths.query[:, steps, steps]
    assert_close(paths.total.sum(2), whole, 1e-12, 1e-13)


def test_heads_in_another_order_are_the_same_layer():
    x, w = make_layer(8, FOLDED)
    order = [2, 0, 1]

    def permuted(name):
        array = np.asarray(getattr(w, name))
        return array[:, order] if array.ndim == 3 and name != "out" else array[order]

    names = ("query", "key", "value", "out", "query_bias", "key_bias", "value_bias")
    other = dataclasses.replace(w, **{name: permuted(name) for name in names})
    array = make_array(8, FOLDED, "normal")
    for norm in NORMS:
        one, two = (
            path_norms(x, v, score_bias=ScoreBias(array=a), norm=norm, residual=True)
            for v, a in ((w, array), (other, array[order]))
        )
        assert_close(two, one, 1e-9)


def test_steps_in_another_order_are_the_same_pairs():
    x, w = make_layer(9, PAPER)
    order = np.array([3, 1, 4, 0, 2])
    array = make_array(9, PAPER, "forbidding")
    moved = array[:, order][:, :, order]
    for norm in NORMS:
        one, two = (
            path_norms(
                y, w, score_bias=ScoreBias(-0.1, array=a), norm=norm, residual=True
            )
            for y, a in ((x, array), (x[order], moved))
        )
        moved_one = jax.tree.map(lambda path: path[order][:, order], one)
        assert_close(two, moved_one, 1e-12, 1e-14)
