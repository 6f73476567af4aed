"""Bounds between the nodes of a graph: closed forms, and networks they bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensitivity.graph_bounds import (
    effective_resistance,
    entry_gain,
    filter_bound,
    message_passing_bound,
    spectral_gain,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")

N, P, LAYERS = 5, 3, 3
seeds = st.integers(0, 10**6)


def graph(edges, nodes):
    """The adjacency of an undirected graph."""
    adjacency = np.zeros((nodes, nodes))
    for u, v in edges:
        adjacency[u, v] = adjacency[v, u] = 1
    return adjacency


def path(nodes):
    return graph([(i, i + 1) for i in range(nodes - 1)], nodes)


def ring(nodes):
    return graph([(i, (i + 1) % nodes) for i in range(nodes)], nodes)


def crossed_ring(r):
    """A ring of 2 r nodes in which each step between the two arms is crossed too."""
    crosses = [(i, 2 * r - 1 - i) for i in range(1, r - 1)]
    crosses += [(i, 2 * r + 1 - i) for i in range(2, r)]
    return np.maximum(ring(2 * r), graph(crosses, 2 * r))


def clique_path(clique, r):
    """A path whose far end is r steps from a node of a clique."""
    edges = [(i, j) for i in range(clique) for j in range(i)]
    nodes = clique + r - 1
    return graph(edges + [(i, i + 1) for i in range(clique - 1, nodes - 1)], nodes)


def influence(adjacency, r, source, target):
    """(S^r) of a GCN without self-loops."""
    degree = adjacency.sum(1) ** -0.5
    S = degree[:, None] * adjacency * degree
    return message_passing_bound(S, 1.0, r, own=0.0)[target, source]


@pytest.mark.parametrize("r", [3, 4, 7])
def test_closed_forms_of_a_gcn_between_far_nodes(r):
    """The README of lrnzgiusti/on-oversquashing, where it is exact.

    Its (3/2)^-(r-1) of the crossed ring counts inner degrees of 3, but a node has two
    neighbours on each side; its r in the clique path stands for the degree r - 1.
    """
    assert influence(path(r + 1), r, 0, r) == pytest.approx(2.0 ** -(r - 1))
    assert influence(ring(2 * r), r, 0, r) == pytest.approx(2.0 ** -(r - 1))
    crossed = influence(crossed_ring(r), r, 0, r)
    assert crossed == pytest.approx(16 / 9 * 2.0**-r)
    lollipop = clique_path(r - 1, r)
    degree, expected = lollipop[r - 2].sum(), 2.0 ** -(r - 2) / (r - 1) / (r - 2) ** 0.5
    if r > 3:
        assert degree == r - 1
        assert influence(lollipop, r, 0, len(lollipop) - 1) == pytest.approx(expected)


@jax.jit
def blocks(own, others, adjacency, h):
    """Jacobian blocks [v, u] of a tanh network of three layers."""

    def network(h):
        for W_r, W_a in zip(own, others, strict=True):
            h = jnp.tanh(0.7 * (h @ W_r.T) - 1.3 * (adjacency @ h @ W_a.T))
        return h

    return jax.jacrev(network)(h).transpose(0, 2, 1, 3)


@given(seed=seeds, scale=st.sampled_from([0.1, 1.0, 3.0]))
@settings(max_examples=40)
def test_message_passing_never_exceeds_its_bounds(seed, scale):
    rng = np.random.default_rng(seed)
    own, others = scale * rng.normal(size=(2, LAYERS, P, P))
    A = rng.normal(size=(N, N)) * (rng.random((N, N)) < 0.4)
    exact = np.asarray(blocks(own, others, A, 0.1 * rng.normal(size=(N, P))))
    options = {"own": 0.7, "neighbours": -1.3}
    by_entry = message_passing_bound(A, entry_gain(own, others), LAYERS, **options)
    spectral = message_passing_bound(A, spectral_gain(own, others), LAYERS, **options)
    for order in (1, np.inf):
        norms = np.linalg.norm(exact, order, axis=(2, 3))
        assert (norms <= by_entry * (1 + 1e-9)).all()
    norms = np.linalg.norm(exact, 2, axis=(2, 3))
    assert (norms <= spectral * (1 + 1e-9)).all()
    assert (norms[spectral == 0] == 0).all()


def test_the_entry_bound_is_attained_but_not_one_on_the_sum_of_entries():
    W, A = np.ones((P, P)), ring(N)
    bound = message_passing_bound(A, entry_gain(W), 2, own=0.0)
    exact = np.linalg.matrix_power(W, 2) * (A @ A)[..., None, None]
    np.testing.assert_allclose(np.linalg.norm(exact, 1, axis=(2, 3)), bound)
    np.testing.assert_allclose(np.abs(exact).sum((2, 3)), P * bound)


@given(seed=seeds, residual=st.booleans(), signed=st.booleans())
@settings(max_examples=30)
def test_blocks_of_a_graph_filter_stay_within_gain_times_reach(seed, residual, signed):
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(1 + 2 * 2, P, P))
    steps = rng.normal(size=(2, N, N)) * (rng.random((2, N, N)) < 0.4)
    steps = steps if signed else np.abs(steps)
    exact = np.eye(N)[..., None, None] * (weights[0] + residual * np.eye(P))
    for a in range(2):
        for k in (1, 2):
            power = np.linalg.matrix_power(steps[a], k)
            exact = exact + power[..., None, None] * weights[2 * a + k]
    gain, reach = found = filter_bound(weights, steps, residual=residual)
    norms = np.linalg.norm(exact, 2, axis=(2, 3))
    assert (norms <= found.table() * (1 + 1e-9)).all()
    np.testing.assert_array_equal(found.table(), gain * reach)
    if not signed:
        powers = sum(A + A @ A for A in steps)
        np.testing.assert_allclose(reach, np.eye(N) + powers)


def test_resistances_of_path_ring_and_tree():
    hops = np.abs(np.subtract.outer(np.arange(6), np.arange(6)))
    np.testing.assert_allclose(effective_resistance(path(6)), hops, atol=1e-12)
    expected = hops * (6 - hops) / 6
    np.testing.assert_allclose(effective_resistance(ring(6)), expected, atol=1e-12)


@given(seed=seeds)
@settings(max_examples=20)
def test_resistances_over_edges_add_up_to_one_less_than_the_nodes(seed):
    rng = np.random.default_rng(seed)
    weights = np.triu(rng.random((N, N)) * (rng.random((N, N)) < 0.5), 1)
    A = path(N) + weights + weights.T
    resistance = effective_resistance(A)
    assert (resistance * A).sum() / 2 == pytest.approx(N - 1)  # Foster
    commute = A.sum() * resistance[0, N - 1]
    walk = A / A.sum(1, keepdims=True)

    def hitting(target, start):
        left = np.delete(np.arange(N), target)
        steps = np.linalg.solve(
            np.eye(N - 1) - walk[np.ix_(left, left)], np.ones(N - 1)
        )
        return steps[np.flatnonzero(left == start)[0]]

    assert commute == pytest.approx(hitting(N - 1, 0) + hitting(0, N - 1))


def test_parts_that_are_not_connected_resist_without_end():
    two = np.kron(np.eye(2), path(2))
    resistance = effective_resistance(two)
    assert (resistance[:2, 2:] == np.inf).all()
    np.testing.assert_allclose(resistance[:2, :2], [[0, 1], [1, 0]], atol=1e-12)


def test_a_weak_edge_joins_all_the_same():
    weak = 1e-9 * np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 0]])
    found = effective_resistance(weak)
    assert found[0, 1] == pytest.approx(1e9, rel=1e-9)
    assert np.isinf(found[:2, 2]).all()


def test_the_gain_of_a_block_that_is_not_square_bounds_both_its_sums():
    tall = np.ones((5, 2))
    assert entry_gain(tall) == entry_gain(tall.T) == 5.0
