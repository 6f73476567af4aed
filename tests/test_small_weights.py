"""Weights of any size give right norms, or are refused: no square may vanish."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from sensitivity import AttentionWeights, check_bounds, path_norms, profile
from tests.helpers import (
    LEVELS,
    NORMS,
    Shape,
    assert_close,
    assert_true_statements_hold,
    make_layer,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")

TWO = Shape(6, 5, 2, 3, 4, 5, biases=False)
SMALL = [
    *((np.float32, factor) for factor in (1e-17, 1e-20, 1e-30)),
    *((np.float64, factor) for factor in (1e-140, 1e-160, 1e-280)),
]
NAMES = ("query", "key", "value")
# The paths that stay as they are, but for the factor, when a kernel is multiplied.
LINEAR = ("value_mean", "key_mean", "query_mean", "off_diagonal_mean", "query_norm")


def layer(dtype: Any, **factors: float) -> tuple[np.ndarray, AttentionWeights]:
    """A layer whose kernels are multiplied."""
    x, w = make_layer(0, TWO)
    scaled = {name: np.asarray(getattr(w, name)) * f for name, f in factors.items()}
    w = dataclasses.replace(w, **scaled)
    arrays = {name: None if a is None else dtype(a) for name, a in vars(w).items()}
    return dtype(x), AttentionWeights(**arrays)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "norm"),
    [
        ("closed_form", "spectral"),
        ("closed_form", "frobenius"),
        ("autodiff", "frobenius"),
    ],
)
def test_norms_of_small_values_are_those_of_large_ones(engine, norm):
    options: Any = {"engine": engine, "norm": norm, "residual": False}
    for dtype, factor in SMALL:
        plain = path_norms(*layer(dtype), **options)
        rtol = 2e-5 if dtype is np.float32 else 1e-9
        for name in ("value", "out"):
            small = path_norms(*layer(dtype, **{name: factor}), **options)
            for one, other in zip(small, plain, strict=True):
                atol = rtol * np.asarray(other, float).max()
                assert_close(np.asarray(one, float) / factor, other, rtol, atol)


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
def test_statistics_of_small_values_are_those_of_large_ones(norm):
    for dtype, factor in SMALL:
        plain, small = (profile(*layer(dtype, value=f), norm=norm) for f in (1, factor))
        rtol = 2e-5 if dtype is np.float32 else 1e-12
        names = (*LINEAR, "key_constant", "query_constant", "query_weighted")
        for name in (*names, "query_centred", "query_covariance", "rounding_scale"):
            one = np.asarray(getattr(small, name), float) / factor
            assert_close(one, getattr(plain, name), rtol)


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kernels", ["query", "query key", "value"])
def test_true_statements_hold_however_small_the_weights(kernels, norm):
    for dtype, factor in SMALL:
        x, w = layer(dtype, **{name: factor for name in kernels.split()})
        for level in LEVELS:
            table = check_bounds(x, w, norm=norm, level=level).set_index("statement")
            assert_true_statements_hold(table)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("per_head", [False, True])
def test_small_queries_and_keys_leave_the_norms_of_even_attention(per_head, norm):
    """Sizes at which a square keeps some digits only: a direction is not unit then."""
    options: Any = {"norm": norm, "per_head": per_head}
    even = path_norms(*layer(np.float32, query=0.0, key=0.0), **options).total
    for factor in (1e-9, 1e-10, 3e-11, 1e-11, 1e-12):
        x, w = layer(np.float32, query=factor, key=factor)
        assert_close(path_norms(x, w, **options).total, even, 1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_small_kernels_that_large_inputs_make_up_for_are_right(norm):
    x, w = make_layer(0, TWO)
    plain = profile(x, w, norm=norm)
    arrays = {
        name: np.float32(a * 1e-15) for name, a in vars(w).items() if name in NAMES
    }
    small = AttentionWeights(**arrays, out=np.float32(w.out))
    moved = profile(np.float32(x * 1e15), small, norm=norm)
    for name in LINEAR:
        one = np.asarray(getattr(moved, name), float) * 1e15
        assert_close(one, getattr(plain, name), 1e-4)


@pytest.mark.parametrize(
    ("dtype", "factors", "named"),
    [
        (np.float32, {"value": 1e-33}, "weights.value times weights.out"),
        (np.float32, {"value": 1e-16, "out": 1e-17}, "weights.value times weights.out"),
        (np.float32, {"out": 1e-40}, "weights.value times weights.out"),
        (np.float64, {"value": 1e-295}, "weights.value times weights.out"),
        (np.float64, {"value": 1e-200, "out": 1e-200}, "weights.value times"),
    ],
)
def test_values_too_small_for_their_norms_are_refused(dtype, factors, named):
    x, w = layer(dtype, **factors)
    for function in (path_norms, profile, check_bounds):
        with pytest.raises(ValueError, match=rf"{named}.* must be 0 .* in head 0"):
            function(x, w)


def test_one_head_too_small_is_named():
    x, w = make_layer(0, TWO._replace(output=None))
    value = np.array(w.value)
    value[:, 1] *= 1e-300
    with pytest.raises(ValueError, match=r"weights\.value must be 0 .* in head 1"):
        check_bounds(x, dataclasses.replace(w, value=value))


def test_a_head_of_zeros_is_one():
    x, w = make_layer(0, TWO)
    value = np.array(w.value)
    value[:, 1] = 0
    for level in LEVELS:
        table = check_bounds(x, dataclasses.replace(w, value=value), level=level)
        assert_true_statements_hold(table.set_index("statement"))


@pytest.mark.parametrize("norm", NORMS)
def test_a_layer_of_zeros_has_ratio_one_where_nothing_is_compared_with_nothing(norm):
    x, w = make_layer(0, TWO)
    w = AttentionWeights(**{n: np.zeros_like(getattr(w, n)) for n in (*NAMES, "out")})
    for level in LEVELS:
        table = check_bounds(x, w, norm=norm, level=level).set_index("statement")
        assert (table.rows_holding == table.rows).all()
        assert (table.worst_ratio == 1).all()
