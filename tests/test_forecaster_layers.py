"""Layers of a forecaster against plain loops, in float64, and what they can see."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.config import ForecasterConfig, GraphConfig, TemporalConfig
from models.graph import GraphConvolution, GraphLayer, random_walks
from models.layers import layer_norm
from models.temporal import TemporalAttention, TemporalLayer
from tests import models_reference, reference
from tests.forecasters import ROAD, build, draw_inputs, parameters, run, small

N, B, T, D = 4, 2, 5, 6  # of the small forecaster
WALKS = models_reference.random_walks(ROAD)
X = np.random.default_rng(0).normal(size=(N, B, T, D))


def temporal_layer(heads: int = 3, **settings: Any) -> Any:
    """A temporal layer with random parameters."""
    return build(small(TemporalConfig(heads=heads, **settings))).temporal[0]


def graph_layer(kind: Any, hops: int = 2) -> Any:
    """A graph layer with random parameters."""
    return build(small(graph=GraphConfig(kind=kind, hops=hops, embedding=3))).spatial[0]


# --- over time ----------------------------------------------------------------------


@pytest.mark.parametrize("heads", [1, 2, 6])
def test_attention_is_that_of_plain_loops(heads):
    mix = temporal_layer(heads=heads).mix
    actual, p = run(mix, "__call__", X), parameters(mix)
    expected = [[models_reference.attention(row, p) for row in rows] for rows in X]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("regularizer", ["none", "penalty", "mask", "dropout"])
def test_attention_weights_are_those_of_plain_loops(regularizer):
    mix = temporal_layer(regularizer=regularizer, penalty=-1.5).mix
    diagonal = {"penalty": -1.5, "mask": -np.inf}.get(regularizer, 0.0)
    bias, p = reference.score_bias(T, 3, diagonal), parameters(mix)
    expected = [[reference.weights(row, p, bias) for row in rows] for rows in X]
    weights = run(mix, "attention", X)
    np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-12)


@pytest.mark.parametrize("taps", [1, 2, 4, 7])  # 7 reaches beyond the window
def test_a_convolution_over_time_is_that_of_plain_loops(taps):
    mix = temporal_layer(kind="convolution", taps=taps).mix
    actual, p = run(mix, "__call__", X), parameters(mix)
    expected = [
        [models_reference.convolution(row, p, taps) for row in rows] for rows in X
    ]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)
    assert (np.asarray(actual) == 0).any()  # relu was at work
    assert (np.asarray(actual) > 0).any()


# --- over nodes ---------------------------------------------------------------------


@pytest.mark.parametrize("hops", [1, 2, 3])
@pytest.mark.parametrize("kind", ["full", "diagonal", "road"])
def test_a_graph_convolution_is_that_of_plain_loops(kind, hops):
    mix = graph_layer(kind, hops).mix
    actual, p = run(mix, "__call__", X), parameters(mix)
    for b in range(B):
        expected = models_reference.graph_convolution(X[:, b], p, kind, hops, WALKS)
        np.testing.assert_allclose(actual[:, b], expected, rtol=0, atol=1e-12)


def test_the_hops_come_in_the_order_of_the_reference():
    mix = graph_layer("full").mix
    forward, backward = run(mix, "adjacencies")
    powers = (np.eye(N), forward, forward @ forward, backward, backward @ backward)
    # Each feature alone: its own D rows of the kernel are the identity, all else 0.
    for position, power in enumerate(powers):
        kernel = np.zeros((5, D, D))
        kernel[position] = np.eye(D)
        mix.mix.kernel[...] = jnp.asarray(kernel.reshape(5 * D, D))
        mix.mix.bias[...] = jnp.zeros(D)
        expected = np.einsum("nm,mbtd->nbtd", power, X)
        actual = run(mix, "__call__", X)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)


def test_what_is_diagonal_is_the_einsum_of_the_reference_code():
    mix, features = graph_layer("diagonal").mix, [X]
    for adjacency in run(mix, "adjacencies"):
        hop = X
        for _ in range(2):
            hop = np.einsum("nn,nbtd->nbtd", adjacency, hop)
            features.append(hop)
    kernel, bias = mix.mix.kernel[...], mix.mix.bias[...]
    expected = np.concatenate(features, -1) @ np.asarray(kernel) + np.asarray(bias)
    np.testing.assert_allclose(run(mix, "__call__", X), expected, rtol=0, atol=1e-12)


def test_learned_adjacencies_are_softmaxes_and_not_each_others_transpose():
    mix = graph_layer("full").mix
    both = run(mix, "adjacencies")
    expected = models_reference.adjacencies(parameters(mix))
    np.testing.assert_allclose(both, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(both.sum(-1), 1, rtol=1e-12)
    assert (np.asarray(both) > 0).all()
    assert np.abs(both[0] - both[1].T).max() > 0.01


def test_the_road_is_not_trained():
    layer = graph_layer("road")
    assert set(parameters(layer.mix)) == {"mix"}
    np.testing.assert_allclose(run(layer.mix, "adjacencies"), WALKS, rtol=1e-12)


@given(hnp.arrays(float, (4, 4), elements=st.sampled_from([0.0, 0.0, 0.3, 1.0, 2.5])))
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


# --- clock, residual and norm -------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "residual"),
    [
        *itertools.product(["attention", "convolution"], [True, False]),
        *itertools.product(["full", "diagonal", "road"], [True]),  # it always stays
    ],
)
def test_a_layer_adds_its_clock_and_its_input_and_is_normalised(kind, residual):
    if kind in ("attention", "convolution"):
        layer = temporal_layer(kind=kind, residual=residual)
        plain: Any = models_reference.temporal_layer
        settings: Any = {"residual": residual}
    else:
        layer = graph_layer(kind)
        plain, settings = models_reference.graph_layer, {"order": 2, "walks": WALKS}
    clock = np.random.default_rng(1).random((B, T))
    clocks = np.broadcast_to(clock[..., None], (N, B, T, 1))
    actual, p = run(layer, "__call__", X, clocks), parameters(layer)
    for b in range(B):
        expected = plain(X[:, b], clock[b], p, kind=kind, **settings)
        np.testing.assert_allclose(actual[:, b], expected, rtol=0, atol=1e-12)


def test_a_layer_norm_adds_1e_5_to_the_variance():
    norm = layer_norm(2, rngs=nnx.Rngs(0))
    x = np.array([[1.003, 0.997], [2.0, 2.0]])  # variance 9e-6, and 0
    expected = [[0.003 / (9e-6 + 1e-5) ** 0.5, -0.003 / (9e-6 + 1e-5) ** 0.5], [0, 0]]
    np.testing.assert_allclose(run(norm, "__call__", x), expected, atol=1e-12)


def test_a_layer_norm_keeps_small_differences_on_a_large_mean():
    norm = layer_norm(4, rngs=nnx.Rngs(0))
    small_part = np.array([0.25, -0.25, 0.5, -0.5])
    expected = models_reference.layer_norm(small_part, parameters(norm))
    actual = run(norm, "__call__", (1000 + small_part).astype(np.float32))
    # mean(x^2) - mean(x)^2 in float32 would be off by a whole variance
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@given(scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_a_layer_norm_forgets_scale_and_offset(scale, shift):
    norm, x = layer_norm(D, rngs=nnx.Rngs(0)), X[:3, 0, 0]
    moved = run(norm, "__call__", 1e3 * scale * x + shift)
    expected = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    np.testing.assert_allclose(moved, expected, rtol=0, atol=1e-7)


# --- which steps and nodes are seen -------------------------------------------------


def influence(layers: list, steps: int) -> np.ndarray:
    """Largest entry of d output[i] / d input[j] of layers in a row, shape (T, T)."""
    graph, state = nnx.split(nnx.List(layers))

    @jax.jit
    def jacobians(state, x):
        def forward(x):
            x, clock = x[None, None], jnp.full((1, 1, steps, 1), 0.3)
            for layer in nnx.merge(graph, state):
                x = layer(x, clock)
            return x[0, 0]

        # 16 inputs, as a relu can be shut for one.
        return jax.vmap(jax.jacrev(forward))(x)  # (16, T, D, T, D)

    x = np.random.default_rng(0).normal(size=(16, steps, D))
    return np.abs(np.asarray(jacobians(state, x))).max((0, 2, 4))


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize(("taps", "depth"), [(1, 2), (2, 1), (2, 3), (3, 2)])
def test_a_causal_convolution_sees_its_reach_and_nothing_of_the_future(
    taps, depth, residual
):
    temporal = TemporalConfig(kind="convolution", taps=taps, residual=residual)
    model = build(small(temporal, window=8, layers=depth), seed=3)
    seen = influence(list(model.temporal), 8)
    lag = np.arange(8)[:, None] - np.arange(8)
    reach = (taps - 1) * depth + 1
    assert not seen[(lag < 0) | (lag >= reach)].any()  # exactly zero, no tolerance
    assert (seen[(lag >= 0) & (lag < reach)] > 1e-6).all()


def test_attention_sees_all_steps_in_one_layer():
    model = build(small(window=8, layers=1))
    assert (influence(list(model.temporal), 8) > 1e-6).all()


@pytest.mark.parametrize("kind", ["attention", "convolution"])
def test_a_temporal_layer_sees_one_node_and_one_sample(kind):
    layer, clock, changed = temporal_layer(kind=kind), np.full((N, B, T, 1), 0.3), X + 0
    changed[1, 0] += 1.0
    before, after = (np.asarray(run(layer, "__call__", y, clock)) for y in (X, changed))
    same = (before == after).all((2, 3))
    assert same.sum() == N * B - 1
    assert not same[1, 0]


def cross_node(config) -> np.ndarray:
    """Largest entry of d forecast[:, n] / d speeds[:, m], shape (N, N)."""
    model, inputs = build(config), draw_inputs(config, batch=1)
    graph, state = nnx.split(model)

    @jax.jit
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


# --- how weights start: as PyTorch's layers, which the reference uses ----------------

WIDTH = 24
DRAWN = ForecasterConfig(
    nodes=50, width=WIDTH, layers=1, temporal=TemporalConfig(heads=3)
)


def assert_uniform(param: nnx.Variable | None, bound: float) -> None:
    """The largest of many and the spread are those of U(-bound, bound)."""
    assert param is not None
    drawn = np.asarray(param[...])
    assert drawn.dtype == np.float32
    largest = np.abs(drawn).max()
    assert bound * (1 - 10 / drawn.size) < largest <= bound
    error = 5 * drawn.size**-0.5
    assert abs(drawn.std() / (bound / 3**0.5) - 1) < error
    assert abs(drawn.mean()) < error * bound


@pytest.mark.slow
def test_an_attention_layer_starts_as_pytorch_draws_it():
    layer = nnx.jit(lambda: TemporalLayer(DRAWN, rngs=nnx.Rngs(0)))()
    mix, norm = layer.mix, layer.norm
    assert isinstance(mix, TemporalAttention)
    for kernel in (mix.query, mix.key, mix.value):
        assert_uniform(kernel, (6 / (4 * WIDTH)) ** 0.5)  # Xavier, stacked: (3 D, D)
    assert_uniform(mix.out, WIDTH**-0.5)
    for bias in (mix.query_bias, mix.key_bias, mix.value_bias, mix.out_bias):
        assert not bias[...].any()
    assert_uniform(layer.clock.kernel, 1.0)
    assert_uniform(layer.clock.bias, 1.0)
    assert norm.scale is not None
    assert norm.bias is not None
    assert (norm.scale[...] == 1).all()
    assert (norm.bias[...] == 0).all()
    kernels = [np.ravel(k[...]) for k in (mix.query, mix.key, mix.value)]
    assert np.abs(np.corrcoef(kernels) - np.eye(3)).max() < 5 / WIDTH  # drawn apart


@pytest.mark.slow
def test_a_graph_layer_starts_as_pytorch_draws_it():
    convolution = nnx.jit(lambda: GraphLayer(DRAWN, None, rngs=nnx.Rngs(0)))().mix
    assert isinstance(convolution, GraphConvolution)
    assert_uniform(convolution.mix.kernel, (5 * WIDTH) ** -0.5)
    assert_uniform(convolution.mix.bias, (5 * WIDTH) ** -0.5)
    nodes = [convolution.forward_nodes[...], convolution.backward_nodes[...]]
    for one in map(np.asarray, nodes):
        assert abs(one.mean()) < 5 / 500**0.5
        assert abs(one.std() - 1) < 5 / 1000**0.5
    assert abs(np.corrcoef([np.ravel(one) for one in nodes])[0, 1]) < 5 / 500**0.5


@pytest.mark.slow
def test_every_seed_has_other_weights_and_the_same_seed_the_same():
    draw = jax.jit(
        lambda seed: nnx.state(
            TemporalLayer(DRAWN, rngs=nnx.Rngs(jax.random.key(seed)))
        )
    )
    one, again, other = (draw(jnp.uint32(seed)) for seed in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert (one["mix"]["query"][...] != other["mix"]["query"][...]).all()
