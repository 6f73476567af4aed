"""Nothing that changes no path may make a verdict, or cost a digit, in any engine."""

import numpy as np
import pytest

from sensitivity import ScoreBias, check_bounds, path_norms
from tests.layers import Shape, make_layer
from tests.verdicts import assert_true_statements_hold

pytestmark = pytest.mark.usefixtures("strict_promotion")

TWO = Shape(6, 5, 2, 3, 4, 5, biases=True)
ENGINES = ("closed_form", "autodiff")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [1e2, 3e4])
def test_identical_tokens_of_any_size_pass_every_true_statement(engine, size):
    x, w = make_layer(0, TWO, 1.0)
    x = np.repeat(size * x[:1], len(x), axis=0)
    table = check_bounds(x, w, engine=engine).set_index("statement")
    assert_true_statements_hold(table)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_large_value_bias_costs_no_digit(engine):
    x, w = make_layer(1, TWO, 1.0)
    plain = path_norms(x, w, engine=engine)
    w.value_bias[:] += 1e8
    moved = path_norms(x, w, engine=engine)
    for before, after in zip(plain, moved, strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_padding_mask_that_is_minus_infinity_in_float32_only_is_refused():
    x, w = make_layer(2, Shape(6, 5, 1, 3, 4, None, biases=False), 1.0)
    single = type(w)(*(np.float32(a) for a in (w.query, w.key, w.value)))
    array = np.zeros((6, 6))
    array[2] = -1e300
    rule = r"score_bias\.array must be finite in float32 too .* \(2, 0\) it is -1e\+300"
    with pytest.raises(ValueError, match=rule):
        path_norms(np.float32(x), single, score_bias=ScoreBias(array=array))


def test_an_overflow_is_refused_not_returned():
    x, w = make_layer(3, TWO, 1.0)
    with pytest.raises(ValueError, match=r"finite in float64; some overflow"):
        path_norms(x * 1e200, w)
