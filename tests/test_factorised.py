"""Bounds that factor into time and space are never below the product of gains."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensitivity.factorised import coarse_gains, factorised_bound
from sensitivity.gains import NodeGains, PlaceGains, StepGains, product_bound

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
def test_each_coarser_bound_is_above_the_finer(seed, kinds):
    rng = np.random.default_rng(seed)
    gains = draw(rng, kinds)
    fine = product_bound(gains, T, N)
    middle = factorised_bound(gains, T, N)
    reaches = [rng.uniform(0.5, 1, (N, N)) for kind in kinds if kind == "nodes"]
    assert fine.shape == middle.table().shape == (2, N, T, N)
    assert (fine <= middle.table() * (1 + 1e-12)).all()
    for given_reaches in (None, reaches):
        coarse = coarse_gains(gains, given_reaches)
        assert [g.array.shape for g in coarse] == [g.array.shape for g in gains]
        table = factorised_bound(coarse, T, N).table()
        assert (middle.table() <= table * (1 + 1e-12)).all()


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


def test_coarse_layers_are_a_constant_times_a_matrix():
    rng = np.random.default_rng(0)
    step, node = rng.random((N, T, T)), rng.random((T, N, N))
    step[:, 0, 1:] = 0
    S = np.ones((N, N)) + np.eye(N)
    time, space = coarse_gains([StepGains(step), NodeGains(node)], [S])
    np.testing.assert_array_equal(time.array[0], step.max() * (step > 0).any(0))
    np.testing.assert_allclose(space.array[0], (node / S).max() * S)


@pytest.mark.parametrize(
    ("reaches", "message"),
    [
        ([], "one matrix for each of the 1 layers over nodes, got 0"),
        ([np.ones((2, 3))], r"must have shape \(3, 3\), got \(2, 3\)"),
        ([np.eye(3)], r"above 0 where their layer joins nodes, got 0.0 at \(0, 1\)"),
        ([-np.ones((3, 3))], "at least 0"),
    ],
)
def test_reaches_that_do_not_fit_are_refused(reaches, message):
    with pytest.raises(ValueError, match=message):
        coarse_gains([NodeGains(np.ones((T, N, N)))], reaches)
