"""What is no array, no layer or no bias is refused by name, with the cure."""

import dataclasses
import warnings
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
from tests.layers import ENGINES, PAPER, make_layer

pytestmark = pytest.mark.usefixtures("strict_promotion")

FUNCTIONS: list[Any] = [path_norms, path_jacobians, profile, check_bounds]
RAGGED: Any = [[1.0, 2.0, 3.0, 4.0], [1.0, 2.0]]


@pytest.fixture(params=FUNCTIONS, ids=lambda f: f.__name__)
def function(request):
    return request.param


def self_attention(x: Any, weights: Any, score_bias: Any = None) -> Any:
    return attend(x, x, x, weights, score_bias)


@pytest.mark.parametrize("function", [*FUNCTIONS, self_attention])
@pytest.mark.parametrize("kind", ["dict", "NoneType", "ndarray", "list"])
def test_weights_that_are_no_layer_are_refused_by_their_type(function, kind):
    x, w = make_layer(0, PAPER)
    others: Any = {"dict": vars(w), "NoneType": None, "ndarray": x, "list": [x]}
    with pytest.raises(ValueError, match=rf"weights must be .*, got {kind}"):
        function(x, others[kind])


@pytest.mark.parametrize("function", [*FUNCTIONS, self_attention])
def test_inputs_and_weights_in_the_other_order_are_told_so(function):
    x, w = make_layer(0, PAPER)
    with pytest.raises(ValueError, match="comes after the inputs, got ndarray"):
        function(w, x)


def test_options_are_judged_after_the_layer():
    weights: Any = None
    choices: list[Any] = [{"residual": True}, {"engine": "autodiff"}]
    for options in choices:
        with pytest.raises(ValueError, match="weights must be an AttentionWeights"):
            path_norms(np.zeros((5, 4)), weights, **options)


def test_a_bias_of_another_type_is_refused(function):
    x, w = make_layer(0, PAPER)
    with pytest.raises(ValueError, match="score_bias must be a ScoreBias, got ndarray"):
        function(x, w, score_bias=np.zeros((5, 5)))
    array: Any = np.zeros((5, 5))
    with pytest.raises(ValueError, match="score_bias must be a ScoreBias, got ndarray"):
        self_attention(x, w, array)


def test_ragged_inputs_are_refused(function):
    _, w = make_layer(0, PAPER)
    with pytest.raises(ValueError, match="x must be an array of numbers, got a ragged"):
        function(RAGGED, w)
    with pytest.raises(ValueError, match="x_q must be an array of numbers, got a rag"):
        self_attention(RAGGED, w)


@pytest.mark.parametrize("inputs", [None, "speeds", {"a": 1}, [["a", "b"]]])
def test_inputs_that_are_no_numbers_are_refused(function, inputs):
    _, w = make_layer(0, PAPER)
    with pytest.raises(ValueError, match="x must be an array of numbers, got"):
        function(inputs, w)


def test_ragged_weights_and_biases_are_refused_by_name():
    _, w = make_layer(0, PAPER)
    with pytest.raises(ValueError, match="key must be an array of numbers, got a rag"):
        dataclasses.replace(w, key=[RAGGED])
    with pytest.raises(ValueError, match="array must be an array of numbers, got a ra"):
        ScoreBias(array=RAGGED)


@pytest.mark.parametrize("as_mask", [np.asarray, jnp.asarray, np.ndarray.tolist])
def test_a_mask_of_booleans_is_refused_with_the_cure(as_mask):
    mask: Any = as_mask(np.tri(5, dtype=bool))
    cure = r"got booleans; .*np\.where\(mask, 0, -np\.inf\)"
    with pytest.raises(ValueError, match=cure):
        ScoreBias(array=mask)
    with pytest.raises(ValueError, match=cure):
        jax.jit(lambda mask: ScoreBias(array=mask).array)(np.asarray(mask))


def test_the_cure_is_the_mask():
    x, w = make_layer(0, PAPER)
    mask = np.tri(5, dtype=bool)
    cured = attend(x, x, x, w, ScoreBias(array=np.where(mask, 0, -np.inf)))
    causal = attend(x, x, x, w, ScoreBias(causal=True))
    np.testing.assert_array_equal(cured, causal)


def test_lists_and_integers_are_biases():
    x, w = make_layer(0, PAPER)
    integers = np.arange(25).reshape(5, 5) % 3
    expected = path_norms(x, w, score_bias=ScoreBias(array=integers.astype(float)))
    listed: Any = integers.tolist()
    for array in (integers, listed, jnp.asarray(integers)):
        score_bias = ScoreBias(array=array)
        assert hasattr(score_bias.array, "dtype")
        actual = path_norms(x, w, score_bias=score_bias)
        for one, other in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("array", [np.zeros((5, 5), complex), np.full(5, None)])
def test_a_bias_of_no_real_numbers_is_refused(array):
    with pytest.raises(ValueError, match="array must hold real numbers, got"):
        ScoreBias(array=array)


@pytest.mark.parametrize("diagonal", [None, True, "mask", 1j, [0.0]])
def test_a_diagonal_that_is_no_number_is_refused(diagonal):
    with pytest.raises(ValueError, match="diagonal must be one number, got"):
        ScoreBias(diagonal=diagonal)


@pytest.mark.parametrize("number", [-1e300, 1e300])
def test_a_finite_bias_that_is_not_so_in_the_dtype_is_refused(function, number):
    x, w = jax.tree.map(np.float32, make_layer(0, PAPER))
    with pytest.raises(ValueError, match=r"score_bias\.diagonal must be finite in flo"):
        function(x, w, score_bias=ScoreBias(diagonal=number))
    array = np.zeros((5, 5))
    array[2, 1] = number
    with pytest.raises(ValueError, match=r"score_bias\.array .* index \(2, 1\) it is"):
        function(x, w, score_bias=ScoreBias(array=array))
    array[2, 1] = -np.inf
    function(x, w, score_bias=ScoreBias(array=array))


def test_a_bias_that_overflows_the_scores_is_named():
    x, w = jax.tree.map(np.float32, make_layer(0, PAPER, scale=1e10))
    with pytest.raises(ValueError, match="weights and score_bias must be small enough"):
        path_norms(x * np.float32(1e15), w)


@pytest.mark.parametrize("engine", ENGINES)
def test_float64_under_jit_is_jaxs_own_precision_without_a_warning(engine):
    x, w = make_layer(0, PAPER)
    with jax.enable_x64(False), warnings.catch_warnings():
        warnings.simplefilter("error")
        norms = jax.jit(lambda x: path_norms(x, w, norm="frobenius", engine=engine))(x)
    assert norms.total.dtype == np.float32


def test_heads_of_torch_may_be_numpys_integers_but_no_bool():
    state = {
        "in_proj_weight": np.random.default_rng(0).normal(size=(24, 8)),
        "out_proj.weight": np.eye(8),
    }
    numpys: Any = np.int64(2)
    assert AttentionWeights.from_torch(state, num_heads=numpys).heads == 2
    for wrong in (True, 2.0, "2", None):
        number: Any = wrong
        with pytest.raises(ValueError, match=r"num_heads \(.*\) must be an integer"):
            AttentionWeights.from_torch(state, num_heads=number)
