"""Influence beside distance in the road graph: hops, resistance, commute time."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.network._road import (
    UNREACHABLE,
    distance_ranks,
    distances,
    influence_by_resistance,
    undirected,
)
from analysis.plots.network import influence_by_hop
from data._freeway_network import build_freeway, road_adjacency
from sensitivity.graph_bounds import effective_resistance

N = 6
ALL, SOME = np.arange(N), np.array([4, 1])


def one_way_path():
    """Five nodes in a row, each with an edge to the next, and one without any."""
    return np.diag([1.0, 2.0, 0.5, 4.0, 0.0], 1) + np.diag([1.0] * N)


def random_influence(seed=0, W=2, M=N):
    return np.random.default_rng(seed).random((W, M, N))


def pairs_of(nodes):
    """Places of pairs of two nodes that the path joins."""
    return [(m, n) for m, v in enumerate(nodes) for n in range(N - 1) if n != v < N - 1]


def test_a_road_without_directions_has_the_mean_weight_of_both():
    road = np.array([[0.0, 3.0], [1.0, 5.0]])
    assert undirected(road).tolist() == [[0.0, 2.0], [2.0, 5.0]]


def test_the_edges_of_the_freeway_resist_as_foster_says():
    adjacency = road_adjacency(build_freeway(0.25, 1.0).distances)
    weights = undirected(adjacency)
    resistance = distances(adjacency).resistance
    assert (adjacency != adjacency.T).any()
    assert np.isfinite(resistance).all()
    found = (weights * resistance).sum() / 2
    assert found == pytest.approx(len(weights) - 1, rel=1e-10)  # one part


def test_resistances_of_a_one_way_road_add_up_along_it_and_end_with_it():
    road = distances(one_way_path())
    # Halved weights are conductances: 2 / w is the resistance of an edge.
    assert road.resistance[0, :5] == pytest.approx([0, 2, 3, 7, 7.5], abs=1e-10)
    assert np.isinf(road.resistance[5, :5]).all()
    assert road.hops[0].tolist() == [0, 1, 2, 3, 4, UNREACHABLE]
    # Twice 3.75 of the edges, and 5 nodes that wait; the sixth is no part of it.
    assert road.commute_time[0, 4] == pytest.approx(7.5 * 12.5, rel=1e-10)
    assert np.isinf(road.commute_time[5, :5]).all()
    assert road.commute_time[5, 5] == 0


@pytest.mark.parametrize("nodes", [ALL, SOME], ids=["all", "some"])
def test_rank_correlations_are_of_pairs_with_a_path_and_count_the_others(nodes):
    between = random_influence(M=len(nodes))
    road, pairs = distances(one_way_path()), pairs_of(nodes)
    found = distance_ranks(between, nodes, road)
    assert found["pairs_with_path"] == len(pairs)
    lone = sum(5 if node == 5 else 1 for node in nodes)
    assert found["pairs_without_path"] == lone
    for name in ("hops", "resistance", "commute_time"):
        table = getattr(road, name)
        apart = [round(float(table[nodes[m], n]), 9) for m, n in pairs]
        each = [
            stats.spearmanr(apart, [window[m, n] for m, n in pairs])[0]
            for window in between
        ]
        expected = np.mean(each)
        assert found[f"{name}_rank_correlation"] == pytest.approx(expected, rel=1e-9)


def test_influence_that_falls_with_resistance_is_ranked_against_it():
    road = distances(one_way_path())
    between = np.exp(-np.where(np.isfinite(road.resistance), road.resistance, 0))[None]
    found = distance_ranks(between, ALL, road)
    assert found["resistance_rank_correlation"] == pytest.approx(-1, rel=1e-9)
    flat = distance_ranks(np.zeros((1, N, N)), ALL, road)
    assert np.isnan(flat["resistance_rank_correlation"])  # nothing to rank


def test_groups_by_resistance_hold_each_pair_once_the_nearest_first():
    road, between = distances(one_way_path()), random_influence()
    table = influence_by_resistance(between, ALL, road)
    assert table.groupby("window_index")["pairs"].sum().tolist() == [20, 20]
    for window in range(2):
        rows = table[table["window_index"] == window]
        assert rows["resistance"].is_monotonic_increasing
        total = (rows["influence"] * rows["pairs"]).sum()
        expected = sum(between[window][m, n] for m, n in pairs_of(ALL))
        assert total == pytest.approx(expected, rel=1e-12)
    volume = table["commute_time"] / table["resistance"]
    np.testing.assert_allclose(volume, 12.5, rtol=1e-9)


def test_a_road_that_joins_no_nodes_has_no_groups_and_no_ranks():
    road, between = distances(np.eye(N)), random_influence()
    assert influence_by_resistance(between, ALL, road).empty
    found = distance_ranks(between, ALL, road)
    assert (found["pairs_with_path"], found["pairs_without_path"]) == (0, 30)
    assert np.isnan(found["hops_rank_correlation"])


def test_equal_resistances_are_of_one_group():
    ring = np.roll(np.eye(4), 1, 0)
    road = distances(ring + ring.T)
    table = influence_by_resistance(np.ones((1, 4, 4)), np.arange(4), road)
    assert table["pairs"].tolist() == [8, 4]
    np.testing.assert_allclose(table["resistance"], [3 / 4, 1], rtol=1e-12)
    np.testing.assert_allclose(
        effective_resistance(ring + ring.T)[0], road.resistance[0]
    )


def test_the_picture_has_a_row_by_resistance_where_there_is_a_road():
    own = {"label": "b", "variant": "b", "model": "attention", "layers": 1, "seed": 0}
    own |= {"stack": "time-and-space", "window": 4, "horizon": 3}
    hops = pd.DataFrame({"hop": ["0", "1"], "influence": [1.0, 0.5]}).assign(**own)
    road = distances(one_way_path())
    table = influence_by_resistance(random_influence(), ALL, road).assign(**own)
    assert len(influence_by_hop(hops).axes) == 1
    figure = influence_by_hop(hops, table)
    above, below = figure.axes
    assert "edges of the road" in above.get_xlabel()
    assert "effective resistance" in below.get_xlabel()
    figure.canvas.draw()
