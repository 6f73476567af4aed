"""Position encodings have their known values and depend on the lag alone."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.positions import PositionKind, frequencies, position_encoding

KINDS: list[PositionKind] = ["sinusoidal", "tape"]
kinds = st.sampled_from(KINDS)
lengths = st.sampled_from([1, 2, 12, 96, 500])
widths = st.integers(1, 80)


def one_by_one(kind, T, D):
    """The definition, an entry at a time."""
    table = np.zeros((T, D))
    for t in range(T):
        for column in range(D):
            angle = t * 10000 ** (-(column - column % 2) / D)
            angle *= D / T if kind == "tape" else 1
            table[t, column] = math.cos(angle) if column % 2 else math.sin(angle)
    return table


@given(kind=kinds, T=lengths, D=st.sampled_from([1, 2, 3, 8, 9, 64]))
def test_every_entry_is_the_definition(kind, T, D):
    actual = position_encoding(kind, T, D)
    assert actual.dtype == np.float64
    np.testing.assert_allclose(actual, one_by_one(kind, T, D), rtol=0, atol=1e-12)


@given(kind=kinds, T=lengths, half=st.integers(1, 40))
def test_inner_products_depend_on_the_lag_alone(kind, T, half):
    D = 2 * half
    p = position_encoding(kind, T, D)
    lag = np.arange(T)[:, None] - np.arange(T)
    stretch = D / T if kind == "tape" else 1
    toeplitz = np.cos(np.multiply.outer(lag, stretch * frequencies(D))).sum(-1)
    np.testing.assert_allclose(p @ p.T, toeplitz, rtol=0, atol=1e-11)


@given(kind=kinds, T=lengths, half=st.integers(1, 40))
def test_squared_length_is_half_the_width(kind, T, half):
    p = position_encoding(kind, T, 2 * half)
    np.testing.assert_allclose((p**2).sum(-1), half, rtol=1e-14)


@given(D=widths)
def test_tape_is_sinusoidal_where_the_window_is_as_long_as_wide(D):
    tape, sinusoidal = (
        position_encoding(kind, D, D) for kind in ("tape", "sinusoidal")
    )
    np.testing.assert_array_equal(tape, sinusoidal)


@given(kind=kinds, T=lengths, D=widths)
def test_the_first_step_is_sines_of_zero_and_cosines_of_zero(kind, T, D):
    np.testing.assert_array_equal(position_encoding(kind, T, D)[0], np.arange(D) % 2)


@given(T=lengths, D=widths)
def test_none_adds_nothing(T, D):
    encoding = position_encoding("none", T, D)
    assert encoding.shape == (T, D)
    assert not encoding.any()


def test_tape_tells_neighbouring_steps_apart_where_sinusoidal_hardly_does():
    """Lag-1 similarity in the paper's model (D = 72, T = 12)."""
    similarity = {}
    for kind in KINDS:
        p = position_encoding(kind, 12, 72)
        similarity[kind] = round(p[0] @ p[1] / 36, 2)
    assert similarity == {"sinusoidal": 0.97, "tape": 0.74}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rotary", 4, 4), "kind must be one of 'none', .*, 'tape', got 'rotary'"),
        (("tape", 0, 4), "T must be at least 1, got 0"),
        (("none", 4, 0), "D must be at least 1, got 0"),
        (("sinusoidal", 4, -2), "D must be at least 1, got -2"),
    ],
)
def test_a_bad_argument_is_named_with_its_rule_and_value(arguments: Any, message):
    with pytest.raises(ValueError, match=message):
        position_encoding(*arguments)
