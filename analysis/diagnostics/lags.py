"""Attention by the distance between query and source."""

import numpy as np
from jaxtyping import Float

from analysis.diagnostics.diagnostic import Curve, Diagnostic
from analysis.diagnostics.seen import Seen


def attention_by_lag(
    alpha: Float[np.ndarray, "S H T T"],
) -> Float[np.ndarray, "S H T"]:
    """Mean weight of the pairs |i - j| = l of real rows, l = 0, ..., T - 1."""
    T = alpha.shape[-1]
    lag = np.abs(np.subtract.outer(np.arange(T), np.arange(T)))
    real = ~np.isnan(alpha)
    kept = np.where(real, alpha, 0)
    shape = (*alpha.shape[:2], T)
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


def _of_heads(seen: Seen) -> Float[np.ndarray, "S H T"]:
    return attention_by_lag(seen.alpha)


ENTRIES = (
    Diagnostic(
        name="mean_lag",
        label="mean lag",
        meaning="mean distance |i - j| in steps of what a row attends to, "
        "sum_j alpha_ij |i - j|; mean over rows",
        source="ours: the mean of the profile by lag",
        function=lambda seen: mean_lag(seen.alpha),
        uniform=lambda T: (T * T - 1) / (3 * T),
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
        function=_of_heads,
        uniform=lambda T: np.full(T, 1 / T),
    ),
)
