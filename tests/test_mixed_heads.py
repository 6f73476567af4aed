"""Layers of several heads: right in float32, whatever the heads' scales, and smooth."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensitivity import AttentionWeights, ScoreBias, path_norms
from sensitivity._lanczos import top_eigenvalue
from tests.helpers import FOLDED, NORMS, Shape, assert_close, make_layer, slack

pytestmark = pytest.mark.usefixtures("strict_promotion")

WIDE = Shape(6, 24, 3, 9, 10, 24, biases=True)  # whose squares are summed: H V O > 512


def uneven_layer(seed, T=7, D=4, H=3, V=2):
    """A float32 layer whose heads differ by up to 12 orders of magnitude."""
    rng = np.random.default_rng(seed)
    value, query, key = rng.normal(size=(3, D, H, V))
    out = rng.normal(size=(H, V, D)) * 10.0 ** rng.uniform(-6, 6, (H, 1, 1))
    w = AttentionWeights(query, key, value, out)
    x = rng.normal(size=(T, D))
    return jax.tree.map(np.float32, (x, w))


@pytest.mark.parametrize("norm", NORMS)
def test_float32_heads_of_every_scale_have_the_norms_of_float64(norm):
    for seed in range(20):
        x, w = uneven_layer(seed)
        x64, w64 = jax.tree.map(np.float64, (x, w))
        actual, expected = path_norms(x, w, norm=norm), path_norms(x64, w64, norm=norm)
        room = slack(x64, w64, norm, False, np.float32)
        for one, other in zip(actual, expected, strict=True):
            assert one.dtype == np.float32
            one, other = np.asarray(one, float), np.asarray(other)
            assert (np.abs(one - other) <= 1e-5 * other + room).all()


def test_no_fixed_vector_hides_the_top_direction():
    """Diagonal matrices in a basis whose first vector is the one of old."""
    N = 6
    old = np.random.default_rng(N).normal(size=N)
    bases = [np.linalg.qr(np.c_[old, np.eye(N)[:, 1:]])[0]]
    bases += [np.eye(N), np.ones((N, N)) - N / 2 * np.eye(N)]
    for basis in bases:
        basis = basis / np.linalg.norm(basis, axis=0)
        for at in range(1, N):
            levels = np.where(np.arange(N) == at, 1, 0.3)
            matrix = (basis * levels) @ basis.T
            top = top_eigenvalue(lambda x, m=matrix: x @ m, (N,), np.dtype(float))
            np.testing.assert_allclose(top, np.linalg.eigvalsh(matrix)[-1], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
def test_derivatives_are_finite_differences_under_every_mask(norm):
    x, w = jax.tree.map(jnp.asarray, make_layer(3, FOLDED))
    pattern = jnp.cos(jnp.arange(36.0)).reshape(6, 6)
    rng = np.random.default_rng(1)
    towards = jax.tree.map(lambda a: rng.normal(size=a.shape), (x, w))
    padding = np.where(np.arange(6) < 4, 0, -np.inf)[None]
    for options in ({}, {"causal": True}, {"diagonal": -np.inf}, {"array": padding}):
        bias = ScoreBias(**options)

        @jax.jit
        def measured(given: Any, bias: Any = bias) -> Any:
            norms = path_norms(*given, score_bias=bias, norm=norm, residual=True)
            return sum(jnp.sum(table * pattern) for table in norms)

        slopes = jax.jit(jax.grad(measured))((x, w))
        pairs = zip(jax.tree.leaves(slopes), jax.tree.leaves(towards), strict=True)
        actual = sum(jnp.sum(slope * way) for slope, way in pairs)
        ahead, behind = (
            measured(jax.tree.map(lambda a, way, s=s: a + s * way, (x, w), towards))
            for s in (1e-5, -1e-5)
        )
        np.testing.assert_allclose(actual, (ahead - behind) / 2e-5, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
def test_a_float32_layer_has_the_derivatives_of_float64_without_x64(norm):
    """Under jit and vmap, where JAX by itself would not compute in float64."""
    x, w = make_layer(3, FOLDED)
    slopes = []
    for dtype in (np.float32, np.float64):

        def total(x: Any, w: Any) -> Any:
            norms = path_norms(
                x, w, norm=norm, score_bias=ScoreBias(causal=True), residual=True
            )
            return sum(jnp.mean(table**2) for table in norms)

        with jax.enable_x64(dtype == np.float64):
            x_own, w_own = jax.tree.map(lambda a, d=dtype: jnp.asarray(a, d), (x, w))
            both = jax.vmap(jax.grad(total, argnums=(0, 1)), in_axes=(0, None))
            slopes.append(jax.jit(both)(jnp.stack([x_own, -x_own]), w_own))
        assert {a.dtype for a in jax.tree.leaves(slopes[-1])} == {np.dtype(dtype)}
    size = max(np.abs(np.asarray(a)).max() for a in jax.tree.leaves(slopes[1]))
    for one, other in zip(*(jax.tree.leaves(tree) for tree in slopes), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6 * size)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_a_wide_layer_is_as_exact_where_its_sums_cancel(scale, dtype):
    """Sharp rows, equal tokens and a head twice: sums of products lose digits there."""
    x, w = make_layer(5, WIDE, scale)
    x[3] = x[2]
    w = dataclasses.replace(
        w, out=np.concatenate([w.out[:1], w.out[:1], -1.001 * w.out[:1]])
    )
    x, w = jax.tree.map(dtype, (x, w))
    x64, w64 = jax.tree.map(np.float64, (x, w))
    options: Any = {"norm": "frobenius", "residual": True}
    actual = path_norms(x, w, **options)
    expected = path_norms(x64, w64, engine="autodiff", **options)
    rtol = 1e-5 if dtype == np.float32 else 1e-12
    room = slack(x64, w64, "frobenius", False, dtype)
    for one, other in zip(actual, expected, strict=True):
        assert_close(np.asarray(one, float), np.asarray(other), rtol, room)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("causal", [False, True])
def test_a_mask_of_keys_is_that_of_the_table_without_x64(causal, dtype):
    x, w = jax.tree.map(dtype, make_layer(6, FOLDED))
    keys = np.where(np.arange(6) % 4 == 3, -np.inf, 0).astype(dtype)
    tables = []
    for array in (keys, keys[None], np.broadcast_to(keys, (6, 6))):
        bias = ScoreBias(causal=causal, array=array)
        with jax.enable_x64(False):
            tables.append(path_norms(x, w, score_bias=bias, norm="frobenius"))
    for table in tables[1:]:
        for one, other in zip(table, tables[0], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)
