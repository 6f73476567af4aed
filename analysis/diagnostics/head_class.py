"""Whether a head looks at one step, beside itself, at a period, or none of these."""

import numpy as np
from jaxtyping import Bool, Float, Int

from analysis.diagnostics.diagnostic import Diagnostic, Panel
from analysis.diagnostics.lags import mean_by_lag
from analysis.diagnostics.seen import SHARES, Seen

Maps = Float[np.ndarray, "S H T T"]
CLASSES = ("reaccess", "sequential", "periodic", "unpredictable")


def shares(alpha: Maps) -> Maps:
    """Each weight's share of all attention of the real rows: they add up to 1."""
    real = ~np.isnan(alpha)
    rows = real[..., :1].sum((-2, -1), keepdims=True)
    return np.where(real, alpha, 0) / np.maximum(rows, 1)


def period(alpha: Maps, allowed: Bool[np.ndarray, "S H T T"]) -> Int[np.ndarray, "S H"]:
    """Highest positive peak at a lag > 1 of the profile's autocorrelation; 0: none."""
    profile = mean_by_lag(np.where(allowed, alpha, np.nan))
    there, T = ~np.isnan(profile), profile.shape[-1]
    profile = np.where(there, profile, 0)
    mean = profile.sum(-1, keepdims=True) / there.sum(-1, keepdims=True).clip(1)
    profile = np.where(there, profile - mean, 0)
    pairs = np.arange(T, 0, -1)
    found = mean_by_lag(profile[..., None] * profile[..., None, :]) * pairs
    peaks, inner = np.zeros_like(found), found[..., 2:-1]
    peak = (inner > found[..., 1:-2]) & (inner > found[..., 3:]) & (inner > 0)
    peaks[..., 2:-1] = np.where(peak, inner, 0)
    return peaks.argmax(-1)


def head_class(
    alpha: Maps, allowed: Bool[np.ndarray, "S H T T"]
) -> Float[np.ndarray, "S H classes"]:
    """1 at the class, in the order of `CLASSES`, else 0; NaN if rows have no choice."""
    real, count = ~np.isnan(alpha), allowed.sum(-1, keepdims=True)
    even = np.where(real, allowed / np.maximum(count, 1), np.nan)
    steps, every = np.arange(alpha.shape[-1]), period(alpha, allowed)[..., None, None]
    lag = np.abs(np.subtract.outer(steps, steps))
    comb = (every > 0) & (lag % np.maximum(every, 1) == 0)

    def masses(weights: Maps) -> np.ndarray:
        column = weights.sum(-2).max(-1)
        band, teeth = ((weights * own).sum((-2, -1)) for own in (lag < 2, comb))
        return np.stack([column, band, teeth], -1)

    own, least = masses(shares(alpha)), masses(shares(even))
    found = own - least > np.maximum((1 - least) / 2, 1e-9)
    first = np.where(found.any(-1), found.argmax(-1), len(CLASSES) - 1)
    classes = np.equal.outer(first, np.arange(len(CLASSES)))
    choice = (real & (count > 1)).any((-2, -1))[..., None]
    return np.where(choice, classes, np.nan)


_RULES = (
    "the most attended step has",
    "lags |i - j| <= 1 have",
    "lags at multiples of a period p have, 0 among them, p > 1 the highest positive "
    "peak of the autocorrelation of the mean weight by lag,",
)
_HALF = (
    "a share m of all attention with (m - m0) / (1 - m0) > 1/2, m0 its share where "
    "rows attend evenly to all they may"
)
_PANEL = Panel("Head class", "share of samples", power_law=False)


def _of_class(place: int) -> Diagnostic:
    """The share of samples in a class."""
    name = CLASSES[place]
    if place < len(_RULES):
        rule = f"{_RULES[place]} {_HALF}"
        rule += f", and it is not {' or '.join(CLASSES[:place])}" if place else ""
    else:
        rule = f"a head is not {', '.join(CLASSES[:-2])} or {CLASSES[-2]}"

    def function(seen: Seen) -> Float[np.ndarray, "S H"]:
        return head_class(seen.shares, seen.allowed)[..., place]

    return Diagnostic(
        name=f"class_{name}",
        label=f"{name} heads",
        meaning=f"share of samples in which {rule}; of {SHARES}",
        source="TAPPA, arXiv 2601.21709: its classes; the rule is ours",
        function=function,
        needs="a row that may attend to two steps or more",
        uniform=lambda _: float(name == CLASSES[-1]),
        panel=_PANEL,
    )


ENTRIES = tuple(_of_class(place) for place in range(len(CLASSES)))
