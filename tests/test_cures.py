"""The cures that the paper does not have do what their papers say."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from analysis import diagnose
from data import Batch
from models.config import ForecasterConfig, GraphConfig, TemporalConfig
from models.forecaster import Forecaster
from models.layer_inputs import layer_inputs
from models.penalties import (
    learned_gates,
    mask_of_gates,
    spectrum_penalty,
    structure_penalty,
)
from sensitivity import AttentionWeights, ScoreBias, path_norms
from sensitivity.arguments import ArgumentError
from sensitivity.attention import attention_matrix
from sensitivity.certificates import certificates
from sensitivity.query_path import query_path_times
from tests.forecasters import ROAD, Inputs, draw_inputs, small

KEY = jax.random.key(3)


def model_of(config: ForecasterConfig, seed: int = 0) -> Forecaster:
    """A forecaster at its initial weights."""
    return Forecaster(config, ROAD, rngs=nnx.Rngs(seed))


def config_of(regularizer: Any = "none", **changes: Any) -> ForecasterConfig:
    """A small model with a cure."""
    return small(TemporalConfig(heads=3, regularizer=regularizer, **changes))


def penalty_of(model: Forecaster, inputs: Inputs) -> float:
    """What a training step adds to the loss."""
    graph, state = nnx.split(model)

    @jax.jit
    def step(state: Any) -> jax.Array:
        speeds, clock = (jnp.asarray(part, jnp.float32) for part in inputs[:2])
        return nnx.merge(graph, state).with_penalty(speeds, clock, None, KEY)[1]

    return float(step(state))


def layers_of(model: Forecaster, inputs: Inputs) -> list[Any]:
    """Its attention layers at their inputs."""
    given = (jnp.asarray(part, jnp.float32) for part in inputs[:2])
    return layer_inputs(model, Batch(*given, average=None, targets=jnp.zeros(())))


@pytest.mark.parametrize("changes", [{}, {"head_norm": "rms"}])
def test_the_query_regularizer_adds_the_mean_square_of_the_query_path(changes):
    config = config_of("query", query_weight=3.0, **changes)
    model, inputs = model_of(config), draw_inputs(config)
    expected = 0.0
    for layer in layers_of(model, inputs):
        options = {"norm": "frobenius", "residual": False}
        norms = path_norms(layer.x, layer.weights, **options)
        own = np.einsum("...ii->...i", np.asarray(norms.query))
        expected += 3.0 * (own**2).mean()
    graph, state = nnx.split(model)
    speeds, clock = (jnp.asarray(part, jnp.float32) for part in inputs[:2])

    @jax.jit
    @jax.vmap
    def penalty(key: jax.Array) -> jax.Array:
        return nnx.merge(graph, state).with_penalty(speeds, clock, None, key)[1]

    drawn = np.asarray(penalty(jax.random.split(KEY, 2000)))
    error = float(drawn.std()) / 2000**0.5
    assert drawn.mean() == pytest.approx(expected, abs=4 * error)
    assert drawn.std() < expected  # of 80 rows, each with a probe of its own
    assert penalty_of(model_of(config_of()), inputs) == 0


def test_the_query_path_in_bfloat16_does_not_see_what_all_keys_share():
    rng = np.random.default_rng(0)
    kernels = rng.normal(size=(3, 16, 2, 8)) / 4
    biases = {"key_bias": np.full((2, 8), 20.0), "value_bias": np.full((2, 8), 20.0)}
    x, signs = rng.normal(size=(50, 12, 16)), rng.choice([-1.0, 1.0], (50, 12, 16))
    layer = (signs, x, AttentionWeights(*kernels, **biases))
    sizes = []
    for dtype in (jnp.bfloat16, jnp.float32):
        given = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), layer)
        z, own, w = jax.tree.map(lambda a, to=dtype: a.astype(to), given)
        moved = query_path_times(z, own, w, ScoreBias()).astype(jnp.float32)
        sizes.append(float((moved**2).mean()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.2)  # of rounded weights: six times


def test_the_spectrum_penalty_is_that_of_the_eigenvalues():
    rng = np.random.default_rng(0)
    query, key = rng.normal(size=(2, 6, 2, 3))
    w = AttentionWeights(query=query, key=key, value=key)
    expected = []
    for n in range(2):
        values = np.linalg.eigvals(query[:, n] @ key[:, n].T / 3**0.5)
        expected.append(0.5 * (values**2).sum() + 2 * (values.sum() - 1.5) ** 2)
    with jax.enable_x64(True):
        found = spectrum_penalty(w, 0.5, 2.0, 1.5)
    np.testing.assert_allclose(found, np.mean(expected).real, rtol=1e-12)


def test_the_spectrum_penalty_by_its_norm_is_no_smaller_and_never_negative():
    rng = np.random.default_rng(0)
    query, key = rng.normal(size=(2, 6, 2, 3))
    w = AttentionWeights(query=query, key=key, value=key)
    norms = [np.sum((query[:, n] @ key[:, n].T) ** 2) / 3 for n in range(2)]
    with jax.enable_x64(True):
        found = spectrum_penalty(w, 1.0, 0.0, 1.0, "norm")
        assert found > spectrum_penalty(w, 1.0, 0.0, 1.0)
    np.testing.assert_allclose(found, np.mean(norms), rtol=1e-12)
    model = model_of(config_of("spectrum", spectrum_size="norm"))
    plain = model_of(config_of("spectrum"))
    inputs = draw_inputs(model.config, 2)
    assert penalty_of(model, inputs) > penalty_of(plain, inputs)


def test_descent_on_the_spectrum_penalty_lowers_the_scale_and_holds_the_trace():
    rng = np.random.default_rng(1)
    start = jnp.asarray(rng.normal(size=(2, 6, 1, 3)) * 0.7, jnp.float32)

    def both(pair: jax.Array) -> tuple[jax.Array, jax.Array]:
        product = jnp.einsum("dhk,dhl->kl", pair[1], pair[0]) / 3**0.5
        return jnp.trace(product), jnp.trace(product @ product)

    def size(pair: jax.Array) -> jax.Array:
        w = AttentionWeights(query=pair[0], key=pair[1], value=pair[1])
        return spectrum_penalty(w, 0.05, 1.0, 2.0)

    slope, pair = jax.jit(jax.grad(size)), start
    for _ in range(300):
        pair = pair - 0.02 * slope(pair)
    trace, scale = both(pair)
    assert abs(trace - 2) < 0.2  # held; its part of the mean square is trace^2 / K
    assert scale < both(start)[1]


def test_gates_open_as_often_as_their_softmax_says():
    logits = jnp.asarray([[[0.0, 0.0], [1.0, -0.5], [-9.0, 9.0]]])
    draws = jax.vmap(lambda key: learned_gates(logits, key))(
        jax.random.split(KEY, 4000)
    )
    assert set(np.unique(draws)) == {0.0, 1.0}
    share = np.asarray(jax.nn.softmax(logits, -1))[0, :, 0]
    np.testing.assert_allclose(np.asarray(draws).mean((0, 1)), share, atol=0.03)
    assert learned_gates(logits, None).tolist() == [[1, 1, 0]]


def test_the_gradient_of_a_gate_is_that_of_its_softmax():
    logits = jnp.asarray([[[0.3, -0.2], [1.0, -0.5]]])

    def soft(logits: jax.Array) -> jax.Array:
        noisy = logits + jax.random.gumbel(KEY, logits.shape, logits.dtype)
        return jax.nn.softmax(noisy, -1)[..., 0].sum()

    slope = jax.grad(lambda logits: learned_gates(logits, KEY).sum())(logits)
    np.testing.assert_allclose(slope, jax.grad(soft)(logits), rtol=1e-6)


def test_a_learned_mask_is_the_gate_of_the_lag_and_shuts_it():
    gates = jnp.asarray([[1.0, 0.0, 1.0, 1.0, 0.0]], jnp.float32)
    mask = np.asarray(mask_of_gates(gates))[0]
    lag = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    np.testing.assert_array_equal(mask, np.asarray(gates)[0][lag])
    config = config_of("learned-mask", mask_weight=0.5)
    model, inputs = model_of(config), draw_inputs(config)
    mix = model.temporal[0].mix
    logits = jnp.stack([gates[0] - 0.5, 0.5 - gates[0]], -1)
    for layer in model.temporal:
        layer.mix.gates[...] = 100 * jnp.broadcast_to(logits, (3, 5, 2))
    expected = 2 * 3 * 0.5 * mask.sum()  # two layers of three heads
    assert penalty_of(model, inputs) == pytest.approx(expected)
    x = np.random.default_rng(0).normal(size=(2, 5, 6)).astype(np.float32)
    alpha = attention_matrix(x, mix.weights(), mix.score_bias())
    assert not np.asarray(alpha)[..., mask == 0].any()
    assert (np.asarray(alpha)[..., mask == 1] > 0).all()


def test_a_learned_mask_is_of_heads_where_there_are_as_many_samples():
    config = config_of("learned-mask")
    model = model_of(config)
    for layer in model.temporal:
        layer.mix.gates[...] = jnp.zeros((3, 5, 2), jnp.float32).at[1, 0, 1].set(9)
    inputs = draw_inputs(config, batch=3)  # and three heads
    assert penalty_of(model, inputs) > 0
    for layer in layers_of(model, inputs):
        table = diagnose(layer, ["diagonal_share"]).set_index("head")["value"]
        assert table["1"] == 0  # its own step is shut there
        assert table["0"] > 0
        x = layer.x[:, 0]
        assert len(certificates(x, layer.weights, layer.score_bias)) > 0


def test_conjoint_attention_is_a_mixture_of_softmax_and_lag_bias():
    config = config_of(attention="conjoint")
    mix = model_of(config).temporal[0].mix
    rng = np.random.default_rng(0)
    mix.lag_bias[...] = jnp.asarray(rng.normal(size=(3, 9)), jnp.float32)
    mix.mixture[...] = jnp.asarray([[0.0, 0.0], [50.0, -50], [-50, 50]], jnp.float32)
    x = rng.normal(size=(5, 6)).astype(np.float32)
    alpha = np.asarray(attention_matrix(x, mix.weights()))
    np.testing.assert_allclose(alpha.sum(-1), 1, rtol=1e-5)
    plain = config_of()
    other = model_of(plain).temporal[0].mix
    for name in ("query", "key", "query_bias", "key_bias"):
        getattr(other, name)[...] = getattr(mix, name)[...]
    softmax = np.asarray(attention_matrix(x, other.weights()))
    bias = np.asarray(mix.lag_bias[...])
    lags = np.stack([np.exp(bias[:, 4 + i - np.arange(5)]) for i in range(5)], 1)
    lags = lags / lags.sum(-1, keepdims=True)
    np.testing.assert_allclose(alpha[0], (softmax[0] + lags[0]) / 2, rtol=1e-4)
    np.testing.assert_allclose(alpha[1], softmax[1], rtol=1e-4)
    np.testing.assert_allclose(alpha[2], lags[2], rtol=1e-4)


def test_softmax_1_leaves_a_part_of_every_row():
    mix = model_of(config_of(attention="softmax-1")).temporal[0].mix
    x = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    total = np.asarray(attention_matrix(x, mix.weights())).sum(-1)
    assert ((total > 0) & (total < 1)).all()


def test_a_norm_of_heads_makes_their_values_one_size():
    mix = model_of(config_of(head_norm="rms")).temporal[0].mix
    weights = mix.weights()
    assert weights.form.names == ("norm_scale",)
    h = np.random.default_rng(0).normal(size=(3, 5, 2)) * 100
    normed = np.asarray(weights.form.normed(jnp.asarray(h, jnp.float32)))
    np.testing.assert_allclose((normed**2).mean(-1), 1, rtol=1e-4)


def test_the_conjoint_graph_mixes_structure_and_is_held_to_the_road():
    config = small(graph=GraphConfig(kind="conjoint", embedding=2))
    model, inputs = model_of(config), draw_inputs(config)
    layer = model.spatial[0].mix
    steps = np.asarray(layer.adjacencies())
    np.testing.assert_allclose(steps.sum(-1), 1, rtol=1e-5)
    layer.mixture[...] = jnp.asarray([-50.0, 50.0], jnp.float32)
    structure = np.asarray(layer.structure[...])
    scores = np.exp(structure @ structure.T)
    expected = scores / scores.sum(-1, keepdims=True)
    for step in np.asarray(layer.adjacencies()):
        np.testing.assert_allclose(step, expected, rtol=1e-4)
    both = np.maximum(ROAD, ROAD.T)
    term = sum(
        0.01 * np.sum(s * (s @ s.T @ s - both @ s))
        for s in (np.asarray(own.mix.structure[...]) for own in model.spatial)
    )
    assert penalty_of(model, inputs) == pytest.approx(term, rel=1e-4)
    exact = np.random.default_rng(0).normal(size=(4, 2))
    with jax.enable_x64(True):
        nodes = jnp.asarray(exact)
        assert abs(structure_penalty(nodes, nodes @ nodes.T)) < 1e-10


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"kind": "convolution", "attention": "conjoint"}, "attention"),
        ({"kind": "convolution", "head_norm": "rms"}, "head_norm"),
        ({"query_weight": -1.0}, "query_weight"),
        ({"spectrum_weight": float("nan")}, "spectrum_weight"),
        ({"trace_target": float("inf")}, "trace_target"),
        ({"spectrum_size": "trace"}, "spectrum_size"),
        ({"mask_weight": float("inf")}, "mask_weight"),
        ({"attention": "relu"}, "attention"),
    ],
)
def test_cures_that_cannot_be_are_refused_by_name(changes, argument):
    with pytest.raises(ArgumentError) as refused:
        TemporalConfig(**changes)
    assert refused.value.argument == argument
