"""What a table of norms says: influence by input lag, by hop, and between nodes.

W windows, H output steps, M chosen output nodes, T input steps, N input nodes. The lag
of an input step is its distance from the newest step of the window: 0 to T - 1.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from analysis.network._road import UNREACHABLE


def own_pairs(nodes: Int[np.ndarray, " M"], N: int) -> Bool[np.ndarray, "M N"]:
    """Where the output node is the input node."""
    return nodes[:, None] == np.arange(N)


def influence_by_lag(
    norms: Float[np.ndarray, "W H M T N"], nodes: Int[np.ndarray, " M"]
) -> pd.DataFrame:
    """Mean over output nodes of the sum over input nodes, own and others apart."""
    norms = np.asarray(norms, np.float64)
    own = own_pairs(nodes, norms.shape[-1])
    kinds = np.stack([own, ~own]).astype(float)  # (2, M, N)
    linear, squared = (
        np.einsum("whmtn,kmn->whtk", power, kinds) / len(nodes)
        for power in (norms, norms**2)
    )
    columns = {
        "influence": linear,
        "share": share_of_window(linear),
        "squared": squared,
        "squared_share": share_of_window(squared),
    }
    return over_input_steps(columns, ["own", "others"])


def over_input_steps(
    columns: Mapping[str, Float[np.ndarray, "W H T kinds"]], kinds: Sequence[str]
) -> pd.DataFrame:
    """Arrays as columns: a row per window, output step, input step, kind of node."""
    W, H, T, _ = next(iter(columns.values())).shape
    index = pd.MultiIndex.from_product(
        [range(W), range(H), range(T), kinds],
        names=["window_index", "output_step", "input_step", "node_kind"],
    )
    values = {name: array.ravel() for name, array in columns.items()}
    table = pd.DataFrame(values, index=index).reset_index()
    table.insert(3, "lag", T - 1 - table["input_step"])
    return table


def share_of_window(values: Float[np.ndarray, "*shape"]) -> np.ndarray:
    """Values over their sum in each window; 0 where there is no influence at all."""
    total = values.sum(tuple(range(1, values.ndim)), keepdims=True)
    return np.divide(values, total, out=np.zeros_like(values), where=total > 0)


def influence_between(
    norms: Float[np.ndarray, "W H M T N"],
) -> Float[np.ndarray, "W M N"]:
    """Mean over output steps of the sum over input steps."""
    return np.asarray(norms, np.float64).sum(3).mean(1)


def influence_by_hop(
    between: Float[np.ndarray, "W M N"],
    nodes: Int[np.ndarray, " M"],
    hops: Int[np.ndarray, "N N"] | None,
) -> pd.DataFrame:
    """Mean of `influence_between` over pairs so far apart."""
    share = share_of_window(between)
    if hops is None:
        distance, names = 1 - own_pairs(nodes, between.shape[-1]), {1: "unknown"}
    else:
        distance, names = hops[nodes], {UNREACHABLE: "unreachable"}
    order = sorted(np.unique(distance), key=lambda hop: (hop == UNREACHABLE, hop))
    rows = []
    for window in range(len(between)):
        for hop in order:
            where = distance == hop
            row = {"window_index": window, "hop": names.get(hop, str(hop))}
            row |= {"pairs": int(where.sum())}
            row |= {"influence": between[window][where].mean()}
            rows.append(row | {"share": share[window][where].sum()})
    return pd.DataFrame(rows)


def largest_between_nodes(
    norms: Float[np.ndarray, "W H M T N"], nodes: Int[np.ndarray, " M"]
) -> float:
    """Largest influence of a node on another: exactly 0 where none is passed on."""
    other = ~own_pairs(nodes, norms.shape[-1])
    return float(np.max(norms, axis=(0, 1, 3))[other].max(initial=0.0))


def own_node_share(influence: pd.DataFrame) -> float:
    """Share of all influence that comes from the output's own node; mean of windows."""
    own = influence.loc[influence["node_kind"] == "own", "share"].sum()
    return float(own) / influence["window_index"].nunique()


def window_ends(influence: pd.DataFrame, share: str = "share") -> dict[str, float]:
    """Shares of the T / 4 newest and oldest steps (at least one), and the mean lag."""
    T = int(influence["input_step"].max()) + 1
    windows = influence["window_index"].nunique()
    by_lag = influence.groupby("lag")[share].sum() / windows
    lags, quarter = by_lag.index.to_numpy(), max(1, T // 4)
    return {
        "newest_quarter": float(by_lag[lags < quarter].sum()),
        "oldest_quarter": float(by_lag[lags >= T - quarter].sum()),
        "mean_lag": float((by_lag * lags).sum()),
    }
