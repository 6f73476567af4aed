"""How much more a step moves its own output than another step does."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from analysis.diagnostics.diagnostic import PAPER, Diagnostic, Panel, Values
from analysis.diagnostics.diagonal import diagonal, off_diagonal
from analysis.diagnostics.rows import added, count, mean, median
from analysis.diagnostics.seen import Seen

_TWO_LINES = f"{PAPER}, Eq. 8: its two lines, as one ratio"
_RATIO = "norm of J_ii over the mean norm of J_ij, j != i"
_PARROTING = Panel(
    "Parroting ratio",
    r"norm on the diagonal / mean of $\|J_{ij}\|$, $j \ne i$ (median over rows)",
    "parroting",
    log=True,
)


def ratios(
    total: Any,
    sources: Bool[np.ndarray, "*batch T"],
    own: Float[np.ndarray, "*batch T"] | None = None,
) -> Float[np.ndarray, "*batch T"]:
    """||J_ii|| over the mean of ||J_ij||, j != i, row by row; NaN where that is 0."""
    # ``own`` takes the place of the diagonal, where the identity is added to it.
    own = diagonal(total) if own is None else own
    others = off_diagonal(total, sources)
    missing = np.full(others.shape, np.nan)
    return np.divide(own, others, where=others > 0, out=missing)


def without_ratio(
    total: Any, sources: Bool[np.ndarray, "*batch T"]
) -> Float[np.ndarray, "*batch T"]:
    """1 in rows without a ratio, 0 in the others; NaN in those that are left out."""
    left_out = np.isnan(diagonal(total))
    return np.where(left_out, np.nan, np.isnan(ratios(total, sources)))


def flat_mean(rows: Float[np.ndarray, "S T"]) -> float:
    """`mean` of the rows in one line: the order in which 0.1.0 added them."""
    return mean(rows.ravel())


def _of_ratio(name: str, residual: bool, reduce: Any, **more: Any) -> Diagnostic:
    """The parroting ratio, reduced somehow."""

    def whole(seen: Seen) -> Values:
        own = seen.with_residual if residual else None
        if residual and own is None:
            return None
        return ratios(seen.layer.total, seen.sources_of_layer, own)

    def heads(seen: Seen) -> Values:
        return ratios(seen.heads.total, seen.sources)

    return Diagnostic(
        name=name,
        source=_TWO_LINES,
        function=None if residual else heads,
        whole=whole,
        reduce=reduce,
        needs="a row with influence off the diagonal",
        **more,
    )


ENTRIES = (
    _of_ratio(
        "parroting_median",
        False,
        median,
        label="parroting ratio",
        meaning=f"{_RATIO}, without the residual: median over rows",
        uniform=lambda _: 1.0,
        column=2,
        short="parrot. ratio",
        panel=_PARROTING,
    ),
    _of_ratio(
        "parroting_mean",
        False,
        flat_mean,
        label="mean parroting ratio",
        meaning=f"{_RATIO}, without the residual: mean over rows",
        uniform=lambda _: 1.0,
    ),
    Diagnostic(
        name="total_with_residual_diagonal",
        label="total with residual",
        meaning="norm of I + J_ii, mean over rows",
        source=f"{PAPER}, Eq. 4, with the identity of the residual",
        function=None,
        whole=lambda seen: seen.with_residual,
    ),
    _of_ratio(
        "parroting_with_residual_median",
        True,
        median,
        label="with residual",
        meaning=f"{_RATIO}, with I + J_ii: median over rows",
        column=2,
        short="with resid.",
        panel=_PARROTING,
    ),
    _of_ratio(
        "parroting_with_residual_mean",
        True,
        flat_mean,
        label="mean parroting ratio with residual",
        meaning=f"{_RATIO}, with I + J_ii: mean over rows",
    ),
    Diagnostic(
        name="rows",
        label="rows",
        meaning="query steps x samples",
        source="a count",
        function=lambda seen: diagonal(seen.alpha),
        reduce=count,
        compared=False,
    ),
    Diagnostic(
        name="rows_without_ratio",
        label="rows without ratio",
        meaning="rows whose off-diagonal norms are all 0: left out of the ratio",
        source=_TWO_LINES,
        function=lambda seen: without_ratio(seen.heads.total, seen.sources),
        whole=lambda seen: without_ratio(seen.layer.total, seen.sources_of_layer),
        reduce=added,
        uniform=lambda _: 0.0,
    ),
)
