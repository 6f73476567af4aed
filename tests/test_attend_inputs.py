"""What ``attend`` takes: precision follows the arrays, and what cannot be is named."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensitivity import ScoreBias, attend
from tests import reference
from tests.layers import FOLDED, PAPER, assert_close, full_bias, make_layer

pytestmark = pytest.mark.usefixtures("strict_promotion")


def test_float64_is_computed_in_float64_though_jax_is_set_to_float32():
    x, w = make_layer(0, FOLDED)
    score_bias = ScoreBias(-0.1, array=np.zeros((6, 6)))
    expected = reference.attention(x, w, full_bias(FOLDED, score_bias))
    with jax.enable_x64(False):
        output = attend(x, x, x, w, score_bias)
    assert isinstance(output, np.ndarray)
    assert output.dtype == np.float64
    assert_close(output, expected, 1e-12, 1e-14)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float32])
@pytest.mark.parametrize("transform", [jax.jit, lambda f: f])
def test_arrays_of_one_dtype_are_computed_in_it(transform, dtype):
    x, w = jax.tree.map(lambda a: jnp.asarray(a, dtype), make_layer(0, FOLDED))
    factor = jnp.ones((3, 6, 6), dtype)
    function = transform(lambda x, w: attend(x, x, x, w, weight_factor=factor))
    assert function(x, w).dtype == dtype


def test_arrays_of_several_dtypes_are_computed_in_the_widest():
    x, w = make_layer(0, PAPER)
    single, integers = np.float32(x), np.round(x).astype(int)
    assert attend(single, single, single, w).dtype == np.float64
    w = jax.tree.map(lambda a: np.asarray(a, jnp.bfloat16), w)
    assert attend(integers, integers, integers, w).dtype == np.float64
    half = np.float16(x)
    assert attend(half, half, half, w).dtype == np.float32


def test_lists_are_arrays():
    x, w = make_layer(0, PAPER)
    listed: Any = x.tolist()
    np.testing.assert_array_equal(attend(listed, listed, listed, w), attend(x, x, x, w))


def test_weights_of_float64_under_jit_are_taken_in_jaxs_own_precision_silently():
    x, w = make_layer(0, PAPER)
    with jax.enable_x64(False), warnings.catch_warnings():
        warnings.simplefilter("error")
        output = jax.jit(lambda x: attend(x, x, x, w))(np.float32(x))
    assert output.dtype == np.float32


@pytest.mark.parametrize(
    ("score_bias", "T"),
    [
        (ScoreBias(-np.inf), 1),
        (ScoreBias(-np.inf, causal=True), 5),
        (ScoreBias(array=np.full((5, 5), -np.inf)), 5),
    ],
)
def test_a_row_with_nothing_to_attend_to_is_refused(score_bias, T):
    x, w = make_layer(0, PAPER._replace(T=T))
    with pytest.raises(ValueError, match="row i=0 nothing to attend to"):
        attend(x, x, x, w, score_bias)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_bias_that_is_no_bias_is_refused_with_its_place(number):
    x, w = make_layer(0, PAPER)
    array = np.zeros((5, 5))
    array[3, 4] = number
    with pytest.raises(ValueError, match=r"score_bias\.array must be .* \(3, 4\)"):
        attend(x, x, x, w, ScoreBias(array=array))


def test_a_bias_is_measured_in_the_dtype_it_is_added_in():
    x, w = jax.tree.map(np.float16, make_layer(0, PAPER))
    rule = r"score_bias\.diagonal must be finite in float16 too .*; got -100000"
    with pytest.raises(ValueError, match=rule):
        attend(x, x, x, w, ScoreBias(diagonal=-1e5))


@pytest.mark.parametrize("transform", [jax.jit, lambda f: f])
@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            [(5, 4), (6, 4), (5, 4)],
            r"x_q, x_k and x_v must have one shape .*\(5, 4\), \(6, 4\) and \(5, 4\)",
        ),
        ([(5, 4), (5, 4), (2, 5, 4)], "x_q, x_k and x_v must have one shape"),
        ([(5, 3)] * 3, r"must have shape \(\.\.\., T, D=4\), .* got \(5, 3\)"),
        ([(4,)] * 3, r"must have shape \(\.\.\., T, D=4\), .* got \(4,\)"),
        ([(0, 4)] * 3, "must have at least one of everything"),
    ],
)
def test_shapes_that_do_not_fit_are_named(transform, shapes, message):
    _, w = make_layer(0, PAPER)
    inputs = [np.zeros(shape) for shape in shapes]
    with pytest.raises(ValueError, match=message):
        transform(lambda q, k, v: attend(q, k, v, w))(*inputs)


@pytest.mark.parametrize("transform", [jax.jit, lambda f: f])
def test_tables_that_do_not_fit_are_named(transform):
    x, w = make_layer(0, PAPER)
    for shape in ((4, 5), (2, 5, 5), (3, 1, 5, 5)):
        table = np.ones(shape)
        with pytest.raises(ValueError, match=r"score_bias\.array must broadcast to"):
            transform(lambda x, a: attend(x, x, x, w, ScoreBias(array=a)))(x, table)
        with pytest.raises(ValueError, match="weight_factor must broadcast to"):
            transform(lambda x, a: attend(x, x, x, w, weight_factor=a))(x, table)


def test_a_factor_multiplies_the_weights():
    x, w = make_layer(0, PAPER)
    factor = np.random.default_rng(0).integers(0, 3, size=(5, 5)).astype(float)
    q, k, v = (x @ np.asarray(kernel)[:, 0] for kernel in (w.query, w.key, w.value))
    alpha = np.exp(q @ k.T / 3**0.5)
    alpha /= alpha.sum(1, keepdims=True)
    output = attend(x, x, x, w, weight_factor=factor)
    assert_close(output, factor * alpha @ v, 1e-12, 1e-14)
