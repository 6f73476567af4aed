"""Bounds that factor into time and space are never below the product of gains."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensitivity.layer_gains import (
    NodeGains,
    PlaceGains,
    StepGains,
    factorised_bound,
    product_bound,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")

T, N = 4, 3
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
