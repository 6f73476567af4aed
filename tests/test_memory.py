"""A budget of memory is read, kept, and where it is too little, told what fits."""

from typing import Any

import jax
import numpy as np
import pytest

from sensitivity import (
    check_bounds,
    path_jacobians,
    path_norms,
    profile,
)
from sensitivity.arguments import ArgumentError
from sensitivity.memory import blocks_within, format_memory, parse_memory
from tests.helpers import (
    FOLDED,
    PAPER,
    make_layer,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")


def layer(dtype: Any = np.float64, shape: Any = PAPER) -> Any:
    return jax.tree.map(dtype, make_layer(0, shape))


@pytest.mark.parametrize("budget", ["", "many", "-1GiB", "0", "1 furlong", "nan", -5])
def test_a_budget_that_cannot_be_read_is_refused(budget):
    rule = r"^max_memory must be a positive amount such as '512MiB' or '2GB', got"
    with pytest.raises(ArgumentError, match=rule) as caught:
        path_norms(*layer(), max_memory=budget)
    assert caught.value.argument == "max_memory"


@pytest.mark.parametrize("function", [profile, check_bounds, path_jacobians])
def test_a_budget_that_is_too_little_is_refused_with_what_it_takes(function):
    x, w = layer(shape=FOLDED)
    rule = r"^max_memory \(1KB\) must be at least .*iB .*; no T would fit"
    with pytest.raises(ArgumentError, match=rule) as caught:
        function(x, w, max_memory="1KB")
    assert caught.value.argument == "max_memory"


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (path_norms, {}),
        (path_norms, {"per_head": True, "norm": "frobenius"}),
        (path_norms, {"engine": "autodiff", "norm": "frobenius"}),
        (path_jacobians, {}),
        (profile, {"norm": "frobenius"}),
        (check_bounds, {"level": "layer", "norm": "frobenius"}),
    ],
)
def test_the_longest_input_that_fits_is_told_and_fits(function, options):
    _, w = layer(shape=FOLDED)
    x = np.random.default_rng(0).normal(size=(2**14, 6))
    with pytest.raises(ArgumentError, match=r"; T=\d+ would fit\.$") as caught:
        function(x, w, max_memory="96KiB", **options)
    T = int(caught.value.rule.split("T=")[-1].split()[0])
    function(x[:T], w, max_memory="96KiB", **options)
    with pytest.raises(ArgumentError, match=f"; T={T} would fit"):
        function(x[: T + 1], w, max_memory="96KiB", **options)


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
