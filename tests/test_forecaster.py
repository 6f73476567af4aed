"""The whole forecaster against plain NumPy loops, in float64, and what it counts."""

import jax
import numpy as np
import pytest
from flax import nnx

from models.config import ForecasterConfig, GraphConfig, TemporalConfig
from models.forecaster import Forecaster, parameter_count
from tests import models_reference, reference
from tests.forecasters import (
    ROAD,
    abstract,
    build,
    draw_inputs,
    evaluate,
    parameters,
    run,
    small,
)

CONFIGS = {
    "reference": small(),
    "time then space": small(
        TemporalConfig(heads=2, regularizer="penalty", residual=False),
        GraphConfig(kind="diagonal", embedding=3, hops=3),
        stack="time-then-space",
        time_of_week=True,
        position="sinusoidal",
    ),
    "road": small(
        TemporalConfig(heads=1, regularizer="mask"),
        GraphConfig(kind="road", hops=1),
        time_of_week=True,
        position="none",
    ),
    "convolution": small(TemporalConfig(kind="convolution", taps=3), layers=3),
}


# --- the number of parameters -------------------------------------------------------


def test_the_reference_has_621158_parameters():
    assert parameter_count(abstract(ForecasterConfig(nodes=207))) == 621_158


def test_a_block_of_the_reference_has_51732_parameters():
    model = abstract(ForecasterConfig(nodes=207))
    temporal, spatial = model.temporal[3], model.spatial[3]
    assert parameter_count(temporal.mix) == 21_024
    assert parameter_count(spatial.mix) == 30_132
    for layer in (temporal, spatial):
        assert parameter_count(layer.norm) == parameter_count(layer.clock) == 144
    assert parameter_count(temporal) + parameter_count(spatial) == 51_732
    ends = [parameter_count(part) for part in (model.lift, model.read, model.ahead)]
    assert ends == [144, 74, 156]


@pytest.mark.parametrize("kind", ["full", "diagonal", "road"])
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("taps", [None, 3])
def test_other_settings_count_by_formula(kind, average, taps):
    N, T, H, D, L, hops, E = 4, 7, 3, 10, 3, 2, 6
    config = ForecasterConfig(
        nodes=N,
        window=T,
        horizon=H,
        width=D,
        layers=L,
        time_of_week=average,
        temporal=TemporalConfig(heads=5)
        if taps is None
        else TemporalConfig(kind="convolution", taps=taps),
        graph=GraphConfig(kind=kind, hops=hops, embedding=E),
    )
    temporal = 4 * D * (D + 1) if taps is None else taps * D * D + D
    graph = (1 + 2 * hops) * D * D + D + (0 if kind == "road" else 2 * N * E)
    ends = (1 + average) * D + D + (D + 1) + 1 + (T + average * H) * H + H
    expected = L * (temporal + graph + 2 * 4 * D) + ends
    assert parameter_count(abstract(config)) == expected


# --- what it computes ---------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_a_forecast_is_that_of_plain_loops(name):
    config = CONFIGS[name]
    model, inputs = build(config), draw_inputs(config)
    walks = models_reference.random_walks(ROAD)
    actual = evaluate(model, inputs)
    assert actual.dtype == np.float64
    for b in range(2):
        speeds, clock, average = (None if a is None else a[b] for a in inputs)
        expected = models_reference.forecaster(
            config, parameters(model), speeds, clock, average, walks
        )
        np.testing.assert_allclose(actual[b], expected, rtol=0, atol=1e-12)


def test_a_forecast_in_float32_is_that_of_plain_loops_to_1e_5():
    config = CONFIGS["reference"]
    model = build(config, dtype=np.float32)
    inputs = draw_inputs(config)
    actual = evaluate(model, jax.tree.map(np.float32, inputs))
    assert actual.dtype == np.float32
    expected = models_reference.forecaster(
        config, parameters(model), inputs.speeds[1], inputs.time_of_day[1]
    )
    np.testing.assert_allclose(actual[1], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("kind", "graph"), [("attention", "full"), ("convolution", "road")]
)
def test_weights_are_float32_even_where_float64_is_on(precision, kind, graph):
    temporal, spatial = TemporalConfig(kind=kind, heads=3), GraphConfig(kind=graph)
    config = small(temporal, spatial, precision=precision)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(nnx.state(abstract(config)))}
    assert dtypes == {np.dtype("float32")}


def test_layers_act_in_turn_or_all_temporal_ones_first():
    for stack, expected in (
        ("time-and-space", "TSTSTS"),
        ("time-then-space", "TTTSSS"),
    ):
        model = abstract(small(layers=3, stack=stack))
        names = "".join(type(layer).__name__[0] for layer in model.layers())
        assert names.replace("G", "S") == expected
        owned = [*model.temporal, *model.spatial]
        assert {id(layer) for layer in owned} == {id(one) for one in model.layers()}


def test_samples_do_not_see_each_other():
    config = CONFIGS["time then space"]
    model, inputs = build(config), draw_inputs(config, batch=3)
    together = evaluate(model, inputs)
    for b in range(3):
        others = np.arange(3) != b
        changed = jax.tree.map(np.copy, inputs)
        for array in changed:
            array[others] = 0.5
        np.testing.assert_array_equal(evaluate(model, changed)[b], together[b])


def test_nodes_may_be_renumbered():
    order, config = np.array([2, 0, 3, 1]), CONFIGS["reference"]
    model, inputs = build(config), draw_inputs(config)
    expected = evaluate(model, inputs)[..., order]
    for layer in model.spatial:
        for nodes in (layer.mix.forward_nodes, layer.mix.backward_nodes):
            nodes[...] = nodes[...][order]
    renumbered = inputs._replace(speeds=inputs.speeds[..., order])
    np.testing.assert_allclose(evaluate(model, renumbered), expected, atol=1e-12)


# --- looking inside -----------------------------------------------------------------


@pytest.mark.parametrize("stack", ["time-and-space", "time-then-space"])
def test_attention_maps_are_means_of_the_weights_on_what_the_layers_see(stack):
    penalised = TemporalConfig(heads=3, regularizer="penalty", penalty=-2.0)
    config = small(penalised, stack=stack)
    model, inputs = build(config), draw_inputs(config)
    seen = run(model, "temporal_inputs", *inputs)
    maps = run(model, "attention_maps", *inputs)
    assert maps.shape == (2, 5, 5)
    np.testing.assert_allclose(maps.sum(-1), 1, rtol=1e-12)
    bias = reference.score_bias(5, 3, -2.0)
    for x, actual, layer in zip(seen, maps, model.temporal, strict=True):
        weights = parameters(layer.mix)
        rows = np.asarray(x).reshape(-1, 5, 6)  # samples and nodes
        each = np.array([reference.weights(row, weights, bias) for row in rows])
        np.testing.assert_allclose(actual, each.mean((0, 1)), rtol=0, atol=1e-12)


def test_what_the_last_layers_see_leads_to_the_forecast():
    config = small(stack="time-and-space", layers=2)
    model, inputs = build(config), draw_inputs(config)
    seen = run(model, "temporal_inputs", *inputs)
    lifted = run(model, "lifted", inputs.speeds, None)
    np.testing.assert_allclose(seen[0], lifted, rtol=0, atol=1e-12)
    clock = run(model, "clock", inputs.time_of_day)
    x = run(model.temporal[0], "__call__", seen[0], clock)
    x = run(model.spatial[0], "__call__", x, clock)
    np.testing.assert_allclose(x, seen[1], rtol=0, atol=1e-12)
    x = run(model.temporal[1], "__call__", seen[1], clock)
    x = run(model.spatial[1], "__call__", x, clock)
    steps = run(model.read, "__call__", np.concatenate([x, clock], -1))[..., 0]
    ahead = run(model.ahead, "__call__", steps)  # (N, B, H)
    forecast = np.moveaxis(np.asarray(ahead), 0, 2)
    np.testing.assert_allclose(forecast, evaluate(model, inputs), rtol=0, atol=1e-12)


def test_attention_maps_of_a_convolution_are_refused():
    config = CONFIGS["convolution"]
    model, inputs = build(config), draw_inputs(config)
    with pytest.raises(ValueError, match="maps need .* attention, got 'convolution'"):
        run(model, "attention_maps", *inputs)


# --- bad input ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("speeds", (2, 1, 4), r"speeds must have shape \(B, 5, 4\), got \(2, 1, 4\)"),
        ("speeds", (2, 5, 3), r"speeds must have shape \(B, 5, 4\), got \(2, 5, 3\)"),
        ("speeds", (5, 4), r"speeds must have shape \(B, 5, 4\), got \(5, 4\)"),
        ("time_of_day", (2, 1), r"time_of_day must have shape \(B, 5\), got \(2, 1\)"),
        ("average", (2, 5, 4), r"average must have shape \(B, 8, 4\), got \(2, 5, 4\)"),
        ("average", None, "time_of_week needs average, got None"),
    ],
)
def test_inputs_of_another_shape_are_named(name, shape, message):
    config = small(time_of_week=True)
    model, inputs = build(config), draw_inputs(config)
    changed = inputs._replace(**{name: None if shape is None else np.zeros(shape)})
    with pytest.raises(ValueError, match=message):
        evaluate(model, changed)


@pytest.mark.parametrize(
    ("adjacency", "message"),
    [
        (None, r"graph 'road' needs an adjacency of shape \(4, 4\), got None"),
        (np.ones((3, 3)), r"of shape \(4, 4\), got \(3, 3\)"),
        (-np.ones((4, 4)), "adjacency must be finite and not negative, got -1.0"),
    ],
)
def test_a_road_model_needs_its_road(adjacency, message):
    config = small(graph=GraphConfig(kind="road"))
    with pytest.raises(ValueError, match=message):
        nnx.eval_shape(lambda: Forecaster(config, adjacency, rngs=nnx.Rngs(0)))
