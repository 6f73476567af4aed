"""The exponent of a power law in the length T, with its interval."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats


class PowerLaw(NamedTuple):
    """A fitted exponent; all NaN where there are too few points.

    Attributes:
        exponent: Least-squares slope of log values on log lengths.
        low: Lower end of its 95 % t interval.
        high: Upper end.
    """

    exponent: float
    low: float
    high: float


def fit_power_law(
    lengths: Float[np.ndarray, " P"], values: Float[np.ndarray, " P"], eps: float
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
    kept = values > 64 * eps * np.max(values, initial=0)
    x, y = np.log(lengths[kept]), np.log(values[kept])
    if len(np.unique(x)) < 3:
        return PowerLaw(np.nan, np.nan, np.nan)
    fit = stats.linregress(x, y)
    reach = stats.t.ppf(0.975, len(x) - 2) * fit.stderr
    return PowerLaw(
        float(fit.slope), float(fit.slope - reach), float(fit.slope + reach)
    )
