"""How alike the queries of a sample are."""

import numpy as np
from jaxtyping import Bool, Float

from analysis.diagnostics.diagnostic import Curve, Diagnostic, Panel
from analysis.diagnostics.lags import mean_by_lag
from analysis.diagnostics.seen import Seen


def cosines(
    q: Float[np.ndarray, "S H T K"], real: Bool[np.ndarray, "S T"]
) -> Float[np.ndarray, "S H T T"]:
    """cos(q_t, q_s), 0 of a query that is 0; NaN but of two real rows."""
    norm = np.linalg.norm(q, axis=-1, keepdims=True)
    unit = np.divide(q, norm, where=norm > 0, out=np.zeros_like(q))
    pairs = real[:, None, :, None] & real[:, None, None, :]
    return np.where(pairs, unit @ unit.mT, np.nan)


def mean_cosine(
    table: Float[np.ndarray, "S H T T"], farthest: int
) -> Float[np.ndarray, "S H"]:
    """Mean over the pairs with 1 <= |t - s| <= farthest; NaN without any."""
    steps = np.arange(table.shape[-1])
    lag = np.abs(np.subtract.outer(steps, steps))
    there = ~np.isnan(table) & (lag > 0) & (lag <= farthest)
    total, count = np.where(there, table, 0).sum((-2, -1)), there.sum((-2, -1))
    missing = np.full(total.shape, np.nan)
    return np.divide(total, count, where=count > 0, out=missing)


def _by_lag(seen: Seen) -> Float[np.ndarray, "S H lags"]:
    return mean_by_lag(cosines(seen.q, seen.real))[..., 1:]


_ZERO = "a query that is 0 has cosine 0 with any"
_TAPPA = "TAPPA, arXiv 2601.21709"
_PANEL = Panel("Query similarity", power_law=False)
ENTRIES = (
    Diagnostic(
        name="query_similarity",
        label="query similarity",
        meaning=f"mean cosine of the queries of all pairs of steps t != s; {_ZERO}",
        source=f"{_TAPPA}: q-similarity as its code has it",
        function=lambda seen: mean_cosine(cosines(seen.q, seen.real), seen.x.shape[-2]),
        needs="at least two steps",
        panel=_PANEL,
    ),
    Diagnostic(
        name="query_similarity_consecutive",
        label="similarity of consecutive queries",
        meaning=f"mean cosine of the queries of steps t and t + 1; {_ZERO}",
        source=f"{_TAPPA}: q-similarity as its text has it",
        function=lambda seen: mean_cosine(cosines(seen.q, seen.real), 1),
        needs="two steps in a row",
        panel=_PANEL,
    ),
)
CURVES = (
    Curve(
        name="query_similarity_by_lag",
        label="query similarity by lag",
        meaning=f"mean cosine of the queries of the pairs |t - s| = l; {_ZERO}",
        source=f"{_TAPPA}: its q-similarity, by lag; the profile is ours",
        over="lag |t - s| (steps)",
        function=_by_lag,
        first=1,
    ),
)
