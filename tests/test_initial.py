"""Weights start as PyTorch's layers start, which the reference uses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.config import ForecasterConfig, TemporalConfig
from models.graph import GraphConvolution, GraphLayer
from models.temporal import TemporalAttention, TemporalLayer

D = 24
CONFIG = ForecasterConfig(nodes=50, width=D, layers=1, temporal=TemporalConfig(heads=3))

pytestmark = pytest.mark.slow  # seconds of compiling each


def assert_uniform(param: nnx.Variable, bound: float) -> None:
    """The largest of many and the spread are those of U(-bound, bound)."""
    drawn = np.asarray(param[...])
    assert drawn.dtype == np.float32
    largest = np.abs(drawn).max()
    assert bound * (1 - 10 / drawn.size) < largest <= bound
    error = 5 * drawn.size**-0.5
    assert abs(drawn.std() / (bound / 3**0.5) - 1) < error
    assert abs(drawn.mean()) < error * bound


def param(variable: nnx.Variable | None) -> nnx.Variable:
    """What a layer has, but need not have by its type."""
    assert variable is not None
    return variable


def test_an_attention_layer_starts_as_pytorch_draws_it():
    layer = nnx.jit(lambda: TemporalLayer(CONFIG, rngs=nnx.Rngs(0)))()
    mix = layer.mix
    assert isinstance(mix, TemporalAttention)
    for kernel in (mix.query, mix.key, mix.value):
        assert_uniform(kernel, (6 / (4 * D)) ** 0.5)  # Xavier, of a stacked (3 D, D)
    assert_uniform(mix.out, D**-0.5)
    for bias in (mix.query_bias, mix.key_bias, mix.value_bias, mix.out_bias):
        assert not bias[...].any()
    assert_uniform(layer.clock.kernel, 1.0)
    assert_uniform(param(layer.clock.bias), 1.0)
    assert (param(layer.norm.scale)[...] == 1).all()
    assert (param(layer.norm.bias)[...] == 0).all()
    kernels = [np.ravel(k[...]) for k in (mix.query, mix.key, mix.value)]
    assert np.abs(np.corrcoef(kernels) - np.eye(3)).max() < 5 / D  # drawn apart


def test_a_graph_layer_starts_as_pytorch_draws_it():
    layer = nnx.jit(lambda: GraphLayer(CONFIG, None, rngs=nnx.Rngs(0)))()
    convolution = layer.mix
    assert isinstance(convolution, GraphConvolution)
    assert_uniform(convolution.mix.kernel, (5 * D) ** -0.5)
    assert_uniform(param(convolution.mix.bias), (5 * D) ** -0.5)
    nodes = [convolution.forward_nodes[...], convolution.backward_nodes[...]]
    for one in map(np.asarray, nodes):
        assert abs(one.mean()) < 5 / 500**0.5
        assert abs(one.std() - 1) < 5 / 1000**0.5
    flat = [np.ravel(one) for one in nodes]
    assert abs(np.corrcoef(flat)[0, 1]) < 5 / 500**0.5


def test_every_seed_has_other_weights_and_the_same_seed_the_same():
    draw = jax.jit(
        lambda seed: nnx.state(
            TemporalLayer(CONFIG, rngs=nnx.Rngs(jax.random.key(seed)))
        )
    )
    one, again, other = (draw(jnp.uint32(seed)) for seed in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert (one["mix"]["query"][...] != other["mix"]["query"][...]).all()
