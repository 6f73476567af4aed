"""Whether two quantities rank pairs alike, whatever their scales."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float
from scipy import stats

from analysis.diagnostics.rows import mean

Ranks = Float[np.ndarray, " P"]


def ranks(values: Float[np.ndarray, " P"]) -> Ranks:
    """From 1; equal values share the mean of theirs."""
    return stats.rankdata(values)


def correlation(one: Ranks, other: Ranks) -> float:
    """Spearman's, of ranks; NaN where one of the two ranks all pairs alike."""
    if one.size < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return np.nan
    return float(np.corrcoef(one, other)[0, 1])


def mean_of_windows(found: Iterable[float]) -> float:
    """Over the windows that have a value; NaN where none has."""
    return mean(np.array([*found]))
