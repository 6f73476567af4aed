"""The diagonal of a table of steps, and the rest of each of its rows."""

import numpy as np
from jaxtyping import Bool, Float, Int

from analysis.diagnostics.diagnostic import PAPER, Diagnostic, Panel
from analysis.diagnostics.rows import mean
from analysis.diagnostics.seen import SHARES, Seen


def diagonal(table: Float[np.ndarray, "*batch T T"]) -> Float[np.ndarray, "*batch T"]:
    """Entries with j = i."""
    return np.einsum("...ii->...i", table)


def others(sources: Bool[np.ndarray, "*batch T"]) -> Int[np.ndarray, "*batch T"]:
    """How many of the steps that count are not the row's own."""
    return sources.sum(-1, keepdims=True) - sources


def off_diagonal(
    table: Float[np.ndarray, "*batch T T"], sources: Bool[np.ndarray, "*batch T"]
) -> Float[np.ndarray, "*batch T"]:
    """Mean over the steps j != i that count, of every row; NaN where none is left."""
    total = np.where(np.eye(table.shape[-1], dtype=bool), 0, table).sum(-1)
    count, missing = others(sources), np.full(total.shape, np.nan)
    return np.divide(total, count, where=count > 0, out=missing)


def excess(rows: Float[np.ndarray, "S T 2"]) -> float:
    """Mean weight on the diagonal over that off it, of weights and `others` of rows."""
    own, count = rows[~np.isnan(rows[..., 0])].T
    if not count.any():
        return float("nan")
    rest = (1 - mean(own)) / mean(count)
    return mean(own) / rest if rest > 0 else float("inf")


def _uniform_share(sources: Bool[np.ndarray, "*batch T"]) -> Float[np.ndarray, "..."]:
    """1 over the number of steps that count; NaN where none does."""
    count = sources.sum(-1)
    return np.divide(1, count, where=count > 0, out=np.full(count.shape, np.nan))


def _own_and_others(seen: Seen) -> Float[np.ndarray, "S H T 2"]:
    own = diagonal(seen.shares)
    return np.stack([own, np.broadcast_to(others(seen.sources), own.shape)], -1)


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
        meaning="1/T, T of the steps that are not padding; mean over samples",
        source="what diagonal_share is compared with",
        function=lambda seen: _uniform_share(seen.sources),
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
        function=_own_and_others,
        reduce=excess,
        needs="at least two steps",
        uniform=lambda _: 1.0,
    ),
)
