"""The secular root is the largest eigenvalue of a diagonal plus rank one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensitivity._rank_one import secular_root

pytestmark = pytest.mark.usefixtures("strict_promotion")

SIZES = [1, 2, 3, 8]
N = 64  # problems at once

_solve = jax.jit(secular_root)


def solve(squares, gaps):
    return _solve(jnp.asarray(squares), jnp.asarray(gaps))


def dense(squares, gaps):
    """By eigvalsh of -diag(g) + z z^T, scaled to 1; all in NumPy."""
    roots = []
    for c, g in zip(squares.T, gaps.T, strict=True):
        c, g = c.astype(float), g.astype(float)
        unit = max(c.sum(), g.max()) or 1.0
        z = np.sqrt(c / unit)
        matrix = np.outer(z, z) - np.diag(g / unit)
        roots.append(unit * max(np.linalg.eigvalsh(matrix)[-1], 0))
    return np.array(roots)


def assert_roots(squares, gaps, rtol=1e-14):
    actual = np.asarray(solve(squares, gaps))
    assert actual.dtype == squares.dtype
    expected = dense(squares, gaps)
    scale = np.maximum(squares.sum(0), gaps.max(0)).astype(float)
    assert (actual >= 0).all()
    excess = np.abs(actual - expected) - 100 * rtol * scale
    assert (excess <= 0).all(), (excess / scale).max()


def problems(rng, V, dtype: Any = np.float64):
    """Squares and gaps of N problems, of every kind at once."""
    squares, gaps = rng.exponential(size=(2, V, N))
    gaps *= 10.0 ** rng.integers(-8, 9, size=(V, N))
    squares *= 10.0 ** rng.integers(-12, 3, size=(V, N))
    squares *= rng.random((V, N)) < 0.8  # some are zero
    repeated = rng.random((V, N)) < 0.3
    gaps = np.where(repeated, 0, gaps)
    gaps = np.sort(gaps, axis=0)
    gaps -= gaps[:1]
    return squares.astype(dtype), gaps.astype(dtype)


@pytest.mark.parametrize("V", SIZES)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=25)
def test_the_root_is_the_largest_eigenvalue(V, seed):
    assert_roots(*problems(np.random.default_rng(seed), V))


@pytest.mark.parametrize("V", SIZES)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=10)
def test_the_root_is_as_good_in_float32(V, seed):
    assert_roots(*problems(np.random.default_rng(seed), V, np.float32), rtol=1e-6)


@pytest.mark.parametrize("factor", [1e-250, 1e-100, 1e100, 1e250])
def test_a_common_factor_scales_the_root(factor):
    squares, gaps = problems(np.random.default_rng(0), 3)
    plain = np.asarray(solve(squares, gaps))
    scaled = np.asarray(solve(factor * squares, factor * gaps))
    np.testing.assert_allclose(scaled / factor, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("V", SIZES)
def test_no_weight_at_all_gives_zero(V):
    _, gaps = problems(np.random.default_rng(1), V)
    assert not np.asarray(solve(np.zeros((V, N)), gaps)).any()


@pytest.mark.parametrize("V", SIZES)
def test_repeated_poles_add_their_weights(V):
    squares, gaps = problems(np.random.default_rng(2), V)
    root = solve(squares, 0 * gaps)
    np.testing.assert_allclose(root, squares.sum(0), rtol=1e-12)


def test_a_weightless_first_pole_leaves_the_others():
    """The root is then that of the others, or 0 where they do not reach it."""
    rng = np.random.default_rng(3)
    squares, gaps = problems(rng, 3)
    squares[0] = 0
    assert_roots(squares, gaps)
    one = np.array([[0.0], [3.0]])
    assert np.asarray(solve(one, np.array([[0.0], [1.0]])))[0] == 2.0
    assert np.asarray(solve(one, np.array([[0.0], [5.0]])))[0] == 0.0


def test_the_secular_equation_holds_at_the_root():
    rng = np.random.default_rng(4)
    squares, gaps = rng.exponential(size=(2, 5, N))
    gaps = np.sort(gaps, axis=0) - gaps.min(0)
    mu = np.asarray(solve(squares, gaps))
    np.testing.assert_allclose((squares / (mu + gaps)).sum(0), 1, rtol=1e-12)


def test_gaps_broadcast_to_the_squares():
    rng = np.random.default_rng(5)
    squares, gaps = rng.exponential(size=(3, 4, 6)), rng.exponential(size=(3, 4, 1))
    gaps = np.sort(gaps, axis=0) - gaps.min(0)
    broad = np.broadcast_to(gaps, squares.shape)
    np.testing.assert_array_equal(solve(squares, gaps), solve(squares, broad))


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-13), (np.float32, 2e-6)])
def test_the_norm_of_a_matrix_plus_rank_one_follows(dtype, rtol):
    rng = np.random.default_rng(6)
    for size in (0.0, 1e-9, 1.0, 1e9):
        A = rng.normal(size=(4, 7)).astype(dtype)
        u, w = (rng.normal(size=n).astype(dtype) for n in (4, 7))
        u *= dtype(size)
        gain = np.linalg.norm(w)
        w_hat = w / gain
        Y = A - np.outer(A @ w_hat, w_hat)
        levels, basis = np.linalg.eigh(Y @ Y.T)
        levels, basis = levels[::-1], basis[:, ::-1]
        z = basis.T @ (A @ w_hat + gain * u)
        squares = z[:, None] ** 2
        gaps = (levels[0] - levels)[:, None]
        norm = np.sqrt(levels[0] + np.asarray(solve(squares, gaps))[0])
        exact = np.linalg.norm(A.astype(float) + np.outer(u, w).astype(float), 2)
        np.testing.assert_allclose(norm, exact, rtol=rtol)
