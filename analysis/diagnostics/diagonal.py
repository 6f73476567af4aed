"""The diagonal of a table of steps, and the rest of each of its rows."""

import numpy as np
from jaxtyping import Float

from analysis.diagnostics.rows import mean


def diagonal(table: Float[np.ndarray, "*batch T T"]) -> Float[np.ndarray, "*batch T"]:
    """Entries with j = i."""
    return np.einsum("...ii->...i", table)


def off_diagonal(
    table: Float[np.ndarray, "*batch T T"],
) -> Float[np.ndarray, "*batch T"]:
    """Mean over the T - 1 steps j != i of every row; NaN where T = 1."""
    T = table.shape[-1]
    if T == 1:
        return np.full(table.shape[:-1], np.nan)
    return np.where(np.eye(T, dtype=bool), 0, table).sum(-1) / (T - 1)


def excess(own: Float[np.ndarray, "S T"]) -> float:
    """Mean weight s = tr A / T on the diagonal over that off it, (1 - s) / (T - 1)."""
    share, T = mean(own), own.shape[-1]
    if T == 1:
        return float("nan")
    return share / ((1 - share) / (T - 1)) if share < 1 else float("inf")
