"""How far bounds lie above what they bound, and whether they hold."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

NO_BOUND = "frozen attention"  # leaves out two of the three paths
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
    bounds: Sequence[Mapping[str, Float[np.ndarray, "H M T N"]]],
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
    rows = []
    for name in bounds[0]:
        bound = np.stack([of_window[name] for of_window in bounds])
        holds = (norms <= bound * (1 + relative) + slack)[above]
        ratios = np.full(norms.shape, np.inf)
        ratios = np.divide(norms, bound, out=ratios, where=bound > 0)[above]
        some = ratios.size > 0
        low, middle, high = np.quantile(ratios, _QUANTILES) if some else [np.nan] * 3
        rows.append(
            {
                "bound": name,
                "is_bound": name != NO_BOUND,
                "pairs": norms.size,
                "pairs_above_rounding": holds.size,
                "pairs_holding": int(holds.sum()),
                "holds_share": holds.mean() if some else np.nan,
                "ratio_05": low,
                "ratio_median": middle,
                "ratio_95": high,
                "ratio_largest": ratios.max() if some else np.nan,
            }
        )
    return pd.DataFrame(rows)


def in_brief(table: pd.DataFrame) -> dict[str, Any]:
    """Median ratio and share of pairs that hold, of each bound, as one row."""
    found = {}
    for row in table.to_dict("records"):
        name = str(row["bound"]).replace(" ", "_")
        found[f"{name}_ratio_median"] = row["ratio_median"]
        found[f"{name}_holds_share"] = row["holds_share"]
    return found
