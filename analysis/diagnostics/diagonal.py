"""The diagonal of a table of steps, and the rest of each of its rows."""

import numpy as np
from jaxtyping import Float

from analysis.diagnostics.diagnostic import PAPER, Diagnostic, Panel
from analysis.diagnostics.rows import mean
from analysis.diagnostics.seen import SHARES


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
    if T == 1 or np.isnan(share):
        return float("nan")
    return share / ((1 - share) / (T - 1)) if share < 1 else float("inf")


_SHARE = Panel(
    "Diagonal share", "mean attention weight on the diagonal", "diagonal-share"
)
ENTRIES = (
    Diagnostic(
        name="diagonal_share",
        label="diagonal share",
        meaning="mean attention weight on the diagonal, tr A / T",
        source=f"{PAPER}, Eq. 8: E[alpha_ii]",
        function=lambda seen: diagonal(seen.alpha),
        uniform=lambda T: 1 / T,
        column=1,
        short="diag. share",
        panel=_SHARE,
    ),
    Diagnostic(
        name="uniform_share",
        label="1/T",
        meaning="1/T",
        source="what diagonal_share is compared with",
        function=lambda seen: np.full(seen.alpha.shape[:2], 1 / seen.x.shape[-2]),
        whole=lambda seen: np.full(len(seen.x), 1 / seen.x.shape[-2]),
        reduce=lambda samples: float(samples[0]),  # they are all the same
        uniform=lambda T: 1 / T,
        differs=False,
        column=1,
        short="1/T",
    ),
    Diagnostic(
        name="diagonal_excess",
        label="diagonal excess",
        meaning=f"mean weight on the diagonal over the mean weight off it, of {SHARES}",
        source=f"{PAPER}, Eq. 8: E[alpha_ii]",
        function=lambda seen: diagonal(seen.shares),
        reduce=excess,
        needs="at least two steps",
        uniform=lambda _: 1.0,
    ),
)
