"""How much more a step moves its own output than another step does."""

from typing import Any

import numpy as np
from jaxtyping import Float

from analysis.diagnostics.diagonal import diagonal, off_diagonal
from analysis.diagnostics.rows import mean


def ratios(
    total: Any, own: Float[np.ndarray, "*batch T"] | None = None
) -> Float[np.ndarray, "*batch T"]:
    """||J_ii|| over the mean of ||J_ij||, j != i, row by row; NaN where that is 0."""
    # ``own`` takes the place of the diagonal, where the identity is added to it.
    own, others = diagonal(total) if own is None else own, off_diagonal(total)
    missing = np.full(others.shape, np.nan)
    return np.divide(own, others, where=others > 0, out=missing)


def without_ratio(total: Any) -> Float[np.ndarray, "*batch T"]:
    """1 in rows without a ratio, 0 in the others; NaN in those that are left out."""
    left_out = np.isnan(diagonal(total))
    return np.where(left_out, np.nan, np.isnan(ratios(total)))


def flat_mean(rows: Float[np.ndarray, "S T"]) -> float:
    """`mean` of the rows in one line: the order in which 0.1.0 added them."""
    return mean(rows.ravel())
