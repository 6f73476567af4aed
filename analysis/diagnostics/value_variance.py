"""Attended values vary more over channels where fewer steps are attended."""

import numpy as np
from jaxtyping import Float

from analysis.diagnostics.diagnostic import Diagnostic, Panel
from analysis.diagnostics.diagonal import diagonal
from analysis.diagnostics.seen import SHARES

ROUNDING = 1e-9  # rows that differ by less, relatively, are alike


def concentration(
    alpha: Float[np.ndarray, "*batch T T"],
) -> Float[np.ndarray, "*batch T"]:
    """sum_j alpha_ij^2: from 1/T, all steps alike, to 1, one step."""
    return (alpha**2).sum(-1)


def discrepancy(variance: Float[np.ndarray, "S H T"]) -> Float[np.ndarray, "S H"]:
    """Largest over median of the rows that have a value; NaN where the median is 0."""
    rows = np.sort(variance, -1)  # NaN last
    count = (~np.isnan(rows)).sum(-1, keepdims=True)
    middle = np.concatenate([(count - 1) // 2, count // 2, count - 1], -1).clip(0)
    low, high, most = np.moveaxis(np.take_along_axis(rows, middle, -1), -1, 0)
    median = (low + high) / 2
    return np.divide(most, median, where=median > 0, out=np.full_like(most, np.nan))


def log(positive: np.ndarray) -> np.ndarray:
    """NaN where there is none."""
    return np.log(positive, where=positive > 0, out=np.full_like(positive, np.nan))


def correlation(
    one: Float[np.ndarray, "S H T"], other: Float[np.ndarray, "S H T"]
) -> Float[np.ndarray, "S H"]:
    """Pearson's, over rows that have both; NaN of fewer than three, or of no spread."""
    there = ~np.isnan(one + other)
    count = there.sum(-1, keepdims=True)

    def centred(rows: np.ndarray) -> np.ndarray:
        kept = np.where(there, rows, 0)
        mean = kept.sum(-1, keepdims=True) / np.maximum(count, 1)
        return np.where(there, rows - mean, 0)

    a, b = centred(one), centred(other)
    aa, ab, bb = (a * a).sum(-1), (a * b).sum(-1), (b * b).sum(-1)
    spread = np.minimum(aa, bb) > count[..., 0] * ROUNDING**2
    missing = np.full(ab.shape, np.nan)
    enough = spread & (count[..., 0] >= 3)
    return np.divide(ab, np.sqrt(aa * bb), where=enough, out=missing)


_LI = "Li et al., arXiv 2605.06611"
_VARIANCE = "Var(o_t) over the channels of the attended value o = alpha V, before W_O"
_CORRELATIONS = Panel("Correlation of variance", signed=True)
ENTRIES = (
    Diagnostic(
        name="value_variance_discrepancy",
        label="value variance discrepancy",
        meaning=f"largest over median step of a sample of {_VARIANCE}; mean over "
        "samples",
        source=f"{_LI}: variance discrepancy, as a ratio of ours",
        function=lambda seen: discrepancy(seen.h.var(-1)),
        needs="a median row whose attended value varies over channels",
        uniform=lambda _: 1.0,
        panel=Panel("Value variance discrepancy", log=True),
    ),
    Diagnostic(
        name="effective_support",
        label="effective support",
        meaning="1 / sum_j alpha_ij^2, mean over rows: as many steps, attended "
        f"equally, average independent values as well; of {SHARES}",
        source=f"{_LI}: Var(o_t) = sigma^2 sum_j alpha_tj^2 of independent values",
        function=lambda seen: 1 / concentration(seen.shares),
        uniform=float,
        panel=Panel("Effective support (steps)"),
    ),
    Diagnostic(
        name="support_variance_correlation",
        label="variance by support",
        meaning="Pearson correlation over the rows of a sample of log Var(o_t) with "
        f"log sum_j alpha_tj^2, 1 where values are independent; {_VARIANCE}",
        source=f"{_LI}: their link; as a correlation it is ours",
        function=lambda seen: correlation(
            log(seen.h.var(-1)), log(concentration(seen.alpha))
        ),
        needs="three rows that differ in support and in variance",
        panel=_CORRELATIONS,
    ),
    Diagnostic(
        name="diagonal_variance_correlation",
        label="variance by diagonal weight",
        meaning="Pearson correlation over the rows of a sample of log Var(o_t) with "
        f"alpha_tt, the diagonal sink; {_VARIANCE}",
        source=f"{_LI}: their link; with the diagonal it is ours",
        function=lambda seen: correlation(log(seen.h.var(-1)), diagonal(seen.alpha)),
        needs="three rows that differ in alpha_tt and in variance",
        panel=_CORRELATIONS,
    ),
)
