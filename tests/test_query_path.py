"""Squares of the query path on the diagonal: exact, and smooth where it is 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensitivity import AttentionWeights, ScoreBias, path_norms
from sensitivity.query_path import query_path_squares
from tests.helpers import FOLDED, PAPER, TWO, Shape, make_layer

pytestmark = pytest.mark.usefixtures("strict_promotion")

LONG = Shape(9, 4, 2, 2, 2, None, biases=True)  # T > V K: by covariances


@pytest.mark.parametrize("shape", [PAPER, FOLDED, TWO, LONG])
@settings(max_examples=10)
@given(seed=st.integers(0, 99), scale=st.sampled_from([0.1, 1.0, 4.0]))
def test_squares_are_those_of_the_path_norms(shape, seed, scale):
    x, weights = make_layer(seed, shape, scale)
    for bias in (ScoreBias(), ScoreBias(diagonal=-np.inf)):
        options = {"norm": "frobenius", "per_head": True, "residual": False}
        norms = path_norms(x, weights, score_bias=bias, **options).query
        expected = np.einsum("hii->hi", np.asarray(norms)) ** 2
        found = query_path_squares(x, weights, bias)
        tolerance = 1e-12 * max(1.0, scale**8)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=tolerance)


def test_the_gradient_is_finite_where_the_path_is_zero_and_lowers_it_elsewhere():
    x, weights = make_layer(1, FOLDED)

    def size(x: jax.Array, weights: AttentionWeights) -> jax.Array:
        return query_path_squares(x, weights).mean()

    with jax.enable_x64(True):
        x, weights = jax.tree.map(jnp.asarray, (x, weights))
        equal = jnp.broadcast_to(x[:1], x.shape)
        slopes = jax.jit(jax.grad(size, argnums=1))
        assert all(
            np.isfinite(g).all() for g in jax.tree.leaves(slopes(equal, weights))
        )
        slope = slopes(x, weights)
        lower = jax.tree.map(lambda w, g: w - 0.01 * g, weights, slope)
        assert size(x, lower) < size(x, weights)
