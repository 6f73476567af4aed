"""Statistics of results: the spread over seeds, the paired t interval, a power law."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

SEEDS_FOR_AN_INTERVAL = 3
"""With two seeds the t interval is so wide that it says nothing."""
_LENGTHS_FOR_AN_EXPONENT = 3


class Spread(NamedTuple):
    """One variant over its seeds."""

    mean: float
    std: float  # sample standard deviation; NaN with one seed


class Difference(NamedTuple):
    """A variant minus another, over the seeds that both have."""

    mean: float  # of the differences, seed by seed; NaN without a common seed
    low: float  # lower end of the 95 % t interval of the mean; NaN below 3 seeds
    high: float
    seeds: int  # that both have


class PowerLaw(NamedTuple):
    """A fitted exponent; all NaN where there are too few points."""

    exponent: float  # least-squares slope of log values on log lengths
    low: float  # lower end of its 95 % t interval
    high: float


class Correlations(NamedTuple):
    """Spearman's rank correlations of m quantities with t others, each (m, t)."""

    value: Float[np.ndarray, "m t"]  # NaN where one of the two does not vary
    low: Float[np.ndarray, "m t"]  # lower end of the 95 % interval; NaN of few groups
    high: Float[np.ndarray, "m t"]
    rows: Int[np.ndarray, "m t"]  # rows that have both values


def spread(values: Float[np.ndarray, " S"] | Sequence[float]) -> Spread:
    """Mean and sample standard deviation (divisor S - 1) over seeds.

    Args:
        values: One number per seed.

    Returns:
        Both, in the unit of the values.

    Raises:
        ValueError: If there is no value.

    Example:
        >>> spread([1.0, 2.0, 3.0])
        Spread(mean=2.0, std=1.0)
        >>> spread([5.0])
        Spread(mean=5.0, std=nan)
    """
    x = np.asarray(values, np.float64)
    if x.size < 1:
        raise ValueError("values must hold at least one seed, got none.")
    return Spread(float(x.mean()), float(x.std(ddof=1)) if x.size > 1 else np.nan)


def paired_difference(
    variant: Mapping[int, float], reference: Mapping[int, float]
) -> Difference:
    r"""What a variant adds to the error, seed by seed, with its 95 % t interval.

    With the differences :math:`d_s` over the S common seeds, their mean
    :math:`\bar d` and their sample standard deviation :math:`\sigma_d`,

    .. math:: \bar d \pm t_{0.975,\, S - 1}\, \sigma_d / \sqrt{S}

    Runs with the same seed share what the seed decides (first weights, order of the
    batches), so that their difference varies less than either error. The interval takes
    the differences to be drawn from one normal distribution.

    Args:
        variant: Error by seed.
        reference: Error by seed of what it is compared with.

    Returns:
        Variant minus reference: below 0 the variant is better.

    Example:
        >>> one, two = {0: 3.0, 1: 3.1, 2: 3.2, 7: 9.9}, {0: 3.0, 1: 3.0, 2: 3.0}
        >>> difference = paired_difference(one, two)
        >>> [round(x, 3) for x in difference[:3]], difference.seeds
        ([0.1, -0.148, 0.348], 3)

    References:
        Student, `The probable error of a mean <https://doi.org/10.2307/2331554>`_,
        Biometrika 6, 1908.
    """
    common = sorted(variant.keys() & reference.keys())
    if not common:
        return Difference(np.nan, np.nan, np.nan, 0)
    mean, std = spread([variant[seed] - reference[seed] for seed in common])
    count = len(common)
    if count < SEEDS_FOR_AN_INTERVAL:
        return Difference(mean, np.nan, np.nan, count)
    reach = _t(count - 1) * std / count**0.5
    return Difference(mean, mean - reach, mean + reach, count)


def fit_power_law(
    lengths: Float[np.ndarray, " P"] | Sequence[float],
    values: Float[np.ndarray, " P"] | Sequence[float],
    eps: float,
) -> PowerLaw:
    """Fit ``values ~ lengths ** exponent``.

    Points below 64 roundings of the largest are zero to rounding, and left out: noise
    has no exponent.

    Args:
        lengths: Numbers of time steps.
        values: What is measured there.
        eps: Rounding of the dtype they were computed in.

    Returns:
        The fit; NaN below three different lengths.

    Example:
        >>> T = np.array([8.0, 16.0, 32.0])
        >>> round(fit_power_law(T, 3 / T, 1e-16).exponent, 6)
        -1.0
    """
    T, y = np.asarray(lengths), np.asarray(values)
    kept = y > 64 * eps * np.max(y, initial=0)
    T, y = np.log(T[kept]), np.log(y[kept])
    if len(np.unique(T)) < _LENGTHS_FOR_AN_EXPONENT:
        return PowerLaw(np.nan, np.nan, np.nan)
    fit = stats.linregress(T, y)
    slope, reach = float(fit.slope), _t(len(T) - 2) * float(fit.stderr)
    return PowerLaw(slope, slope - reach, slope + reach)


def _t(freedom: int) -> float:
    """How many standard errors a 95 % interval reaches to either side."""
    return float(stats.t.ppf(0.975, freedom))


def rank_correlations(
    x: Float[np.ndarray, "n m"],
    y: Float[np.ndarray, "n t"],
    group: Int[np.ndarray, " n"],
    resamples: int = 1000,
) -> Correlations:
    """Spearman's correlations, and their intervals by bootstrap over whole groups.

    Members of a group, such as the heads of one model, are not independent: groups are
    drawn with replacement, their members stay together.

    Args:
        x: Quantities, NaN where one has no value: each pair leaves such rows out.
        y: Others, likewise.
        group: Number of each row's group.
        resamples: How often groups are drawn.

    Returns:
        The correlations; intervals are NaN below `SEEDS_FOR_AN_INTERVAL` groups.

    Example:
        >>> import numpy as np
        >>> numbers = np.arange(6.0)[:, None]
        >>> rank_correlations(numbers, numbers**3, np.arange(6) // 2).value.tolist()
        [[1.0]]
    """
    there, given = ~np.isnan(x), ~np.isnan(y)
    value, low, high = np.full((3, x.shape[1], y.shape[1]), np.nan)
    patterns = (np.unique(table, axis=1).T for table in (there, given))
    for of_x, of_y in itertools.product(*patterns):
        rows = of_x & of_y
        columns, targets = (
            np.flatnonzero((table == pattern[:, None]).all(0))
            for table, pattern in ((there, of_x), (given, of_y))
        )
        own, other, whose = x[rows][:, columns], y[rows][:, targets], group[rows]
        pairs = np.ix_(columns, targets)
        value[pairs] = _spearman(own, other)
        groups = np.unique(whose)
        if len(groups) >= SEEDS_FOR_AN_INTERVAL:
            members = [np.flatnonzero(whose == one) for one in groups]
            rng, drawn = np.random.default_rng(0), []
            for _ in range(resamples):
                chosen = rng.integers(len(groups), size=len(groups))
                drawn_rows = np.concatenate([members[one] for one in chosen])
                drawn.append(_spearman(own[drawn_rows], other[drawn_rows]))
            ends = np.quantile(np.stack(drawn), [0.025, 0.975], axis=0)
            low[pairs], high[pairs] = ends
    return Correlations(value, low, high, there.T.astype(int) @ given.astype(int))


def _spearman(
    x: Float[np.ndarray, "n m"], y: Float[np.ndarray, "n t"]
) -> Float[np.ndarray, "m t"]:
    """Pearson's correlations of ranks; NaN where a column does not vary."""
    ranks = [stats.rankdata(part, axis=0) for part in (x, y)]
    centred = [part - part.mean(0) for part in ranks] if len(x) else ranks
    size = np.outer(*(np.linalg.norm(part, axis=0) for part in centred))
    missing = np.full(size.shape, np.nan)
    return np.divide(centred[0].T @ centred[1], size, where=size > 0, out=missing)
