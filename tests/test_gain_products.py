"""Products of the gains of stacked attention layers against the exact Jacobian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensitivity.attention import attend
from sensitivity.layer_gains import StepGains, attention_gains, product_bound
from sensitivity.weights import AttentionWeights, ScoreBias


def random_mask(rng: np.random.Generator, T: int) -> np.ndarray:
    """Forbidden entries at random, none of them all of a row."""
    mask = np.where(rng.random((T, T)) < 0.4, -np.inf, 0.0)
    mask[np.arange(T), rng.integers(T, size=T)] = 0.0
    return mask


@pytest.mark.slow
@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**32 - 1),
    depth=st.integers(1, 4),
    sizes=st.sampled_from([(3, 1, 4), (4, 2, 4), (4, 2, 6)]),
    mask=st.sampled_from(["none", "diagonal", "causal", "random"]),
    residual=st.booleans(),
    scale=st.sampled_from([0.3, 1.0, 3.0]),
)
def test_the_product_is_never_below_the_exact_norm(
    seed, depth, sizes, mask, residual, scale
):
    T, H, D = sizes
    rng = np.random.default_rng(seed)
    bias = {
        "none": ScoreBias(),
        "diagonal": ScoreBias(diagonal=-np.inf),
        "causal": ScoreBias(causal=True),
        "random": ScoreBias(array=random_mask(rng, T)),
    }[mask]
    x = rng.normal(size=(T, D))
    layers = [
        AttentionWeights(
            *(scale * rng.normal(size=(3, D, H, D // H)) / D**0.5),
            out=scale * rng.normal(size=(H, D // H, D)) / D**0.5,
            query_bias=rng.normal(size=(H, D // H)),
        )
        for _ in range(depth)
    ]

    def layer(x, weights):
        return attend(x, x, x, weights, bias) + (x if residual else 0.0)

    def stack(x):
        for weights in layers:
            x = layer(x, weights)
        return x

    gains, seen = [], jnp.asarray(x)
    for weights in layers:
        own = attention_gains(seen, weights, bias, residual=residual)
        gains.append(StepGains(own[None]))
        seen = layer(seen, weights)
    bound = product_bound(gains, T, 1)[:, 0, :, 0]
    jacobian = np.moveaxis(np.asarray(jax.jacrev(stack)(jnp.asarray(x))), 1, 2)
    exact = np.linalg.norm(jacobian, 2, axis=(-2, -1))
    # Both are sums of products: rounding is relative to the largest of them.
    assert (exact <= bound * (1 + 1e-9) + 1e-12 * bound.max()).all()
    if depth == 1:
        np.testing.assert_allclose(bound, exact, rtol=1e-8, atol=1e-12 * bound.max())
