"""What one source step gets of the attention of the rows."""

import numpy as np
from jaxtyping import Bool, Float

from analysis.diagnostics.diagnostic import Curve, Diagnostic, Panel
from analysis.diagnostics.seen import Seen


def mean_where(
    table: Float[np.ndarray, "..."], there: Bool[np.ndarray, "..."], axis: int
) -> Float[np.ndarray, "..."]:
    """Mean along an axis of what is there; NaN where nothing is."""
    count = there.sum(axis)
    missing = np.full(count.shape, np.nan)
    total = np.where(there, table, 0).sum(axis)
    return np.divide(total, count, where=count > 0, out=missing)


def largest_column_mean(
    alpha: Float[np.ndarray, "*batch T T"],
) -> Float[np.ndarray, "*batch"]:
    """The share of the step that is attended most, a sink: from 1/T to 1."""
    return mean_where(alpha, ~np.isnan(alpha), -2).max(-1)


def salience(
    alpha: Float[np.ndarray, "*batch T T"], allowed: Bool[np.ndarray, "*batch T T"]
) -> Float[np.ndarray, "*batch T"]:
    """Mean weight of every step over the rows that may attend to it; NaN if none."""
    return mean_where(alpha, allowed & ~np.isnan(alpha), -2)


def mean_over_steps(
    values: Float[np.ndarray, "*batch T"],
) -> Float[np.ndarray, "*batch"]:
    """Mean over the steps that have a value."""
    return mean_where(values, ~np.isnan(values), -1)


def largest_salience(
    salience: Float[np.ndarray, "*batch T"],
) -> Float[np.ndarray, "*batch"]:
    """Of the steps that have a value."""
    return np.fmax.reduce(salience, -1)


def of_steps(seen: Seen) -> Float[np.ndarray, "S H T"]:
    """`salience` of every step of a layer's heads."""
    return salience(seen.alpha, seen.allowed)


ZIPCACHE = "ZipCache, arXiv 2405.14256: normalised attention scores"
_SALIENCE = Panel("Salience of a step")
ENTRIES = (
    Diagnostic(
        name="largest_column_mean",
        label="largest column mean",
        meaning="share of all rows' attention that the most attended step of a sample "
        "gets, mean over samples",
        source="attention sinks: Xiao et al., arXiv 2309.17453",
        function=lambda seen: largest_column_mean(seen.alpha),
        uniform=lambda T: 1 / T,
    ),
    Diagnostic(
        name="mean_salience",
        label="mean salience",
        meaning="mean weight of a step over the rows that may attend to it (its "
        "salience), mean over steps and samples: 1/T without a mask",
        source=f"{ZIPCACHE}; their mean is ours",
        function=lambda seen: mean_over_steps(of_steps(seen)),
        uniform=lambda T: 1 / T,
        panel=_SALIENCE,
    ),
    Diagnostic(
        name="largest_salience",
        label="largest salience",
        meaning="mean weight of a step over the rows that may attend to it (its "
        "salience), of the most salient step of a sample; mean over samples",
        source=f"{ZIPCACHE}; their largest is ours",
        function=lambda seen: largest_salience(of_steps(seen)),
        uniform=lambda T: 1 / T,
        panel=_SALIENCE,
    ),
)
CURVES = (
    Curve(
        name="sink_by_age",
        label="salience by age",
        meaning="mean weight of a step over the rows that may attend to it, by the "
        "age T - 1 - j of the step: 0 is the newest",
        source="ours: the importance of Gu et al., arXiv 2410.10781, by age",
        over="age T - 1 - j of the step (steps)",
        function=lambda seen: of_steps(seen)[..., ::-1],
        uniform=lambda T: np.full(T, 1 / T),
    ),
)
