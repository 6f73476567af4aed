"""Attention by the distance between query and source."""

import numpy as np
from jaxtyping import Float

from analysis.diagnostics.diagnostic import Curve, Diagnostic, Panel
from analysis.diagnostics.seen import SHARES, Seen


def mean_by_lag(
    table: Float[np.ndarray, "S H T T"],
) -> Float[np.ndarray, "S H T"]:
    """Mean over the pairs |i - j| = l that are not NaN, l = 0, ..., T - 1."""
    T = table.shape[-1]
    lag = np.abs(np.subtract.outer(np.arange(T), np.arange(T)))
    real = ~np.isnan(table)
    kept = np.where(real, table, 0)
    shape = (*table.shape[:2], T)
    total, count = np.zeros(shape), np.zeros(shape)
    for step in range(T):
        own = lag == step
        total[..., step] = kept[..., own].sum(-1)
        count[..., step] = real[..., own].sum(-1)
    return np.divide(total, count, where=count > 0, out=np.full(shape, np.nan))


def mean_lag(alpha: Float[np.ndarray, "*batch T T"]) -> Float[np.ndarray, "*batch T"]:
    """sum_j alpha_ij |i - j|: how far a row looks."""
    T = alpha.shape[-1]
    lag = np.abs(np.subtract.outer(np.arange(T), np.arange(T)))
    return (alpha * lag).sum(-1)


def _allowed(seen: Seen) -> Float[np.ndarray, "S H T"]:
    allowed = np.where(seen.real[:, None, :, None], seen.allowed, np.nan)
    return mean_by_lag(allowed)


ENTRIES = (
    Diagnostic(
        name="mean_lag",
        label="mean lag",
        meaning="mean distance |i - j| in steps of what a row attends to, "
        f"sum_j alpha_ij |i - j|, of {SHARES}; mean over rows",
        source="ours: the mean of the profile by lag",
        function=lambda seen: mean_lag(seen.shares),
        uniform=lambda T: (T * T - 1) / (3 * T),
        panel=Panel("Mean lag (steps)"),
    ),
)
CURVES = (
    Curve(
        name="attention_by_lag",
        label="attention by lag",
        meaning="mean attention weight of the pairs of steps at a distance "
        "|i - j| = l; at 0 it is the diagonal share",
        source="ours: the diagonal analogue of Gu et al., arXiv 2410.10781",
        over="lag |i - j| (steps)",
        function=lambda seen: mean_by_lag(seen.alpha),
        uniform=lambda T: np.full(T, 1 / T),
    ),
    Curve(
        name="allowed_by_lag",
        label="share of pairs allowed",
        meaning="share of the pairs of steps at a distance |i - j| = l whose query may "
        "attend to the source: what a mask, a learned one too, leaves open",
        source="Shi et al., arXiv 2102.12871: a mask learned by lag",
        over="lag |i - j| (steps)",
        function=_allowed,
        uniform=np.ones,
    ),
)
