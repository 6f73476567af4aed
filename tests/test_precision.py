"""Precision follows the input, whatever the setting of JAX."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensitivity import (
    ScoreBias,
    attend,
    check_bounds,
    path_jacobians,
    path_norms,
    profile,
)
from sensitivity.attention import attention_matrix
from tests import reference
from tests.helpers import (
    ENGINES,
    FOLDED,
    PAPER,
    assert_close,
    full_bias,
    make_layer,
    slack,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")

DOUBLE = {(np.ndarray, "float64")}  # though JAX is set to float32
COUNTS = {(np.ndarray, "int64")}


def layer(dtype: Any = np.float64, shape: Any = PAPER) -> Any:
    return jax.tree.map(dtype, make_layer(0, shape))


def self_attention(x: Any, weights: Any, score_bias: Any = None) -> Any:
    return attend(x, x, x, weights, score_bias)


@pytest.mark.parametrize("engine", ENGINES)
def test_float64_is_computed_in_float64_though_jax_is_set_to_float32(engine):
    x, w = layer()
    expected = reference.path_norms(x, w, full_bias(PAPER, ScoreBias()), "frobenius")
    with jax.enable_x64(False):
        norms = path_norms(x, w, norm="frobenius", engine=engine)
    assert {(type(table), table.dtype.name) for table in norms} == DOUBLE
    assert_close(norms, expected, 1e-12, slack(x, w, "frobenius", False))


def test_every_function_is_float64_though_jax_is_set_to_float32():
    x, w = layer()
    expected = profile(x, w, norm="frobenius")
    none = full_bias(PAPER, ScoreBias())
    with jax.enable_x64(False):
        statistics = profile(x, w, norm="frobenius")
        paths = path_jacobians(x, w)
        table = check_bounds(x, w, norm="frobenius")
        alpha, output = attention_matrix(x, w), self_attention(x, w)
    double = (*statistics, *paths, alpha, output)
    assert {(type(array), array.dtype.name) for array in double} <= DOUBLE | COUNTS
    assert_close(statistics, expected, 1e-13, 1e-15)
    assert_close(table.worst_ratio[0], 1.0, 1e-9)
    assert_close(alpha, reference.weights(x, w, none), 1e-12, 1e-14)
    assert_close(output, reference.attention(x, w, none), 1e-12, 1e-14)


def test_float32_stays_float32_whatever_the_setting():
    x, w = layer(np.float32)
    for enabled in (True, False):
        with jax.enable_x64(enabled):
            norms = path_norms(x, w, norm="frobenius")
            assert attention_matrix(x, w).dtype == np.float32
        assert {table.dtype for table in norms} == {np.dtype("float32")}
        assert isinstance(norms.total, jax.Array)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.int8])
def test_less_than_float32_is_computed_in_float32(dtype):
    x, w = layer()
    x = np.round(x).astype(dtype)
    w = jax.tree.map(lambda a: np.round(4 * a).astype(dtype), w)
    norms = path_norms(x, w, norm="frobenius")
    plain = path_norms(*jax.tree.map(np.float32, (x, w)), norm="frobenius")
    for one, other in zip(norms, plain, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_array_equal(one, other)


def test_the_widest_of_inputs_and_weights_decides():
    x, w = layer()
    mixed = path_norms(np.float32(x), w, norm="frobenius")
    exact = path_norms(np.float64(np.float32(x)), w, norm="frobenius")
    for one, other in zip(mixed, exact, strict=True):
        assert one.dtype == np.float64
        np.testing.assert_array_equal(one, other)


def test_the_bias_does_not_decide_the_precision():
    x, w = layer(np.float32)
    score_bias = ScoreBias(-0.1, array=np.zeros((1, 5, 5)))
    assert path_norms(x, w, score_bias=score_bias).total.dtype == np.float32


@pytest.mark.parametrize("engine", ENGINES)
def test_float64_under_jit_is_jaxs_own_precision_without_a_warning(engine):
    x, w = layer()
    with jax.enable_x64(False), warnings.catch_warnings():
        warnings.simplefilter("error")
        norms = jax.jit(lambda x: path_norms(x, w, norm="frobenius", engine=engine))(x)
        output = jax.jit(lambda x: self_attention(x, w))(np.float32(x))
    assert norms.total.dtype == output.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float32])
@pytest.mark.parametrize("transform", [jax.jit, lambda f: f])
def test_attention_of_one_dtype_is_computed_in_it(transform, dtype):
    x, w = jax.tree.map(lambda a: jnp.asarray(a, dtype), layer(shape=FOLDED))
    factor = jnp.ones((3, 6, 6), dtype)
    function = transform(lambda x, w: attend(x, x, x, w, weight_factor=factor))
    assert function(x, w).dtype == dtype


def test_attention_of_several_dtypes_is_computed_in_the_widest():
    x, w = layer()
    assert self_attention(np.float32(x), w).dtype == np.float64
    w = jax.tree.map(lambda a: np.asarray(a, jnp.bfloat16), w)
    assert self_attention(np.round(x).astype(int), w).dtype == np.float64
    assert self_attention(np.float16(x), w).dtype == np.float32
