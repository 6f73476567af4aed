"""Derivatives of the fast engine's norms of heads, against finite differences."""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensitivity import AttentionWeights, ScoreBias, path_norms, profile
from tests.helpers import FOLDED, NORMS, PAPER, Shape, make_layer

pytestmark = pytest.mark.usefixtures("strict_promotion")

WIDE = Shape(5, 24, 1, 18, 17, 24, biases=True)  # wider than LAPACK is used for
FIELDS = ("value_mean", "key_mean", "off_diagonal_mean", "diagonal_norm", "query_norm")


def padding(T: int) -> ScoreBias:
    return ScoreBias(array=np.where(np.arange(T) < T - 2, 0, -np.inf))


MASKS: dict[str, Any] = {
    "none": lambda T: ScoreBias(),
    "full": lambda T: ScoreBias(-np.inf),
    "causal": lambda T: ScoreBias(causal=True),
    "padding": padding,
}


def measured(x, w, bias, norm, residual):
    """A number that every norm of both functions counts in, by its own factor."""
    norms = path_norms(
        x, w, score_bias=bias, norm=norm, residual=residual, per_head=True
    )
    rows = profile(x, w, score_bias=bias, norm=norm, residual=residual)
    terms = [*norms, *(getattr(rows, field) for field in FIELDS)]
    return sum(
        jnp.sum(a * jnp.cos(jnp.arange(a.size, dtype=a.dtype) + k).reshape(a.shape))
        + 0.3 * jnp.mean(a**2)
        for k, a in enumerate(terms)
    )


def assert_slopes_are_those_of_differences(x, w, bias, norm, residual, rtol=1e-6):
    function = jax.jit(functools.partial(measured, norm=norm, residual=residual))
    x, w = jax.tree.map(jnp.asarray, (x, w))
    slopes = jax.jit(jax.grad(function, argnums=(0, 1)))(x, w, bias)
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(slopes))
    rng = np.random.default_rng(0)
    for _ in range(2):
        along = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), (x, w))
        pairs = zip(jax.tree.leaves(slopes), jax.tree.leaves(along), strict=True)
        slope = sum(jnp.vdot(a, b) for a, b in pairs)
        differences = [
            float(function(*_moved((x, w), along, step), bias))
            for step in (1e-5, -1e-5, 2e-5, -2e-5)
        ]
        near = (differences[0] - differences[1]) / 2e-5
        far = (differences[2] - differences[3]) / 4e-5
        np.testing.assert_allclose(slope, (4 * near - far) / 3, rtol=rtol)


def _moved(place, along, step):
    return jax.tree.map(lambda a, d: a + step * d, place, along)


QUICK = {("causal", "frobenius"), ("full", "spectral")}


@pytest.mark.parametrize(
    ("mask", "norm"),
    [
        pytest.param(*pair, marks=[] if pair in QUICK else pytest.mark.slow)
        for pair in itertools.product(MASKS, NORMS)
    ],
)
def test_slopes_under_every_mask(mask, norm):
    x, w = make_layer(0, FOLDED)
    bias = MASKS[mask](FOLDED.T)
    assert_slopes_are_those_of_differences(x, w, bias, norm, residual=True)


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("shape", "residual"), [(PAPER, False), (WIDE, True)])
def test_slopes_of_every_shape(shape, residual, norm):
    x, w = make_layer(1, shape)
    assert_slopes_are_those_of_differences(x, w, ScoreBias(), norm, residual)


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", ["equal tokens", "sharp rows", "a head of zeros"])
def test_slopes_are_finite_where_norms_are_zero(kind, norm):
    x, w = make_layer(2, FOLDED, 300.0 if kind == "sharp rows" else 1.0)
    if kind == "equal tokens":
        x = np.broadcast_to(x[0], x.shape)
    if kind == "a head of zeros":
        w = dataclasses.replace(w, value=w.value * np.array([0, 1, 1])[:, None])
    x, w = jax.tree.map(jnp.asarray, (x, w))
    slopes = jax.jit(
        jax.grad(functools.partial(measured, norm=norm, residual=True), argnums=(0, 1))
    )(x, w, ScoreBias(-np.inf))
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(slopes))


def test_slopes_under_vmap_are_those_of_each():
    x, w = make_layer(3, FOLDED)
    x, w = jax.tree.map(jnp.asarray, (np.stack([x, 2 * x]), w))
    bias = ScoreBias(causal=True)
    slope = jax.grad(lambda x: measured(x, w, bias, "frobenius", True))
    together = jax.jit(jax.vmap(slope))(x)
    one = jax.jit(slope)
    for each, own in zip(together, x, strict=True):
        np.testing.assert_allclose(each, one(own), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_the_slope_of_a_total_is_that_of_its_mean():
    """The user's own case: a penalty on off-diagonal influence, float32."""
    x, w = make_layer(4, FOLDED)
    x32, w32 = jax.tree.map(np.float32, (x, w))

    def penalty(w: AttentionWeights, x: Any) -> jax.Array:
        rows = profile(x, w, norm="frobenius")
        return jnp.mean(rows.off_diagonal_mean**2)

    slopes32 = jax.jit(jax.grad(penalty))(jax.tree.map(jnp.asarray, w32), x32)
    slopes = jax.jit(jax.grad(penalty))(jax.tree.map(jnp.asarray, w), x)
    # Of all slopes: that in a bias of keys is 0 but for rounding.
    size = max(np.abs(np.asarray(leaf)).max() for leaf in jax.tree.leaves(slopes))
    for one, other in zip(
        jax.tree.leaves(slopes32), jax.tree.leaves(slopes), strict=True
    ):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5 * size)


@pytest.mark.parametrize("per_head", [True, False])
def test_slopes_of_sharp_rows_are_those_of_automatic_differentiation(per_head):
    """Norms near 0 divide the slopes of their squares: these must not be rounding."""
    x, w = make_layer(5, FOLDED)
    w = dataclasses.replace(w, query=20 * w.query)

    def slopes(engine: Any) -> Any:
        def total(x: Any, w: Any) -> Any:
            norms = path_norms(
                x, w, norm="frobenius", per_head=per_head, engine=engine, residual=False
            )
            return sum(jnp.sum(table) for table in norms)

        return jax.jit(jax.grad(total, argnums=(0, 1)))(
            *jax.tree.map(jnp.asarray, (x, w))
        )

    actual, expected = slopes("closed_form"), slopes("autodiff")
    size = max(np.abs(np.asarray(a)).max() for a in jax.tree.leaves(expected))
    pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-9 * size)
