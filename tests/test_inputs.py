"""Bad input is refused with a sentence that names it; precision follows the input."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensitivity import (
    AttentionWeights,
    ScoreBias,
    check_bounds,
    path_jacobians,
    path_norms,
    profile,
)
from sensitivity.memory import blocks_within, format_memory, parse_memory
from tests import reference
from tests.layers import (
    ENGINES,
    FOLDED,
    NARROW,
    PAPER,
    assert_close,
    full_bias,
    make_layer,
    slack,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")

FUNCTIONS: list[Any] = [path_norms, path_jacobians, profile, check_bounds]
INF = np.inf


@pytest.fixture(params=FUNCTIONS, ids=lambda f: f.__name__)
def function(request):
    return request.param


def bad(array, place, number):
    """A copy with one number in one place."""
    array = np.array(array)
    array[place] = number
    return array


@pytest.mark.parametrize("shape", [(4,), (5, 3), (5, 5), (2, 5, 3), ()])
def test_inputs_of_another_width_are_refused(function, shape):
    _, w = make_layer(0, PAPER)
    with pytest.raises(ValueError, match=r"x must have shape \(..., T, D=4\)"):
        function(np.zeros(shape), w)


@pytest.mark.parametrize("shape", [(0, 4), (0, 5, 4), (2, 0, 4)])
def test_inputs_without_a_step_or_a_sample_are_refused(function, shape):
    _, w = make_layer(0, PAPER)
    with pytest.raises(ValueError, match="at least one of everything"):
        function(np.zeros(shape), w)


@pytest.mark.parametrize("number", [np.nan, INF, -INF])
def test_an_input_that_is_no_number_is_refused_with_its_place(function, number):
    x, w = make_layer(0, PAPER)
    match = rf"x must be finite everywhere; at index \(2, 1\) it is {number}"
    with pytest.raises(ValueError, match=match):
        function(bad(x, (2, 1), number), w)


@pytest.mark.parametrize(
    "field", [f.name for f in dataclasses.fields(AttentionWeights)]
)
def test_a_weight_that_is_no_number_is_refused_with_its_name_and_place(field):
    x, w = make_layer(0, FOLDED)
    array = getattr(w, field)
    place = tuple(n - 1 for n in array.shape)
    broken = dataclasses.replace(w, **{field: bad(array, place, np.nan)})
    with pytest.raises(ValueError, match=rf"weights\.{field} must be finite") as caught:
        path_norms(x, broken)
    assert str(place) in str(caught.value)


@pytest.mark.parametrize("number", [np.nan, INF])
def test_a_bias_that_is_no_bias_is_refused_with_its_place(function, number):
    x, w = make_layer(0, PAPER)
    array = bad(np.zeros((5, 5)), (3, 4), number)
    match = r"score_bias\.array must be finite or -inf everywhere; at index \(3, 4\)"
    with pytest.raises(ValueError, match=match):
        function(x, w, score_bias=ScoreBias(array=array))


@pytest.mark.parametrize(
    "shape", [(4, 5), (2, 5, 5), (3,), (1, 1, 5, 5), (2, 1, 1, 5, 5)]
)
def test_a_bias_that_does_not_broadcast_is_refused(function, shape):
    x, w = make_layer(0, PAPER)
    match = r"score_bias\.array must broadcast to \(\.\.\., H, T, T\) = \(1, 5, 5\)"
    with pytest.raises(ValueError, match=match):
        function(x, w, score_bias=ScoreBias(array=np.zeros(shape)))


@pytest.mark.parametrize(
    ("score_bias", "T", "message"),
    [
        (ScoreBias(-INF), 1, "row i=0 nothing to attend to: .* T = 1"),
        (ScoreBias(-INF, causal=True), 5, "row i=0 nothing .* the mask is causal"),
        (ScoreBias(array=np.full((5, 5), -INF)), 5, "row i=0 nothing to attend to"),
        (
            ScoreBias(array=bad(np.zeros((1, 5, 5)), (0, 3), -INF)),
            5,
            r"row i=3 nothing to attend to \(index \(0,\) of its leading axes\)",
        ),
        (
            ScoreBias(-INF, array=bad(np.zeros(5), slice(1, 5), -INF)),
            5,
            "row i=0 nothing to attend to",
        ),
        (
            ScoreBias(causal=True, array=bad(np.zeros((1, 5)), (0, 0), -INF)),
            5,
            "row i=0 nothing to attend to",
        ),
        (
            ScoreBias(array=bad(np.zeros((5, 1)), 4, -INF)),
            5,
            "row i=4 nothing to attend to",
        ),
        (
            ScoreBias(-INF, True, array=np.zeros(())),
            5,
            "row i=0 nothing to attend to",
        ),
    ],
)
def test_a_row_with_nothing_to_attend_to_is_refused(function, score_bias, T, message):
    x, w = make_layer(0, PAPER._replace(T=T))
    with pytest.raises(ValueError, match=message):
        function(x, w, score_bias=score_bias)


@pytest.mark.parametrize("option", ["norm", "engine"])
def test_an_unknown_norm_or_engine_is_refused_with_the_choices(option):
    x, w = make_layer(0, PAPER)
    unknown: Any = {option: "nuclear"}
    with pytest.raises(ValueError, match=rf"{option} must be one of .* got 'nuclear'"):
        path_norms(x, w, **unknown)


def test_profile_refuses_an_unknown_norm():
    x, w = make_layer(0, PAPER)
    unknown: Any = "nuclear"
    with pytest.raises(ValueError, match="norm must be one of"):
        profile(x, w, norm=unknown)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_residual_on_an_output_of_another_width_is_refused(engine):
    x, w = make_layer(0, NARROW)
    for per_head in (False, True):
        with pytest.raises(ValueError, match="residual needs .* O=2, D=1"):
            path_norms(x, w, residual=True, engine=engine, per_head=per_head)


@pytest.mark.parametrize("budget", ["", "many", "-1GiB", "0", "1 furlong", "nan", -5])
def test_a_budget_that_cannot_be_read_is_refused(budget):
    x, w = make_layer(0, PAPER)
    with pytest.raises(ValueError, match="max_memory must be a positive amount"):
        path_norms(x, w, max_memory=budget)


@pytest.mark.parametrize("function", [profile, check_bounds, path_jacobians])
def test_a_budget_that_is_too_little_is_refused_with_what_it_takes(function):
    x, w = make_layer(0, FOLDED)
    with pytest.raises(ValueError, match=r"max_memory \(1KB\) must be at least .*iB"):
        function(x, w, max_memory="1KB")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        (4096, 4096),
        ("3B", 3),
        ("2kb", 2000),
        ("2KiB", 2048),
        ("1.5 MiB", 1572864),
        (" 2GB ", 2 * 10**9),
        ("1gib", 2**30),
        ("2.", 2),
    ],
)
def test_amounts_of_memory_are_read(text, size):
    assert parse_memory(text) == size


def test_amounts_of_memory_are_written():
    amounts = [format_memory(size) for size in (1, 1536, 2**20, 2.5 * 2**30, 2**41)]
    assert amounts == ["1.0 B", "1.5 KiB", "1.0 MiB", "2.5 GiB", "2048.0 GiB"]


def test_a_block_is_what_fits_and_no_more_than_is_wanted():
    options: Any = {"fixed": 100, "per_item": 10, "what": "an item"}
    assert blocks_within(155, wanted=100, **options) == 5
    assert blocks_within(10**6, wanted=100, **options) == 100
    assert blocks_within(110, wanted=100, **options) == 1
    with pytest.raises(ValueError, match=r"at least 110.0 B for an item"):
        blocks_within(109, wanted=100, **options)


@pytest.mark.parametrize("engine", ENGINES)
def test_float64_is_computed_in_float64_though_jax_is_set_to_float32(engine):
    x, w = make_layer(0, PAPER)
    expected = reference.path_norms(x, w, full_bias(PAPER, ScoreBias()), "frobenius")
    with jax.enable_x64(False):
        norms = path_norms(x, w, norm="frobenius", engine=engine)
    for path, table in norms._asdict().items():
        assert isinstance(table, np.ndarray)
        assert table.dtype == np.float64
        assert_close(table, expected[path], 1e-12, slack(x, w, "frobenius", False))


def test_every_function_is_float64_though_jax_is_set_to_float32():
    x, w = make_layer(0, PAPER)
    expected = profile(x, w, norm="frobenius")
    with jax.enable_x64(False):
        statistics = profile(x, w, norm="frobenius")
        paths = path_jacobians(x, w)
        table = check_bounds(x, w, norm="frobenius")
    for before, after in zip(expected, statistics, strict=True):
        assert isinstance(after, np.ndarray)
        assert after.dtype == before.dtype
        assert_close(after, before, 1e-13, 1e-15)
    assert paths.value.dtype == np.float64
    assert_close(table.worst_ratio[0], 1.0, 1e-9)


def test_float32_stays_float32_whatever_the_setting():
    x, w = jax.tree.map(np.float32, make_layer(0, PAPER))
    for enabled in (True, False):
        with jax.enable_x64(enabled):
            norms = path_norms(x, w, norm="frobenius")
        assert {table.dtype for table in norms} == {np.dtype("float32")}
        assert isinstance(norms.total, jax.Array)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.int8])
def test_less_than_float32_is_computed_in_float32(dtype):
    x, w = make_layer(0, PAPER)
    x = np.round(x).astype(dtype)
    w = jax.tree.map(lambda a: np.round(4 * a).astype(dtype), w)
    norms = path_norms(x, w, norm="frobenius")
    x32, w32 = jax.tree.map(np.float32, (x, w))
    plain = path_norms(x32, w32, norm="frobenius")
    for one, other in zip(norms, plain, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_array_equal(one, other)


def test_the_widest_of_inputs_and_weights_decides():
    x, w = make_layer(0, PAPER)
    mixed = path_norms(np.float32(x), w, norm="frobenius")
    exact = path_norms(np.float64(np.float32(x)), w, norm="frobenius")
    for one, other in zip(mixed, exact, strict=True):
        assert one.dtype == np.float64
        np.testing.assert_array_equal(one, other)


def test_the_bias_does_not_decide_the_precision():
    x, w = jax.tree.map(np.float32, make_layer(0, PAPER))
    score_bias = ScoreBias(-0.1, array=np.zeros((1, 5, 5)))
    assert path_norms(x, w, score_bias=score_bias).total.dtype == np.float32


def test_complex_numbers_are_refused():
    x, w = make_layer(0, PAPER)
    with pytest.raises((ValueError, TypeError), match="complex|real"):
        path_norms(x + 0j, w)


def test_values_are_not_checked_under_jit_but_shapes_are():
    x, w = make_layer(0, PAPER)
    traced = jax.jit(lambda x: path_norms(x, w, norm="frobenius").value)
    assert np.isnan(traced(bad(x, (0, 0), np.nan))).any()
    with pytest.raises(ValueError, match="x must have shape"):
        traced(x[:, :3])
