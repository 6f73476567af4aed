"""From a forecaster to its tables: whose numbers they are, and of which outputs."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import analysis.network._measure
from analysis.network._measure import Windows, as_measured, bounds_of, measure
from analysis.network.options import NetworkOptions
from data import Batch
from models.config import GraphConfig, TemporalConfig
from models.layer_inputs import layer_inputs
from models.layers import narrow, wide
from tests.forecasters import build, draw_inputs, evaluate, parameters, small

NODES = np.array([2, 0])


def windows(config, count=2):
    """Random windows in float32."""
    inputs = draw_inputs(config, count)
    speeds, clock = (jnp.asarray(a, jnp.float32) for a in inputs[:2])
    targets = jnp.zeros((count, config.horizon, config.nodes), jnp.float32)
    return Windows(Batch(speeds, clock, None, targets), NODES, None)


def options(**changes):
    return NetworkOptions(runs=(Path("run"),), **changes)


def test_tables_of_a_forecaster_whose_graph_layers_pass_nothing_between_nodes():
    config = small(layers=1, graph=GraphConfig(kind="diagonal", embedding=2))
    with jax.enable_x64(False):
        model = build(config, dtype=np.float32)
        found = measure(model, windows(config, 1), options())
    (summary,) = found["summary"].to_dict("records")
    assert summary["largest_between_nodes"] == 0.0
    assert summary["own_node_share"] == pytest.approx(1, rel=1e-12)
    assert "resistance" not in found  # no road graph
    assert found["summary"].filter(like="resistance").empty
    hops = found["hops"].set_index("hop")["influence"]
    assert (hops["unknown"], hops["0"] > 0) == (0.0, True)
    table, bounds = found["influence"], found["bounds"]
    by_kind = table.groupby("node_kind")["influence"].max()
    assert (by_kind["others"], by_kind["own"] > 0) == (0.0, True)
    assert table["window_index"].min() == 0  # everything counts from 0
    assert (table["output_step"].min(), table["output_step"].max()) == (0, 2)
    assert (table["input_step"].min(), table["input_step"].max()) == (0, 4)
    assert (table["lag"] == 4 - table["input_step"]).all()
    names = ["gain product", "factorised", "graph", "message passing"]
    names += ["message passing by entry", "frozen attention", "rollout"]
    assert bounds["bound"].tolist() == names
    assert (bounds.loc[bounds["is_bound"], "holds_share"] == 1).all()
    for row in bounds.to_dict("records"):
        name = row["bound"].replace(" ", "_")
        assert summary[f"{name}_ratio_median"] == row["ratio_median"]
        assert row["ratio_median"] < row["ratio_largest"]


def test_bounds_are_those_of_the_chosen_nodes(monkeypatch):
    config = small()
    given = windows(config)
    asked: list[Any] = []
    every = np.random.default_rng(0).random((2, 3, 4, 5, 4))

    def bounds(model, speeds, clock, average, spatial):
        asked.append((speeds, clock, average, spatial))
        return {"b": every[len(asked) - 1]}

    calls: list[int] = []
    monkeypatch.setattr(analysis.network._measure, "forecaster_bounds", bounds)
    monkeypatch.setattr(analysis.network._measure, "graph_gains", calls.append)
    model: Any = "a model"
    found = bounds_of(model, given)
    assert calls == [model]  # once for all windows
    for w in range(2):
        np.testing.assert_array_equal(found[w]["b"], every[w][:, [2, 0]])
        np.testing.assert_array_equal(asked[w][0], given.batch.speeds[w])
        np.testing.assert_array_equal(asked[w][1], given.batch.time_of_day[w])


# --- Products in bfloat16


def rounded(array):
    return np.asarray(wide(narrow(jnp.asarray(array), "bfloat16")))


@pytest.mark.parametrize("kind", ["full", "diagonal", "road"])
def test_layers_of_bfloat16_are_measured_with_the_weights_they_run_with(kind):
    config = small(
        TemporalConfig(heads=3, head_norm="rms"),
        layers=1,
        precision="bfloat16",
        graph=GraphConfig(kind=kind, embedding=2),
    )
    with jax.enable_x64(False):
        model = build(config, dtype=np.float32)
        scale = model.temporal[0].mix.norm_scale
        scale[...] = scale[...] * 1.001
        before, batch = parameters(model), windows(config, 1).batch
        found = as_measured(model)
        (layer,) = layer_inputs(model, batch, dtype=np.float32)  # as other commands
        jax.tree.map(
            np.testing.assert_array_equal,
            layer.weights,
            found.temporal[0].mix.weights(),
        )
        mix, seen = model.spatial[0].mix, found.spatial[0].mix
        steps = np.asarray(mix.adjacencies())
        steps = steps * np.eye(config.nodes) if kind == "diagonal" else steps
        np.testing.assert_array_equal(seen.adjacencies(), rounded(steps))
        now = parameters(found)
    assert found.config.precision == "float32"
    for name in ("lift", "read", "ahead"):
        for part in ("kernel", "bias"):
            np.testing.assert_array_equal(now[name][part], rounded(before[name][part]))
    old, new = before["spatial"][0], now["spatial"][0]
    np.testing.assert_array_equal(
        new["mix"]["mix"]["kernel"], rounded(old["mix"]["mix"]["kernel"])
    )
    np.testing.assert_array_equal(new["mix"]["mix"]["bias"], old["mix"]["mix"]["bias"])
    for name in ("clock", "norm"):  # in float32 there too
        jax.tree.map(np.testing.assert_array_equal, new[name], old[name])
    jax.tree.map(np.testing.assert_array_equal, parameters(model), before)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["attention", "convolution"])
def test_a_model_of_bfloat16_is_measured_with_products_in_float32(kind):
    temporal = TemporalConfig(kind=kind, heads=3)
    config = small(temporal, layers=1, precision="bfloat16")
    with jax.enable_x64(False):
        plain = build(small(temporal, layers=1), dtype=np.float32)
        assert as_measured(plain) is plain
        given = windows(config, 1).batch
        inputs = draw_inputs(config, 1)._replace(
            speeds=given.speeds, time_of_day=given.time_of_day
        )
        model = build(config, dtype=np.float32)
        ran, exact, found = (
            np.asarray(evaluate(m, inputs)) for m in (model, plain, as_measured(model))
        )
        changes = np.abs(found - ran).max(), np.abs(found - exact).max()
    assert 0 < changes[0] < 0.05 * np.abs(ran).max()
    assert 0 < changes[1] < 0.05 * np.abs(ran).max()
