"""Bad input is refused by name, with place and cure."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensitivity import (
    AttentionWeights,
    ScoreBias,
    attend,
    check_bounds,
    path_jacobians,
    path_norms,
    profile,
)
from sensitivity.attention import attention_matrix
from tests.helpers import (
    FOLDED,
    PAPER,
    make_layer,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")

INF = np.inf
RAGGED: Any = [[1.0, 2.0, 3.0, 4.0], [1.0, 2.0]]


def self_attention(x: Any, weights: Any, score_bias: Any = None) -> Any:
    return attend(x, x, x, weights, score_bias)


FUNCTIONS: list[Any] = [
    path_norms,
    path_jacobians,
    profile,
    check_bounds,
    attention_matrix,
]
EVERY: list[Any] = [*FUNCTIONS, self_attention]


@pytest.fixture(params=FUNCTIONS, ids=lambda f: f.__name__)
def function(request):
    """What looks at values; `attend` is what a model runs, and does not."""
    return request.param


@pytest.fixture(params=EVERY, ids=lambda f: f.__name__)
def every(request):
    return request.param


def bad(array, place, number):
    """A copy with one number in one place."""
    array = np.array(array)
    array[place] = number
    return array


def layer(dtype: Any = np.float64, shape: Any = PAPER) -> Any:
    return jax.tree.map(dtype, make_layer(0, shape))


# Layers and inputs.


@pytest.mark.parametrize("kind", ["dict", "NoneType", "ndarray", "list"])
def test_weights_that_are_no_layer_are_refused_by_their_type(every, kind):
    x, w = layer()
    others: Any = {"dict": vars(w), "NoneType": None, "ndarray": x, "list": [x]}
    with pytest.raises(ValueError, match=rf"weights must be .*, got {kind}"):
        every(x, others[kind])


def test_inputs_and_weights_in_the_other_order_are_told_so(every):
    x, w = layer()
    with pytest.raises(ValueError, match="comes after the inputs, got ndarray"):
        every(w, x)


def test_options_are_judged_after_the_layer():
    weights: Any = None
    choices: list[Any] = [{"residual": True}, {"engine": "autodiff"}]
    for options in choices:
        with pytest.raises(ValueError, match="weights must be an AttentionWeights"):
            path_norms(np.zeros((5, 4)), weights, **options)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        *(
            (np.zeros(shape), r"must have shape \(\.\.\., T, D=4\)")
            for shape in [(4,), (5, 3), (5, 5), (2, 5, 3), ()]
        ),
        *(
            (np.zeros(shape), "must have at least one of everything")
            for shape in [(0, 4), (0, 5, 4), (2, 0, 4)]
        ),
        (RAGGED, "must be an array of numbers, got a ragged"),
        *(
            (inputs, "must be an array of numbers, got")
            for inputs in [None, "speeds", {"a": 1}, [["a", "b"]]]
        ),
    ],
)
def test_inputs_that_cannot_be_are_refused(every, inputs, message):
    _, w = layer()
    name = "x_q" if every is self_attention else "x"
    with pytest.raises(ValueError, match=rf"{name}\b.*{message}"):
        every(inputs, w)


@pytest.mark.parametrize("number", [np.nan, INF, -INF])
def test_an_input_that_is_no_number_is_refused_with_its_place(function, number):
    x, w = layer()
    match = rf"x must be finite everywhere; at index \(2, 1\) it is {number}"
    with pytest.raises(ValueError, match=match):
        function(bad(x, (2, 1), number), w)


@pytest.mark.parametrize(
    "field",
    [f.name for f in dataclasses.fields(AttentionWeights) if f.name != "form"],
)
def test_a_weight_that_is_no_number_is_refused_with_its_name_and_place(field):
    x, w = layer(shape=FOLDED)
    array = getattr(w, field)
    place = tuple(n - 1 for n in array.shape)
    broken = dataclasses.replace(w, **{field: bad(array, place, np.nan)})
    with pytest.raises(ValueError, match=rf"weights\.{field} must be finite") as caught:
        path_norms(x, broken)
    assert str(place) in str(caught.value)


def test_complex_numbers_are_refused():
    x, w = layer()
    with pytest.raises((ValueError, TypeError), match="complex|real"):
        path_norms(x + 0j, w)


def test_an_overflow_is_named_not_returned():
    for dtype, size in ((np.float32, 1e25), (np.float64, 1e200)):
        x, w = layer(dtype)
        rule = f"score_bias must be small enough .*finite in {dtype.__name__}; some ov"
        with pytest.raises(ValueError, match=rule):
            path_norms(x * dtype(size), w, norm="frobenius")


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
        ([(0, 4)] * 3, "must have at least one of everything"),
    ],
)
def test_three_inputs_that_do_not_fit_are_named(transform, shapes, message):
    _, w = layer()
    inputs = [np.zeros(shape) for shape in shapes]
    with pytest.raises(ValueError, match=message):
        transform(lambda q, k, v: attend(q, k, v, w))(*inputs)


def test_values_are_not_checked_under_jit_but_shapes_are():
    x, w = layer()
    traced = jax.jit(lambda x: path_norms(x, w, norm="frobenius").value)
    assert np.isnan(traced(bad(x, (0, 0), np.nan))).any()
    with pytest.raises(ValueError, match="x must have shape"):
        traced(x[:, :3])


# Score biases.


def test_a_bias_of_another_type_is_refused(every):
    x, w = layer()
    with pytest.raises(ValueError, match="score_bias must be a ScoreBias, got ndarray"):
        every(x, w, score_bias=np.zeros((5, 5)))


@pytest.mark.parametrize("number", [np.nan, INF])
def test_a_bias_that_is_no_bias_is_refused_with_its_place(every, number):
    x, w = layer()
    array = bad(np.zeros((5, 5)), (3, 4), number)
    match = r"score_bias\.array must be finite or -inf everywhere; at index \(3, 4\)"
    with pytest.raises(ValueError, match=match):
        every(x, w, score_bias=ScoreBias(array=array))


@pytest.mark.parametrize("number", [-1e300, 1e300])
def test_a_finite_bias_that_is_not_so_in_the_dtype_is_refused(function, number):
    """Other libraries write -inf so; in float32 it would be -inf, and NaN in a row."""
    x, w = layer(np.float32)
    with pytest.raises(ValueError, match=r"score_bias\.diagonal must be finite in flo"):
        function(x, w, score_bias=ScoreBias(diagonal=number))
    array = bad(np.zeros((5, 5)), (2, 1), number)
    rule = r"score_bias\.array must be finite in float32 .* index \(2, 1\) it is"
    with pytest.raises(ValueError, match=rule):
        function(x, w, score_bias=ScoreBias(array=array))
    array[2, 1] = -INF
    function(x, w, score_bias=ScoreBias(array=array))


def test_a_bias_is_measured_in_the_dtype_it_is_added_in():
    x, w = layer(np.float16)
    rule = r"score_bias\.diagonal must be finite in float16 too .*; got -100000"
    with pytest.raises(ValueError, match=rule):
        self_attention(x, w, ScoreBias(diagonal=-1e5))


@pytest.mark.parametrize(
    "shape", [(4, 5), (2, 5, 5), (3,), (1, 1, 5, 5), (2, 1, 1, 5, 5)]
)
def test_a_bias_that_does_not_broadcast_is_refused(every, shape):
    x, w = layer()
    match = r"score_bias\.array must broadcast to \(\.\.\., H, T, T\) = \(1, 5, 5\)"
    with pytest.raises(ValueError, match=match):
        every(x, w, score_bias=ScoreBias(array=np.zeros(shape)))


def test_tables_that_do_not_fit_are_named_under_jit_too():
    x, w = layer()
    for transform in (jax.jit, lambda f: f):
        for shape in ((4, 5), (2, 5, 5), (3, 1, 5, 5)):
            table = np.ones(shape)
            with pytest.raises(ValueError, match=r"score_bias\.array must broadcast"):
                transform(lambda x, a: attend(x, x, x, w, ScoreBias(array=a)))(x, table)
            with pytest.raises(ValueError, match="weight_factor must broadcast to"):
                transform(lambda x, a: attend(x, x, x, w, weight_factor=a))(x, table)


@pytest.mark.parametrize(
    ("score_bias", "T", "message"),
    [
        (ScoreBias(-INF), 1, "i=0 nothing to attend to: .* T = 1"),
        (ScoreBias(-INF, causal=True), 5, "i=0 nothing .* the mask is causal"),
        (ScoreBias(array=np.full((5, 5), -INF)), 5, "i=0 nothing to attend to"),
        (
            ScoreBias(array=bad(np.zeros((1, 5, 5)), (0, 3), -INF)),
            5,
            r"i=3 nothing to attend to \(index \(0,\) of its leading axes\)",
        ),
        (ScoreBias(-INF, array=bad(np.zeros(5), slice(1, 5), -INF)), 5, "i=0 nothing"),
        (
            ScoreBias(causal=True, array=bad(np.zeros((1, 5)), (0, 0), -INF)),
            5,
            "i=0 nothing to attend to",
        ),
        (ScoreBias(array=bad(np.zeros((5, 1)), 4, -INF)), 5, "i=4 nothing to attend"),
        (ScoreBias(-INF, True, array=np.zeros(())), 5, "i=0 nothing to attend to"),
    ],
)
def test_a_row_with_nothing_to_attend_to_is_refused(every, score_bias, T, message):
    x, w = layer(shape=PAPER._replace(T=T))
    with pytest.raises(ValueError, match=f"row {message}"):
        every(x, w, score_bias=score_bias)


@pytest.mark.parametrize("as_mask", [np.asarray, jnp.asarray, np.ndarray.tolist])
def test_a_mask_of_booleans_is_refused_with_the_cure(as_mask):
    mask = as_mask(np.tri(5, dtype=bool))
    cure = r"got booleans; .*np\.where\(mask, 0, -np\.inf\)"
    with pytest.raises(ValueError, match=cure):
        ScoreBias(array=mask)
    with pytest.raises(ValueError, match=cure):
        jax.jit(lambda mask: ScoreBias(array=mask).array)(np.asarray(mask))


def test_the_cure_is_the_mask():
    x, w = layer()
    mask = np.tri(5, dtype=bool)
    cured = self_attention(x, w, ScoreBias(array=np.where(mask, 0, -INF)))
    causal = self_attention(x, w, ScoreBias(causal=True))
    np.testing.assert_array_equal(cured, causal)


def test_lists_and_integers_are_arrays():
    x, w = layer()
    listed: Any = x.tolist()
    np.testing.assert_array_equal(self_attention(listed, w), self_attention(x, w))
    integers = np.arange(25).reshape(5, 5) % 3
    expected = path_norms(x, w, score_bias=ScoreBias(array=integers.astype(float)))
    listed = integers.tolist()
    for array in (integers, listed, jnp.asarray(integers)):
        score_bias = ScoreBias(array=array)
        assert hasattr(score_bias.array, "dtype")
        actual = path_norms(x, w, score_bias=score_bias)
        jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.mark.parametrize("array", [np.zeros((5, 5), complex), np.full(5, None)])
def test_a_bias_of_no_real_numbers_is_refused(array):
    with pytest.raises(ValueError, match="array must hold real numbers, got"):
        ScoreBias(array=array)


def test_ragged_weights_and_biases_are_refused_by_name():
    _, w = layer()
    with pytest.raises(ValueError, match="key must be an array of numbers, got a rag"):
        dataclasses.replace(w, key=[RAGGED])
    with pytest.raises(ValueError, match="array must be an array of numbers, got a ra"):
        ScoreBias(array=RAGGED)


@pytest.mark.parametrize("diagonal", [None, True, "mask", 1j, [0.0], np.zeros(3)])
def test_a_diagonal_that_is_no_number_is_refused(diagonal):
    with pytest.raises(ValueError, match="diagonal must be one number, got"):
        ScoreBias(diagonal=diagonal)
