"""Products of gains are above the exact Jacobian, and coarser bounds above them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensitivity.attention import attend
from sensitivity.layer_gains import (
    NodeGains,
    PlaceGains,
    StepGains,
    attention_gains,
    factorised_bound,
    product_bound,
)
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


T, N = 4, 3  # of what follows
seeds = st.integers(0, 10**6)


def draw(rng, kinds):
    """Random layers, some of their gains zero; the last maps T steps to two."""

    def sparse(*shape):
        return rng.exponential(size=shape) * (rng.random(shape) < 0.6)

    layers = {
        "steps": lambda: StepGains(sparse(N, T, T)),
        "nodes": lambda: NodeGains(sparse(T, N, N)),
        "places": lambda: PlaceGains(sparse(T, N)),
    }
    gains = [layers[kind]() for kind in kinds]
    return [*gains, StepGains(sparse(N, 2, T)), PlaceGains(sparse(2, N))]


@given(
    seed=seeds,
    kinds=st.lists(st.sampled_from(["steps", "nodes", "places"]), max_size=6),
)
@settings(max_examples=60)
def test_the_coarser_bound_is_above_the_finer(seed, kinds):
    rng = np.random.default_rng(seed)
    gains = draw(rng, kinds)
    fine = product_bound(gains, T, N)
    middle = factorised_bound(gains, T, N)
    assert fine.shape == middle.table().shape == (2, N, T, N)
    assert (fine <= middle.table() * (1 + 1e-12)).all()


@given(seed=seeds)
@settings(max_examples=20)
def test_nothing_is_lost_where_places_do_not_differ(seed):
    rng = np.random.default_rng(seed)
    gains = [
        StepGains(np.broadcast_to(rng.random((T, T)), (N, T, T))),
        NodeGains(np.broadcast_to(rng.random((N, N)), (T, N, N))),
        PlaceGains(np.full((T, N), rng.random())),
    ]
    fine = product_bound(gains, T, N)
    # ... and time and space commute.
    for order in (gains, gains[::-1]):
        np.testing.assert_allclose(factorised_bound(order, T, N).table(), fine)
