"""How many heads are computed side by side: never so that two programs wait."""

import subprocess
import sys

import jax
import numpy as np
import pytest

from sensitivity import AttentionWeights
from sensitivity._closed_form import plan_heads


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
