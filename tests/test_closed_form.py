"""The fast engine gives the norms of the naive oracle and of autodiff."""

import dataclasses
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings

from sensitivity import AttentionWeights, ScoreBias, path_norms, profile
from sensitivity._closed_form import plan_heads, plan_layer
from tests import reference
from tests.helpers import (
    ENGINES,
    FOLDED,
    MANY,
    NORMS,
    PAPER,
    PATHS,
    SHAPES,
    Shape,
    assert_close,
    diagonals,
    draws,
    full_bias,
    kinds,
    make_array,
    make_case,
    make_layer,
    mix_tolerance,
    residual_allowed,
    scales,
    seeds,
    slack,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")

QUICK = {("paper", "frobenius"), ("paper", "spectral"), ("folded", "frobenius")}


def check(x, w, score_bias, bias, norm, engine, per_head, residual=None):
    """One engine against the oracle, every path."""
    if residual is None:
        residual = residual_allowed(w, per_head)
    options: Any = {"norm": norm, "residual": residual, "per_head": per_head}
    actual = path_norms(x, w, score_bias=score_bias, engine=engine, **options)
    expected = reference.path_norms(x, w, bias, **options)
    rtol = mix_tolerance(w, norm, per_head) if engine == "closed_form" else 1e-12
    assert_close(actual, expected, rtol, slack(x, w, norm, per_head))


@pytest.mark.parametrize(
    ("engine", "name", "norm"),
    [
        pytest.param(
            *(engine, name, norm),
            marks=[] if (name, norm) in QUICK else pytest.mark.slow,
        )
        for engine in ENGINES
        for name in SHAPES
        for norm in NORMS
        if (engine, norm) != ("autodiff", "spectral") or name in ("paper", "folded")
    ],
)
@given(draw=draws)
@settings(max_examples=25)
def test_every_norm_is_the_oracles(engine, name, norm, draw):
    x, w, score_bias, bias = draw.of(SHAPES[name])
    for per_head in (False, True):
        check(x, w, score_bias, bias, norm, engine, per_head)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("axes", "causal"),
    [((), True), ((6,), False), ((6, 1), True), ((3, 1, 6), False), ((1, 6, 6), True)],
)
def test_arrays_of_every_broadcastable_shape_act_as_their_broadcast(axes, causal):
    x, w = make_layer(7, FOLDED)
    array = np.random.default_rng(1).normal(size=axes)
    short = ScoreBias(-0.1, causal=causal, array=array)
    bias = full_bias(FOLDED, short)
    check(x, w, short, bias, "frobenius", "closed_form", per_head=True)
    check(x, w, short, bias, "frobenius", "autodiff", per_head=False)


@pytest.mark.parametrize(
    ("norm", "per_head"), [("spectral", True), ("frobenius", False)]
)
def test_the_causal_mask_alone_gives_exact_zeros_in_the_future(norm, per_head):
    x, w = make_layer(3, FOLDED)
    bias = ScoreBias(causal=True)
    norms = path_norms(x, w, score_bias=bias, norm=norm, per_head=per_head)
    for table in norms:
        assert not np.asarray(table)[..., ~np.tri(6, dtype=bool)].any()


@pytest.mark.parametrize("axes", [(2, 1, 3, 6, 6), (4, 1, 1, 6), (2, 4, 1, 1, 1)])
def test_batch_axes_of_inputs_and_biases_are_samples(axes):
    rng = np.random.default_rng(5)
    _, w = make_layer(5, FOLDED)
    x, array = rng.normal(size=(2, 4, 6, 6)), rng.normal(size=axes)
    spread = np.broadcast_to(array, (2, 4, 3, 6, 6))
    for engine, per_head in zip(ENGINES, (True, False), strict=True):
        batch = path_norms(
            x,
            w,
            score_bias=ScoreBias(array=array),
            norm="frobenius",
            engine=engine,
            per_head=per_head,
        )
        for place in np.ndindex(2, 4):
            one = reference.path_norms(
                x[place], w, spread[place], norm="frobenius", per_head=per_head
            )
            own = jax.tree.map(lambda path, place=place: path[place], batch)
            assert_close(own, one, 1e-12, slack(x[place], w, "frobenius", per_head))


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
@given(seed=seeds, scale=scales, diagonal=diagonals, kind=kinds)
@settings(max_examples=25)
@example(seed=123493, scale=30.0, diagonal=0.0, kind="normal")
def test_float32_is_float64_to_five_digits(norm, seed, scale, diagonal, kind):
    """Beyond these the rounding of a score is the relative one of its weight."""
    shape, eps = FOLDED, np.finfo(np.float32).eps
    x, w = make_layer(seed, shape, scale)
    array = make_array(seed, shape, kind)
    x32, w32, array32 = jax.tree.map(np.float32, (x, w, array))
    x64, w64, array64 = jax.tree.map(np.float64, (x32, w32, array32))
    bias = ScoreBias(diagonal, array=array64)
    score_scale = np.asarray(profile(x64, w64, score_bias=bias, norm=norm).score_scale)
    for per_head in (False, True):
        options: Any = {
            "norm": norm,
            "residual": residual_allowed(w, per_head),
            "per_head": per_head,
        }
        actual, expected = (
            path_norms(x, w, score_bias=ScoreBias(diagonal, array=a), **options)
            for x, w, a in ((x32, w32, array32), (x64, w64, array64))
        )
        atol = slack(x64, w64, norm, per_head, np.float32)
        for path in PATHS:
            assert getattr(actual, path).dtype == np.float32
            rtol = 1e-5 + eps * score_scale.max()
            assert_close(getattr(actual, path), getattr(expected, path), rtol, atol)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("per_head", [False, True])
def test_a_tiny_budget_streams_and_changes_nothing(per_head, norm):
    x, w = make_layer(2, FOLDED)
    plan = plan_heads if per_head else plan_layer
    budget = next(b for b in range(1000, 10**6, 250) if fits(plan, x, w, norm, b))
    assert plan(jnp.asarray(x), w, norm, budget).rows == 1
    array = make_array(2, FOLDED, "forbidding")
    tight, easy = (
        path_norms(
            x,
            w,
            score_bias=ScoreBias(array=array),
            norm=norm,
            residual=True,
            per_head=per_head,
            max_memory=memory,
        )
        for memory in (budget, "1GiB")
    )
    rtol = mix_tolerance(w, norm, per_head)
    assert_close(tight, easy, rtol, slack(x, w, norm, per_head))


def fits(plan, x, w, norm, budget):
    try:
        plan(jnp.asarray(x), w, norm, budget)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("per_head", [False, True])
def test_a_budget_too_small_for_one_row_is_refused(engine, per_head):
    x, w = make_layer(2, FOLDED)
    with pytest.raises(ValueError, match=r"max_memory \(1KB\) must be at least"):
        path_norms(x, w, engine=engine, per_head=per_head, max_memory="1KB")


def test_the_largest_plan_is_within_its_budget():
    x, w = make_layer(2, MANY)
    x = jnp.asarray(x)
    for plan in (plan_heads, plan_layer):
        for norm in NORMS:
            assert plan(x, w, norm, "100KiB").size <= 100 * 2**10
            assert plan(x, w, norm, "1GiB").rows == MANY.T


@pytest.mark.parametrize(("norm", "mapped"), [("frobenius", False), ("spectral", True)])
def test_jit_and_vmap_give_the_same_numbers(norm, mapped):
    _, w = make_layer(8, PAPER)
    x = np.random.default_rng(8).normal(size=(3, 5, 4))
    array = make_array(8, PAPER, "normal")

    def norms(x, w):
        score_bias = ScoreBias(array=array)
        return path_norms(x, w, score_bias=score_bias, norm=norm, residual=True)

    transformed = jax.jit(jax.vmap(norms, (0, None)) if mapped else norms)
    if mapped:
        actual = transformed(jnp.asarray(x), w)
    else:
        actual = jax.tree.map(lambda t: t[None], transformed(x[0], w))
    for n in range(len(actual.total)):
        one = jax.tree.map(lambda path, n=n: path[n], actual)
        assert_close(one, norms(x[n], w), 1e-12, 1e-14)


def test_one_head_is_the_layer():
    x, w = make_layer(4, PAPER)
    options: Any = {
        "score_bias": ScoreBias(array=make_array(4, PAPER, "normal")),
        "norm": "frobenius",
        "residual": True,
    }
    layer = path_norms(x, w, **options)
    heads = path_norms(x, w, per_head=True, **options)
    assert_close(jax.tree.map(lambda path: path[0], heads), layer, 1e-14)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("factor", [1e-140, 1e140])
def test_values_of_extreme_size_neither_overflow_nor_vanish(factor, norm):
    x, w = make_layer(6, MANY)
    array = make_array(6, MANY, "normal")
    scaled = dataclasses.replace(w, value=np.asarray(w.value) * factor)
    extreme, plain = (
        path_norms(x, v, score_bias=ScoreBias(array=array), norm=norm, per_head=True)
        for v in (scaled, w)
    )
    extreme = jax.tree.map(lambda path: path / factor, extreme)
    assert_close(extreme, plain, 1e-12, slack(x, w, norm, True))


def test_blocks_of_rank_one_are_as_exact_as_any():
    """O = 1: Lanczos is done after one step, and whatever follows is rounding."""
    shape = Shape(12, 12, 2, 2, 3, 1, biases=True)
    for seed in range(8):
        x, w, score_bias = make_case(seed, shape, "normal")
        bias = full_bias(shape, score_bias)
        check(x, w, score_bias, bias, "spectral", "closed_form", per_head=False)


# How many heads are computed side by side: never so that two programs wait.


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 5, 6, 8, 12])
@pytest.mark.parametrize("norm", ["spectral", "frobenius"])
def test_the_heads_at_once_leave_no_rest(heads, norm):
    kernel = np.zeros((24 * heads, heads, 24))
    weights = AttentionWeights(kernel, kernel, kernel)
    for T in (2, 12, 64, 96, 144, 200, 512, 4096):
        x = jax.ShapeDtypeStruct((4, T, 24 * heads), np.dtype(np.float64))
        assert heads % plan_heads(x, weights, norm, "1GiB").heads == 0


@pytest.mark.slow
def test_a_length_at_which_three_of_four_heads_would_fit_comes_to_an_end():
    """It waited for ever: in a process of its own, which a test can end."""
    program = (
        "import numpy as np; from sensitivity import AttentionWeights, profile;"
        "kernel = np.random.default_rng(0).normal(size=(32, 4, 8)) / 6;"
        "w = AttentionWeights(kernel, kernel, kernel, np.moveaxis(kernel, 0, -1));"
        "x = np.random.default_rng(1).normal(size=(4, 144, 32));"
        "print(profile(x, w).query_norm.shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=300, check=True
    )
    assert done.stdout.decode().strip() == "(4, 4, 144)"


@pytest.mark.parametrize("size", [1.0, 1e6, 1e12])
@pytest.mark.parametrize("diagonal", [0.0, -np.inf])
def test_equal_tokens_of_any_size_have_no_key_or_query_path(diagonal, size):
    x, w = make_layer(0, FOLDED)
    x = np.broadcast_to(np.float32(x[0] * size), x.shape)
    norms = path_norms(
        x,
        jax.tree.map(np.float32, w),
        score_bias=ScoreBias(diagonal),
        norm="frobenius",
        per_head=True,
    )
    assert not np.asarray(norms.key).any()
    assert not np.asarray(norms.query).any()
