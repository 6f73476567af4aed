"""What detectors make of the true speeds: miles, errors, and readings that drop out."""

import numpy as np
from jaxtyping import Bool, Float64

KM_PER_MILE = 1.609344
LEAST_MPH = 0.5  # a reading of 0 would mean that it is missing
RUN_STEPS = 12  # mean length of a run of missing readings


def read_detectors(
    rng: np.random.Generator, speeds: Float64[np.ndarray, "T N"], noise_mph: float
) -> Float64[np.ndarray, "T N"]:
    """Readings of true speeds.

    Args:
        rng: Source of the errors.
        speeds: Speeds in km/h, shape (T, N).
        noise_mph: Standard deviation of the normal errors, in mph.

    Returns:
        Readings in mph, shape (T, N), none below 0.5.

    Example:
        >>> read_detectors(np.random.default_rng(0), np.array([[0.0, 80.4672]]), 0.0)
        array([[ 0.5, 50. ]])
    """
    errors = rng.normal(0, noise_mph, speeds.shape)
    return np.maximum(speeds / KM_PER_MILE + errors, LEAST_MPH)


def draw_missing(
    rng: np.random.Generator, steps: int, sensors: int, share: float
) -> Bool[np.ndarray, "T N"]:
    r"""Draw which readings are missing: some single, some in runs.

    A reading drops by itself with probability :math:`p = 1 - \sqrt{1 - share}`.
    Besides, each detector is out of order in a stationary Markov chain: with
    probability p, for runs of 12 steps on average. A reading is there if both let it
    be, with probability :math:`(1 - p)^2 = 1 - share`.

    Args:
        rng: Source of the draws.
        steps: Number T of steps.
        sensors: Number N of detectors.
        share: Share of the readings that is missing, expected; at most 0.9.

    Returns:
        Whether each is missing, shape (T, N).

    Example:
        >>> missing = draw_missing(np.random.default_rng(0), 20000, 5, 0.1)
        >>> round(float(missing.mean()), 2)
        0.1
    """
    chance = 1 - np.sqrt(1 - share)
    repaired = 1 / RUN_STEPS
    broken = repaired * chance / (1 - chance)
    single = rng.random((steps, sensors)) < chance
    draw = rng.random((steps, sensors))
    breaks, mends = draw < broken, draw >= 1 - repaired
    breaks[0], mends[0] = draw[0] < chance, draw[0] >= chance
    event = np.where(breaks | mends, np.arange(steps)[:, None], 0)
    last = np.maximum.accumulate(event, axis=0)  # the last event decides
    return single | np.take_along_axis(breaks, last, axis=0)
