"""How far apart two nodes are in the road graph, and how influence goes with it.

A road is given by weights from node to node, which may differ in the two directions.
Influence is not bound to one: graph layers walk along the edges and against them. So
two nodes are neighbours where either has an edge to the other, and the conductance
between them is the mean of the two weights.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from analysis.network._ranks import correlation, mean_of_windows, ranks
from sensitivity.graph_bounds import commute_times, effective_resistance

UNREACHABLE = -1
_GROUPS = 10


class Road(NamedTuple):
    """Distances between nodes; without a path `UNREACHABLE`, or infinite."""

    hops: Int[np.ndarray, "N N"]
    resistance: Float[np.ndarray, "N N"]
    commute_time: Float[np.ndarray, "N N"]


def undirected(adjacency: Float[np.ndarray, "N N"]) -> Float[np.ndarray, "N N"]:
    """The mean weight of both directions."""
    adjacency = np.asarray(adjacency, np.float64)
    return (adjacency + adjacency.T) / 2


def distances(adjacency: Float[np.ndarray, "N N"]) -> Road:
    """Distances in the road graph of these weights."""
    weights = undirected(adjacency)
    found = (measure(weights) for measure in (effective_resistance, commute_times))
    return Road(road_hops(adjacency), *map(_settled, found))


def _settled(table: Float[np.ndarray, "N N"]) -> Float[np.ndarray, "N N"]:
    """The table, equal where it was to 12 digits of its largest, so that ranks tie."""
    grain = 1e-12 * (table[np.isfinite(table)].max() or 1)
    return np.round(table / grain) * grain


def road_hops(adjacency: Float[np.ndarray, "N N"]) -> Int[np.ndarray, "N N"]:
    """Least number of edges (weights above 0) between nodes, or `UNREACHABLE`."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import shortest_path

    edges = csr_array((np.asarray(adjacency) > 0).astype(float))
    found = shortest_path(edges, directed=False, unweighted=True)
    return np.where(np.isfinite(found), found, UNREACHABLE).astype(int)


def joined_pairs(road: Road, nodes: Int[np.ndarray, " M"]) -> Bool[np.ndarray, "M N"]:
    """Pairs of two nodes with a path between them."""
    other = nodes[:, None] != np.arange(len(road.hops))
    return other & (road.hops[nodes] != UNREACHABLE)


def influence_by_resistance(
    between: Float[np.ndarray, "W M N"], nodes: Int[np.ndarray, " M"], road: Road
) -> pd.DataFrame:
    """Mean influence over tenths of the pairs with a path, the nearest first."""
    # Of few pairs, or of equal resistances, fewer groups.
    joined = joined_pairs(road, nodes)
    resistance, commute = (
        table[nodes][joined] for table in (road.resistance, road.commute_time)
    )
    if not resistance.size:
        return pd.DataFrame()
    edges = np.quantile(resistance, np.arange(1, _GROUPS) / _GROUPS)
    group = np.searchsorted(edges, resistance, side="left")
    rows = []
    for window, influence in enumerate(between):
        for number in np.unique(group):
            where = group == number
            row = {"window_index": window, "pairs": int(where.sum())}
            row |= {"resistance": np.median(resistance[where])}
            row |= {"commute_time": np.median(commute[where])}
            rows.append(row | {"influence": influence[joined][where].mean()})
    return pd.DataFrame(rows)


def distance_ranks(
    between: Float[np.ndarray, "W M N"], nodes: Int[np.ndarray, " M"], road: Road
) -> dict[str, float]:
    """Rank correlations of influence and distance, over pairs with a path."""
    joined = joined_pairs(road, nodes)
    found: dict[str, float] = {
        "pairs_with_path": int(joined.sum()),
        "pairs_without_path": int((road.hops[nodes] == UNREACHABLE).sum()),
    }
    order = [ranks(influence[joined]) for influence in between]
    for name, table in road._asdict().items():
        apart = ranks(table[nodes][joined])
        each = (correlation(one, apart) for one in order)
        found[f"{name}_rank_correlation"] = mean_of_windows(each)
    return found
