"""From a forecaster to its tables: whose numbers they are, and of which outputs."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import analysis.network._measure
from analysis.network._measure import Windows, bounds_of, measure, without_rounding
from analysis.network._results import remarks
from analysis.network._summaries import (
    influence_by_hop,
    influence_by_lag,
    own_node_share,
)
from analysis.network._tightness import in_brief, tightness
from analysis.network.options import NetworkOptions
from analysis.plots.network import bounds_tightness
from data import Batch
from models.config import GraphConfig
from tests.forecasters import build, draw_inputs, evaluate, small

NODES = np.array([2, 0])


def windows(config, count=2):
    """Random windows in float32."""
    inputs = draw_inputs(config, count)
    speeds, clock = (jnp.asarray(a, jnp.float32) for a in inputs[:2])
    targets = jnp.zeros((count, config.horizon, config.nodes), jnp.float32)
    return Windows(Batch(speeds, clock, None, targets), NODES, None)


def options(**changes):
    return NetworkOptions(runs=(Path("run"),), **changes)


@pytest.fixture(scope="module")
def alone():
    """Tables of attention whose graph layers pass nothing between nodes."""
    config = small(layers=1, graph=GraphConfig(kind="diagonal", embedding=2))
    with jax.enable_x64(False):
        model = build(config, dtype=np.float32)
        return measure(model, windows(config, 1), options())


@pytest.mark.slow
def test_the_diagonal_graph_with_attention_passes_exactly_nothing_between_nodes(alone):
    (summary,) = alone["summary"].to_dict("records")
    assert summary["largest_between_nodes"] == 0.0
    assert summary["own_node_share"] == pytest.approx(1, rel=1e-12)
    hops = alone["hops"].set_index("hop")
    assert hops.loc["unknown", "influence"] == 0.0
    assert hops.loc["0", "influence"] > 0
    by_kind = alone["influence"].groupby("node_kind")["influence"].max()
    assert by_kind["others"] == 0.0
    assert by_kind["own"] > 0


def test_the_bounds_of_a_forecaster_are_above_its_influence(alone):
    bounds = alone["bounds"]
    names = ["gain product", "factorised", "graph", "frozen attention"]
    assert bounds["bound"].tolist() == names
    assert (bounds.loc[bounds["is_bound"], "holds_share"] == 1).all()
    (summary,) = alone["summary"].to_dict("records")
    for row in bounds.to_dict("records"):
        name = row["bound"].replace(" ", "_")
        assert summary[f"{name}_ratio_median"] == row["ratio_median"]
        assert row["ratio_median"] < row["ratio_largest"]


def test_everything_counts_from_0(alone):
    table = alone["influence"]
    assert table["window_index"].min() == 0
    assert (table["output_step"].min(), table["output_step"].max()) == (0, 2)
    assert (table["input_step"].min(), table["input_step"].max()) == (0, 4)
    assert (table["lag"] == 4 - table["input_step"]).all()


def test_hops_are_those_of_the_chosen_nodes():
    hops = np.array([[0, 1, 2], [1, 0, 1], [2, 3, 0]])
    norms = np.zeros((1, 1, 2, 1, 3))
    norms[0, 0, 0, 0] = [5, 7, 1]  # of node 2: hops 2, 3, 0
    norms[0, 0, 1, 0] = [2, 4, 9]  # of node 0: hops 0, 1, 2
    table = influence_by_hop(norms, NODES, hops).set_index("hop")
    assert table["pairs"].to_dict() == {"0": 2, "1": 1, "2": 2, "3": 1}
    assert table["influence"].to_dict() == {"0": 1.5, "1": 4, "2": 7, "3": 7}


def test_the_share_of_the_own_node_is_that_of_the_pairs_with_itself():
    norms = np.zeros((2, 1, 2, 1, 3))
    norms[0, 0, 0, 0] = [0, 0, 3]  # node 2 on itself
    norms[0, 0, 1, 0] = [0, 1, 0]  # node 1 on node 0
    norms[1, 0, 1, 0] = [1, 0, 0]  # node 0 on itself
    assert own_node_share(influence_by_lag(norms, NODES)) == (0.75 + 1) / 2


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


def ratios(exact, bound):
    """Tightness of one bound in some pairs."""
    norms = np.array(exact, float).reshape(1, 1, 1, 1, -1)
    bounds = [{"gain product": np.array(bound, float).reshape(1, 1, 1, -1)}]
    return tightness(norms, bounds, layers=1, epsilon=1e-7)


def test_in_brief_a_bound_has_its_median_and_the_share_that_holds():
    table = ratios([1, 1, 1, 3], [10, 5, 4, 2])
    (row,) = table.to_dict("records")
    assert row["ratio_median"] == pytest.approx((0.2 + 0.25) / 2)
    assert row["ratio_largest"] == 1.5
    assert in_brief(table) == {
        "gain_product_ratio_median": row["ratio_median"],
        "gain_product_holds_share": 0.75,
    }


def test_where_rounding_leaves_nothing_it_is_said():
    silent = tightness(
        np.zeros((1, 1, 1, 1, 2)),
        [{"b": np.ones((1, 1, 1, 2))}],
        layers=1,
        epsilon=1e-7,
    )
    tables = [
        ratios([1, 1], [2, 2]).assign(label="one", seed=0),
        silent.assign(label="two", seed=0),
        silent.assign(label="two", seed=1),
    ]
    (line,) = remarks(pd.concat(tables))
    assert line.startswith("two, seeds 0, 1: no pair is above rounding")
    bounds_tightness(pd.concat(tables)).canvas.draw()


@pytest.mark.slow
def test_products_in_bfloat16_are_measured_in_float32():
    config = small(layers=1, precision="bfloat16")
    with jax.enable_x64(False):
        model = build(config, dtype=np.float32)
        plain = build(small(layers=1), dtype=np.float32)
        assert without_rounding(plain) is plain
        inputs = draw_inputs(config, 1)
        inputs = inputs._replace(
            speeds=inputs.speeds.astype(np.float32),
            time_of_day=inputs.time_of_day.astype(np.float32),
        )
        rounded, exact, found = (
            np.asarray(evaluate(m, inputs))
            for m in (model, plain, without_rounding(model))
        )
    np.testing.assert_array_equal(found, exact)
    assert (rounded != exact).any()
