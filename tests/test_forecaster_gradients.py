"""Forecasters can be differentiated and trained, and rounded to bfloat16."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree
from jax.test_util import check_grads

from models.config import GraphConfig, TemporalConfig
from tests.forecasters import Inputs, build, draw_inputs, run, small

pytestmark = pytest.mark.slow  # seconds of compiling each

TINY: dict[str, Any] = {"nodes": 3, "window": 3, "horizon": 2, "width": 4, "layers": 1}


@pytest.mark.parametrize(
    ("temporal", "graph", "dropout"),
    [
        (TemporalConfig(heads=2), GraphConfig(embedding=2), 0.0),
        (
            TemporalConfig(heads=1, regularizer="mask", residual=False),
            GraphConfig(kind="diagonal", hops=3, embedding=2),
            0.0,
        ),
        (
            TemporalConfig(heads=2, regularizer="dropout", diagonal_dropout=0.5),
            GraphConfig(embedding=2),
            0.3,
        ),
    ],
    ids=["attention", "masked", "in training"],
)
def test_gradients_are_finite_differences(temporal, graph, dropout):
    config = small(temporal, graph, **TINY | {"dropout": dropout})
    static, params, rest = nnx.split(build(config), nnx.Param, ...)
    inputs = draw_inputs(config)
    flat, unravel = ravel_pytree((params, jnp.asarray(inputs.speeds)))
    key = jax.random.key(3) if dropout else None

    @jax.jit
    def forecast(flat):
        params, speeds = unravel(flat)
        return nnx.merge(static, params, rest)(speeds, *inputs[1:], key=key)

    check_grads(forecast, (flat,), 1, ["rev"], rtol=1e-6, atol=1e-6, eps=1e-5)


@pytest.mark.parametrize("regularizer", ["none", "mask"])
def test_every_parameter_is_trained(regularizer):
    temporal = TemporalConfig(heads=2, regularizer=regularizer)
    config = small(temporal, **TINY, time_of_week=True)
    graph, params, rest = nnx.split(build(config), nnx.Param, ...)
    inputs = Inputs(*jax.tree.map(jnp.asarray, draw_inputs(config)))

    @jax.jit
    def gradient(params):
        def loss(params):
            model = nnx.merge(graph, params, rest)
            return (model(*inputs, key=jax.random.key(0)) ** 2).sum()

        return jax.grad(loss)(params)

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(params)):
        name = jax.tree_util.keystr(path)
        assert np.isfinite(leaf).all(), name
        if "key_bias" in name:  # moves all scores of a row alike
            np.testing.assert_allclose(leaf, 0, atol=1e-10)
        else:
            assert np.abs(leaf).max() > 1e-10, name


def test_one_batch_is_learned_by_heart():
    heads = TemporalConfig(heads=2)
    config = small(heads, width=16, window=6, horizon=4, nodes=3, layers=1)
    model = build(config, dtype=np.float32, scale=0.25)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    inputs = Inputs(*jax.tree.map(np.float32, draw_inputs(config, batch=4)))
    targets = np.random.default_rng(0).normal(size=(4, 4, 3)).astype(np.float32)
    steps = 600
    optimizer = optax.adam(optax.cosine_decay_schedule(2e-2, steps))

    def loss(params):
        model = nnx.merge(graph, params, rest)
        return jnp.abs(model(*inputs) - targets).mean()

    def step(carry, _):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    @jax.jit
    def fit(params):
        return jax.lax.scan(step, (params, optimizer.init(params)), length=steps)[1]

    losses = np.asarray(fit(params))
    assert losses[0] > 0.5
    assert losses[-10:].max() < 0.02


# --- bfloat16 -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("temporal", "graph"), [("attention", "full"), ("convolution", "diagonal")]
)
def test_bfloat16_rounds_the_products_and_nothing_else(temporal, graph):
    config = small(
        TemporalConfig(kind=temporal, heads=3), GraphConfig(kind=graph), layers=1
    )
    inputs = Inputs(*jax.tree.map(np.float32, draw_inputs(config, batch=8)))
    forecasts, gradients = [], []
    for precision in ("float32", "bfloat16"):
        each = dataclasses.replace(config, precision=precision)
        # As large as they are drawn in earnest.
        model = build(each, dtype=np.float32, scale=0.25)
        static, params = nnx.split(model)

        @jax.jit
        def gradient(params, static=static):
            def loss(params):
                forecast = nnx.merge(static, params)(*inputs)
                return (forecast**2).mean(), forecast

            return jax.grad(loss, has_aux=True)(params)

        found, forecast = gradient(params)
        leaves = jax.tree.leaves(found)
        assert {leaf.dtype for leaf in leaves} == {np.dtype("float32")}
        assert forecast.dtype == np.float32
        forecasts.append(np.asarray(forecast))
        gradients.append(np.concatenate([np.ravel(leaf) for leaf in leaves]))
    exact, rough = forecasts
    difference = np.abs(rough - exact).max()
    assert 1e-5 < difference < 3e-2  # rounded, and not more than that
    exact, rough = gradients
    assert np.linalg.norm(rough - exact) < 3e-2 * np.linalg.norm(exact)


def test_residuals_and_norms_stay_float32():
    config = small(TemporalConfig(heads=3), layers=1, precision="bfloat16")
    model = build(config, dtype=np.float32)
    inputs = jax.tree.map(np.float32, draw_inputs(config))
    x = run(model, "lifted", inputs.speeds, None)
    clock = run(model, "clock", inputs.time_of_day)
    for layer in model.layers():
        assert x.dtype == np.float32
        x = run(layer, "__call__", x, clock)
        # A rounding to bfloat16 would leave the lowest 16 bits 0.
        assert (np.asarray(x).view(np.uint32) & 0xFFFF).any()
