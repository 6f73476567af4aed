"""The largest eigenvalues by Lanczos are those of the dense matrices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensitivity._lanczos import largest_root, top_eigenvalue

pytestmark = pytest.mark.usefixtures("strict_promotion")

N, BATCH = 12, 10


@jax.jit
def top(matrices):
    def apply(vectors):
        return jnp.einsum("bmn,bn->bm", matrices, vectors)

    return top_eigenvalue(apply, matrices.shape[:2], matrices.dtype)


@functools.partial(jax.jit, static_argnums=2)
def tridiagonal_top(diagonal, off, size):
    return largest_root(diagonal, off, jnp.array(size))


def rotated(rng, levels):
    """A symmetric matrix with the given eigenvalues."""
    basis = np.linalg.qr(rng.normal(size=(len(levels), len(levels))))[0]
    return (basis * levels) @ basis.T


def spectra(rng):
    """Spectra of every kind: ten of them."""
    geometric = 10.0 ** -np.arange(N)
    cluster = 1 - 1e-10 * np.arange(N)
    pair = np.concatenate([[1.0, 1.0 - 1e-7], rng.random(N - 2)])
    top_cluster = np.concatenate([np.full(4, 2.0), rng.random(N - 4)])
    kinds = [
        np.zeros(N),
        np.ones(N),
        np.eye(N)[3],
        geometric,
        cluster,
        pair,
        top_cluster,
        rng.random(N),
        rng.exponential(size=N) ** 4,
        np.concatenate([[1.0], np.full(N - 1, 1 - 1e-5)]),
    ]
    return np.array(kinds)


@given(seed=st.integers(0, 10**6), power=st.sampled_from([-100, -8, 0, 8, 100]))
@settings(max_examples=25)
def test_the_largest_eigenvalue_is_the_dense_one(seed, power):
    rng = np.random.default_rng(seed)
    levels = spectra(rng) * 10.0**power
    matrices = np.array([rotated(rng, own) for own in levels])
    actual = np.asarray(top(matrices))
    np.testing.assert_allclose(np.sqrt(actual), np.sqrt(levels.max(1)), rtol=1e-9)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=10)
def test_the_largest_eigenvalue_is_good_in_float32(seed):
    rng = np.random.default_rng(seed)
    levels = spectra(rng)
    matrices = np.array([rotated(rng, own) for own in levels]).astype(np.float32)
    actual = top(matrices)
    assert actual.dtype == np.float32
    exact = np.linalg.eigvalsh(matrices.astype(float))[:, -1]
    np.testing.assert_allclose(np.sqrt(actual), np.sqrt(exact.clip(0)), rtol=1e-5)


def test_zero_gives_exactly_zero_and_the_identity_one():
    matrices = np.array([np.zeros((N, N)), np.eye(N)] * 5)
    np.testing.assert_allclose(top(matrices), [0, 1] * 5, rtol=1e-15)
    assert np.asarray(top(matrices))[0] == 0


@given(seed=st.integers(0, 10**6))
@settings(max_examples=15)
def test_rank_one_is_found_whatever_its_direction(seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(BATCH, N)) * 10.0 ** rng.integers(-6, 6, (BATCH, 1))
    vectors[0] = np.eye(N)[0]
    actual = top(np.einsum("bm,bn->bmn", vectors, vectors))
    np.testing.assert_allclose(actual, (vectors**2).sum(1), rtol=1e-12)


def test_one_dimension_is_its_number():
    numbers = np.array([0.0, 1e-300, 3.0, 1e200])
    np.testing.assert_allclose(top(numbers[:, None, None]), numbers, rtol=1e-14)


@given(seed=st.integers(0, 10**6), power=st.sampled_from([-60, 0, 60]))
@settings(max_examples=25)
def test_the_largest_root_of_tridiagonal_matrices_is_the_dense_one(seed, power):
    """Semidefinite by construction: B^T B, B bidiagonal; 8 of 16 rows count."""
    rng, size = np.random.default_rng(seed), 8
    main, above = rng.normal(size=(2, 16, BATCH)) * 10.0 ** (power / 2)
    above *= rng.random(above.shape) < 0.7
    main[:, 0] = above[:, 0] = 0
    diagonal = main**2
    diagonal[1:] += above[:-1] ** 2
    off = np.abs(main * above)  # as Lanczos makes them; signs change no eigenvalue
    off[size - 1 :] = 7e9  # not to be read
    expected = []
    for b in range(BATCH):
        matrix = np.diag(diagonal[:size, b])
        matrix += np.diag(off[: size - 1, b], 1) + np.diag(off[: size - 1, b], -1)
        expected.append(np.linalg.eigvalsh(matrix)[-1])
    actual = tridiagonal_top(diagonal, off, size)
    np.testing.assert_allclose(actual, np.maximum(expected, 0), rtol=1e-13)
