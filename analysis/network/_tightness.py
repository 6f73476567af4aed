"""How far bounds lie above what they bound, whether they hold, and what they rank."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from analysis.network._bounds import BOUNDS
from analysis.network._forecaster_bounds import Table
from analysis.network._ranks import correlation, mean_of_windows, ranks
from sensitivity.layer_gains import Factors

_QUANTILES = (0.05, 0.5, 0.95)
_RELATIVE = 1e-4  # of bounds made of float32 activations, as in the sweep


def rounding(
    norms: Float[np.ndarray, "W H M T N"], layers: int, epsilon: float
) -> Float[np.ndarray, "W H M 1 1"]:
    """What of a norm may be rounding: s = 16 L epsilon times an output's largest."""
    # A row of the Jacobian comes out of one vector-Jacobian product. It carries errors
    # of the size of its own largest entries, however small an entry is, and each of the
    # L pairs of layers adds to them. (Against float64, trained models of 1, 2 and 4
    # pairs were off by 3, 9 and 20 epsilon times the largest entry at most, where s
    # allows 16, 32 and 64.)
    largest = np.max(np.asarray(norms, np.float64), axis=(3, 4), keepdims=True)
    return 16 * layers * epsilon * largest


def tightness(
    norms: Float[np.ndarray, "W H M T N"],
    bounds: Sequence[Mapping[str, Table]],
    *,
    layers: int,
    epsilon: float,
) -> pd.DataFrame:
    """Exact over bound, over all pairs of an input and an output of all windows."""
    # Of pairs above rounding alone, exact > s with s of `rounding`: in others no bound
    # can fail. A bound holds where exact <= bound (1 + 1e-4) + s. Without pairs: NaN.
    norms = np.asarray(norms, np.float64)
    slack = rounding(norms, layers, epsilon)
    relative = max(_RELATIVE, 16 * layers * epsilon)
    above = norms > slack
    ranked = rank_correlations(norms, bounds, above)
    rows = []
    for name in bounds[0]:
        bound = np.stack([table_of(of_window[name]) for of_window in bounds])
        holds = (norms <= bound * (1 + relative) + slack)[above]
        ratios = np.full(norms.shape, np.inf)
        ratios = np.divide(norms, bound, out=ratios, where=bound > 0)[above]
        some = ratios.size > 0
        low, middle, high = np.quantile(ratios, _QUANTILES) if some else [np.nan] * 3
        rows.append(
            {
                "bound": name,
                "is_bound": BOUNDS[name].is_bound,
                "pairs": norms.size,
                "pairs_above_rounding": holds.size,
                "pairs_holding": int(holds.sum()),
                "holds_share": holds.mean() if some else np.nan,
                "exact_median": np.median(norms[above]) if some else np.nan,
                "bound_median": np.median(bound[above]) if some else np.nan,
                "ratio_05": low,
                "ratio_median": middle,
                "ratio_95": high,
                "ratio_largest": ratios.max() if some else np.nan,
                "rank_correlation": ranked[name],
                "holds_for": BOUNDS[name].holds_for,
                "source": BOUNDS[name].source,
            }
        )
    return pd.DataFrame(rows)


def table_of(bound: Table) -> Float[np.ndarray, "H M T N"]:
    """A bound of every pair, which takes memory that its factors do not."""
    return bound.table() if isinstance(bound, Factors) else bound


def rank_correlations(
    norms: Float[np.ndarray, "W H M T N"],
    bounds: Sequence[Mapping[str, Table]],
    above: Bool[np.ndarray, "W H M T N"],
) -> dict[str, float]:
    """Of each bound with the norms over the pairs of a window, mean of windows."""
    found: dict[str, list[float]] = {name: [] for name in bounds[0]}
    for exact, of_window, counts in zip(norms, bounds, above, strict=True):
        order = ranks(exact[counts])
        for name, bound in of_window.items():
            found[name].append(correlation(order, ranks(table_of(bound)[counts])))
    return {name: mean_of_windows(each) for name, each in found.items()}


def in_brief(table: pd.DataFrame) -> dict[str, Any]:
    """Median ratio, share of pairs that hold and ranks, of each bound, as one row."""
    found = {}
    for row in table.to_dict("records"):
        name = str(row["bound"]).replace(" ", "_")
        for column in ("ratio_median", "holds_share", "rank_correlation"):
            found[f"{name}_{column}"] = row[column]
    return found
