"""Row-streamed path Jacobians are those of the whole layer, and of the oracle."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from sensitivity import ScoreBias, path_jacobians, path_norms
from sensitivity.attention import attend
from tests import reference
from tests.helpers import (
    FOLDED,
    MANY,
    NARROW,
    NORMS,
    PAPER,
    PATHS,
    SHAPES,
    Shape,
    assert_close,
    draws,
    full_bias,
    make_array,
    make_case,
    make_layer,
    slack,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")


def whole_layer(x, w, score_bias, per_head):
    """Query, key and value Jacobians by one ``jax.jacrev``, as blocks [i, j]."""

    def outputs(x_q, x_k, x_v):
        return attend(x_q, x_k, x_v, w, score_bias, per_head=per_head)

    paths = jax.jacrev(outputs, argnums=(0, 1, 2))(x, x, x)
    return [jnp.moveaxis(path, -2, -3) for path in paths]


plain = jax.jit(whole_layer, static_argnums=3)


@pytest.mark.parametrize(
    ("name", "per_head"),
    [(name, False) for name in SHAPES] + [("folded", True), ("many", True)],
)
@given(draw=draws)
@settings(max_examples=15)
def test_the_paths_are_the_jacobians_of_the_whole_layer_and_of_the_oracle(
    name, per_head, draw
):
    x, w, score_bias, bias = draw.of(SHAPES[name])
    paths = path_jacobians(x, w, score_bias=score_bias, per_head=per_head)
    oracle = reference.path_jacobians(x, w, bias, per_head)
    query, key, value = plain(jnp.asarray(x), w, score_bias, per_head)
    direct = dict(zip(PATHS, (value, key, query, value + key + query), strict=True))
    s = slack(x, w, "frobenius", per_head)[..., None, None]
    for expected in (oracle, direct):
        assert_close((*paths, paths.total), [expected[p] for p in PATHS], 1e-12, s)


def test_the_total_is_the_complex_step():
    x, w = make_layer(0, FOLDED)
    score_bias = ScoreBias(-0.1, array=make_array(0, FOLDED, "normal"))
    total = path_jacobians(x, w, score_bias=score_bias).total
    bias = full_bias(FOLDED, score_bias)
    expected = reference.finite_difference_jacobian(x, w, bias)
    assert_close(total, expected, 1e-12, 1e-13)


@pytest.mark.parametrize("name", ["folded", "narrow"])
def test_heads_add_up_to_the_layer_where_they_are_projected(name):
    shape = SHAPES[name]
    x, w, score_bias = make_case(1, shape, "forbidding")
    layer, heads = (
        path_jacobians(x, w, score_bias=score_bias, per_head=per_head)
        for per_head in (False, True)
    )
    assert_close(layer, [parts.sum(0) for parts in heads], 1e-12, 1e-13)


def test_heads_stand_side_by_side_where_they_are_not():
    x, w, score_bias = make_case(1, MANY, "forbidding")
    layer, heads = (
        path_jacobians(x, w, score_bias=score_bias, per_head=per_head)
        for per_head in (False, True)
    )
    joined = [np.concatenate(list(np.asarray(parts)), axis=-2) for parts in heads]
    assert_close(layer, joined, 1e-12, 1e-13)


@pytest.mark.parametrize("per_head", [False, True])
def test_the_query_path_is_exactly_zero_off_the_diagonal(per_head):
    x, w, score_bias = make_case(2, FOLDED, "normal")
    query = path_jacobians(x, w, score_bias=score_bias, per_head=per_head).query
    assert not np.asarray(query)[..., ~np.eye(6, dtype=bool), :, :].any()
    assert np.asarray(query).any()


def test_the_future_is_exactly_zero_under_a_causal_mask():
    x, w = make_layer(2, FOLDED)
    total = path_jacobians(x, w, score_bias=ScoreBias(causal=True)).total
    assert not np.asarray(total)[~np.tri(6, dtype=bool)].any()
    assert np.asarray(total)[np.tri(6, dtype=bool)].any(axis=(1, 2)).all()


def test_batch_axes_of_inputs_and_biases_are_samples():
    rng = np.random.default_rng(3)
    _, w = make_layer(3, NARROW)
    x, array = rng.normal(size=(2, 2, 4, 1)), rng.normal(size=(2, 1, 1, 4, 4))
    batch = path_jacobians(x, w, score_bias=ScoreBias(array=array), per_head=True)
    for place in np.ndindex(2, 2):
        bias = reference.score_bias(4, 2, array=array[place[0], 0])
        expected = reference.path_jacobians(x[place], w, bias, per_head=True)
        own = jax.tree.map(lambda path, place=place: path[place], batch)
        assert_close(own, expected, 1e-12, 1e-13)


@pytest.mark.parametrize("norm", NORMS)
def test_streaming_rows_under_a_budget_changes_nothing(norm):
    """T = 20 exceeds one block of 16 rows: the last block is padded."""
    shape = Shape(20, 2, 2, 1, 1, None, biases=True)
    x, w = make_layer(4, shape)
    options: Any = {"norm": norm, "residual": True, "engine": "autodiff"}
    bias = full_bias(shape, ScoreBias())
    expected = reference.path_norms(x, w, bias, norm, residual=True)
    for memory in ("1GiB", "30KiB"):
        actual = path_norms(x, w, max_memory=memory, **options)
        assert_close(actual, expected, 1e-12, slack(x, w, norm, False))


def test_jacobians_that_do_not_fit_are_refused_before_they_are_computed():
    x, w = make_layer(4, Shape(2048, 4, 1, 3, 4, None, biases=False))
    with pytest.raises(ValueError, match=r"max_memory \(1GiB\) must be at least"):
        path_jacobians(x, w, max_memory="1GiB")


def test_jit_and_vmap_give_the_same_numbers():
    rng = np.random.default_rng(5)
    _, w = make_layer(5, NARROW)
    x = jnp.asarray(rng.normal(size=(3, 4, 1)))
    mapped = jax.jit(jax.vmap(lambda x: path_jacobians(x, w)))(x)
    assert_close(mapped, path_jacobians(x, w), 1e-12, 1e-14)


@pytest.mark.parametrize("score_bias", [ScoreBias(-np.inf), ScoreBias(causal=True)])
def test_gradients_of_the_norms_are_finite_and_right_under_masks(score_bias):
    x, w = make_layer(0, PAPER)

    @jax.jit
    def mean(x):
        options: Any = {"norm": "frobenius", "engine": "autodiff"}
        return path_norms(x, w, score_bias=score_bias, **options).total.mean()

    step = 1e-5 * np.random.default_rng(1).normal(size=x.shape)
    gradient = np.asarray(jax.grad(mean)(x))
    assert np.isfinite(gradient).all()
    difference = (mean(x + step) - mean(x - step)) / 2
    assert_close((gradient * step).sum(), difference, 1e-7)
