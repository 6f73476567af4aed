"""Layers over nodes against plain loops, in float64, and which nodes they can see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.config import GraphConfig
from models.graph import random_walks
from tests import models_reference
from tests.forecasters import (
    ROAD,
    build,
    draw_inputs,
    parameters,
    quick_jit,
    run,
    small,
)

N, B, T, D = 4, 2, 5, 6  # of the small forecaster
WALKS = models_reference.random_walks(ROAD)


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    """Inputs N(0, 1)."""
    return np.random.default_rng(seed).normal(size=shape)


def first_layer(kind, hops=2):
    """A graph layer with random parameters."""
    return build(small(graph=GraphConfig(kind=kind, hops=hops, embedding=3))).spatial[0]


# --- against plain loops ------------------------------------------------------------


@pytest.mark.parametrize("hops", [1, 2, 3])
@pytest.mark.parametrize("kind", ["full", "diagonal", "road"])
def test_a_graph_convolution_is_that_of_plain_loops(kind, hops):
    mix, x = first_layer(kind, hops).mix, draw(N, B, T, D)
    actual, p = run(mix, "__call__", x), parameters(mix)
    for b in range(B):
        expected = models_reference.graph_convolution(x[:, b], p, kind, hops, WALKS)
        np.testing.assert_allclose(actual[:, b], expected, rtol=0, atol=1e-12)


def test_the_hops_come_in_the_order_of_the_reference():
    mix, x = first_layer("full").mix, draw(N, B, T, D)
    forward, backward = run(mix, "adjacencies")
    features = [
        np.einsum("nm,mbtd->nbtd", power, x)
        for power in (
            np.eye(N),
            forward,
            forward @ forward,
            backward,
            backward @ backward,
        )
    ]
    # Each feature alone: its own D rows of the kernel are the identity, all else 0.
    for position, feature in enumerate(features):
        kernel = np.zeros((5, D, D))
        kernel[position] = np.eye(D)
        mix.mix.kernel[...] = jnp.asarray(kernel.reshape(5 * D, D))
        mix.mix.bias[...] = jnp.zeros(D)
        actual = run(mix, "__call__", x)
        np.testing.assert_allclose(actual, feature, rtol=0, atol=1e-12)


def test_what_is_diagonal_is_the_einsum_of_the_reference_code():
    mix, x = first_layer("diagonal").mix, draw(N, B, T, D)
    features, both = [x], run(mix, "adjacencies")
    for adjacency in both:
        hop = x
        for _ in range(2):
            hop = np.einsum("nn,nbtd->nbtd", adjacency, hop)
            features.append(hop)
    kernel, bias = mix.mix.kernel[...], mix.mix.bias[...]
    expected = np.concatenate(features, -1) @ np.asarray(kernel) + np.asarray(bias)
    np.testing.assert_allclose(run(mix, "__call__", x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["full", "diagonal", "road"])
def test_a_layer_adds_its_clock_and_its_input_and_is_normalised(kind):
    layer, x = first_layer(kind), draw(N, B, T, D)
    clock = np.random.default_rng(1).random((B, T))
    clocks = np.broadcast_to(clock[..., None], (N, B, T, 1))
    actual, p = run(layer, "__call__", x, clocks), parameters(layer)
    for b in range(B):
        expected = models_reference.graph_layer(
            x[:, b], clock[b], p, kind=kind, order=2, walks=WALKS
        )
        np.testing.assert_allclose(actual[:, b], expected, rtol=0, atol=1e-12)


def test_learned_adjacencies_are_softmaxes_and_not_each_others_transpose():
    mix = first_layer("full").mix
    both = run(mix, "adjacencies")
    expected = models_reference.adjacencies(parameters(mix))
    np.testing.assert_allclose(both, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(both.sum(-1), 1, rtol=1e-12)
    assert (np.asarray(both) > 0).all()
    assert np.abs(both[0] - both[1].T).max() > 0.01


# --- random walks -------------------------------------------------------------------


@given(
    hnp.arrays(float, (4, 4), elements=st.sampled_from([0.0, 0.0, 0.3, 1.0, 2.5])),
)
def test_walks_leave_a_node_by_its_edges(weights):
    for walk, edges in zip(random_walks(weights), (weights, weights.T), strict=True):
        np.testing.assert_array_equal(walk > 0, edges > 0)
        total, has_edge = walk.sum(1), edges.any(1)
        np.testing.assert_allclose(total, has_edge, rtol=0, atol=1e-12)
        np.testing.assert_allclose(walk * edges.sum(1, keepdims=True), edges)


@pytest.mark.parametrize(
    ("adjacency", "message"),
    [
        (np.ones((2, 3)), r"adjacency must be square, got shape \(2, 3\)"),
        (np.ones(4), r"adjacency must be square, got shape \(4,\)"),
        (np.array([[1.0, -2.0], [0, 1]]), "finite and not negative, got -2.0"),
        (np.array([[1.0, np.nan], [0, 1]]), "finite and not negative, got nan"),
        (np.array([[1.0, np.inf], [0, 1]]), "finite and not negative, got inf"),
    ],
)
def test_weights_that_are_no_graph_are_refused(adjacency, message):
    with pytest.raises(ValueError, match=message):
        random_walks(adjacency)


def test_the_road_is_not_trained():
    layer = first_layer("road")
    assert set(parameters(layer.mix)) == {"mix"}
    np.testing.assert_allclose(run(layer.mix, "adjacencies"), WALKS, rtol=1e-12)


# --- which nodes a forecast sees ----------------------------------------------------


def cross_node(config) -> np.ndarray:
    """Largest entry of d forecast[:, n] / d speeds[:, m], shape (N, N)."""
    model, inputs = build(config), draw_inputs(config, batch=1)
    graph, state = nnx.split(model)

    @quick_jit
    def jacobian(state, inputs):
        def forward(speeds):
            return nnx.merge(graph, state)(speeds, inputs.time_of_day)[0]

        return jax.jacrev(forward)(inputs.speeds)[:, :, 0]  # (H, N, T, N)

    return np.abs(np.asarray(jacobian(state, inputs))).max((0, 2))


def test_full_mixes_nodes_and_diagonal_does_not():
    full, diagonal = (
        cross_node(small(graph=GraphConfig(kind=kind))) for kind in ("full", "diagonal")
    )
    assert (full > 1e-6).all()
    other = ~np.eye(N, dtype=bool)
    assert not diagonal[other].any()  # exactly zero, no tolerance
    assert (diagonal[~other] > 1e-6).all()


def test_a_road_is_seen_as_far_as_its_edges_reach():
    # 0 <-> 1 -> 2 -> 3: two hops go along the edges or against them, not both.
    once = ["xx..", "xxx.", ".xxx", "..xx"]
    twice = ["xxx.", "xxxx", "xxxx", ".xxx"]
    for hops, expected in ((1, once), (2, twice)):
        seen = cross_node(small(graph=GraphConfig(kind="road", hops=hops), layers=1))
        picture = ["".join(".x"[int(entry > 0)] for entry in row) for row in seen]
        assert picture == expected
