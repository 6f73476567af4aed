"""What a table of norms says: influence by input lag, by hop, and between nodes.

W windows, H output steps, M chosen output nodes, T input steps, N input nodes. The lag
of an input step is its distance from the newest step of the window: 0 to T - 1.
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from analysis.network._hops import UNREACHABLE, hop_name

UNKNOWN = "unknown"


def own_pairs(nodes: Int[np.ndarray, " M"], N: int) -> Bool[np.ndarray, "M N"]:
    """Where the output node is the input node."""
    return nodes[:, None] == np.arange(N)


def influence_by_lag(
    norms: Float[np.ndarray, "W H M T N"], nodes: Int[np.ndarray, " M"]
) -> pd.DataFrame:
    """Influence of each input step on each output step, own node and others apart.

    Args:
        norms: Norms |dy[t', n'] / dx[t, n]|.
        nodes: The output nodes n'.

    Returns:
        A row per window, output step, input step and kind of node (``own``,
        ``others``): ``influence``, the mean over output nodes of the sum over input
        nodes of that kind, ``squared``, the same of squares, and the share of each in
        all influence of the window.

    Example:
        >>> import numpy as np
        >>> norms = np.array([[[[[0.0, 1.0], [3.0, 0.0]]]]])  # node 0: 2 steps, 2 nodes
        >>> influence_by_lag(norms, np.array([0]))["share"].tolist()
        [0.0, 0.25, 0.75, 0.0]
    """
    norms = np.asarray(norms, np.float64)
    W, H, M, T, N = norms.shape
    own = own_pairs(nodes, N)
    kinds = np.stack([own, ~own]).astype(float)  # (2, M, N)
    linear, squared = (
        np.einsum("whmtn,kmn->whtk", power, kinds) / M for power in (norms, norms**2)
    )
    index = pd.MultiIndex.from_product(
        [range(W), range(H), range(T), ["own", "others"]],
        names=["window_index", "output_step", "input_step", "node_kind"],
    )
    columns = {
        "influence": linear,
        "share": share_of_window(linear),
        "squared": squared,
        "squared_share": share_of_window(squared),
    }
    table = pd.DataFrame({k: v.ravel() for k, v in columns.items()}, index=index)
    table = table.reset_index()
    table.insert(3, "lag", T - 1 - table["input_step"])
    return table


def share_of_window(values: Float[np.ndarray, "*shape"]) -> np.ndarray:
    """Values over their sum in each window; 0 where there is no influence at all."""
    total = values.sum(tuple(range(1, values.ndim)), keepdims=True)
    return np.divide(values, total, out=np.zeros_like(values), where=total > 0)


def influence_by_hop(
    norms: Float[np.ndarray, "W H M T N"],
    nodes: Int[np.ndarray, " M"],
    hops: Int[np.ndarray, "N N"] | None,
) -> pd.DataFrame:
    """Influence between nodes by their distance in the road graph.

    Args:
        norms: Norms |dy[t', n'] / dx[t, n]|.
        nodes: The output nodes n'.
        hops: Distances, shape (N, N); None where the data set brings no graph.

    Returns:
        A row per window and number of hops (a text; 0 is the node itself): ``pairs`` of
        nodes, ``influence``, their mean, over output steps too, of the sum over input
        steps, and ``share`` of all influence of the window.
    """
    norms = np.asarray(norms, np.float64)
    N = norms.shape[-1]
    between = norms.sum(3).mean(1)  # (W, M, N)
    share = share_of_window(between)
    if hops is None:
        distance = np.where(own_pairs(nodes, N), 0, 1)
        names = {0: "0", 1: UNKNOWN}
    else:
        distance = hops[nodes]
        names = {int(hop): hop_name(int(hop)) for hop in np.unique(distance)}
    order = sorted(names, key=lambda hop: (hop == UNREACHABLE, hop))
    rows = []
    for window in range(len(norms)):
        for hop in order:
            where = distance == hop
            if where.any():
                row = {"window_index": window, "hop": names[hop]}
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


def own_node_share(table: pd.DataFrame) -> float:
    """Share of all influence that comes from the output's own node.

    Args:
        table: As of `influence_by_lag`.

    Returns:
        Its mean over windows.
    """
    own = table.loc[table["node_kind"] == "own", "share"].sum()
    return float(own) / table["window_index"].nunique()


def window_ends(table: pd.DataFrame, share: str = "share") -> dict[str, float]:
    """Which end of the window influence gathers on.

    Args:
        table: As of `influence_by_lag`.
        share: Which of its shares.

    Returns:
        Means over windows: ``newest_quarter`` and ``oldest_quarter``, the shares of the
        T / 4 newest and oldest input steps (rounded down, at least one), and
        ``mean_lag``, in steps.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"lag": [1, 0], "share": [0.25, 0.75]})
        >>> window_ends(table.assign(window_index=0, input_step=[0, 1]))["mean_lag"]
        0.25
    """
    T = int(table["input_step"].max()) + 1
    windows = table["window_index"].nunique()
    by_lag = table.groupby("lag")[share].sum() / windows
    lags, quarter = by_lag.index.to_numpy(), max(1, T // 4)
    return {
        "newest_quarter": float(by_lag[lags < quarter].sum()),
        "oldest_quarter": float(by_lag[lags >= T - quarter].sum()),
        "mean_lag": float((by_lag * lags).sum()),
    }
