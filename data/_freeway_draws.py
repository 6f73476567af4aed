r"""What is drawn at random: demand, incidents, and what detectors read or miss.

**Demand** of an entry rises on weekdays from night to day around 6 h and has peaks
around 7:45 and 17:15; at weekends it rises around 9 h and has no peaks. Each day is
early or late by a normal draw of 21 min. Demand is multiplied by :math:`e^z`, where z
adds a normal draw for the day (deviation 0.03), one for the day and entry (0.02), and
an autoregressive process of each entry (0.04) that forgets within an hour.

**Incidents** are Poisson in number. Each begins at some interval and cell, lasts 15 to
60 min, and leaves open 0.3 to 0.7 of the lanes of the kilometre from there on, or as
much of it as there is; all are uniform. Where incidents meet, the narrower one counts.

**Missing readings** drop by themselves with probability :math:`p = 1 - \sqrt{1 -
share}`. Besides, each detector is out of order in a stationary Markov chain: with
probability p, for runs of 12 steps on average. A reading is there if both let it be,
with probability :math:`(1 - p)^2 = 1 - share`.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64

from data._freeway_network import Entry
from data._road import Road

PER_DAY = 288  # five-minute intervals
KM_PER_MILE = 1.609344

_DAY_SPREAD, _ENTRY_SPREAD, _WANDER_SPREAD = 0.03, 0.02, 0.04  # of the logarithm
_WANDER_HOURS = 1.0
_PEAK_SHIFT_HOURS = 0.35
_MORNING, _EVENING = (7.75, 1.1), (17.25, 1.4)  # hour of the peak, and its width in h
_INCIDENT_STEPS, _INCIDENT_OPEN, _INCIDENT_KM = (3, 12), (0.3, 0.7), 1.0
_LEAST_MPH = 0.5  # a reading of 0 would mean that it is missing
_RUN_STEPS = 12  # mean length of a run of missing readings


def draw_demand(
    rng: np.random.Generator, entries: Sequence[Entry], first_weekday: int, days: int
) -> Float64[np.ndarray, "T R"]:
    """Demand of R entries in veh/h over whole days; weekday 0 is Monday."""
    shape = (PER_DAY * days, len(entries))
    day = np.repeat(np.arange(days), PER_DAY)
    weekend = ((first_weekday + day) % 7 >= 5)[:, None]
    shift = rng.normal(0, _PEAK_SHIFT_HOURS, days)[day]
    clock = (np.tile(np.arange(PER_DAY) / 12, days) - shift)[:, None]
    night, plateau, morning, evening = np.array(
        [[entry.night, entry.day, entry.morning, entry.evening] for entry in entries]
    ).T
    rise = np.where(weekend, _step((clock - 9) / 0.8), _step((clock - 6) / 0.4))
    level = night + (plateau - night) * rise * _step((21 - clock) / 0.8)
    peaks = morning * _bell(clock, *_MORNING) + evening * _bell(clock, *_EVENING)
    wander = _autoregressive(rng.normal(0, _WANDER_SPREAD, shape))
    of_day = rng.normal(0, _DAY_SPREAD, (days, 1))
    of_entry = rng.normal(0, _ENTRY_SPREAD, (days, len(entries)))
    factor = np.exp((of_day + of_entry)[day] + wander)
    return (level + np.where(weekend, 0, peaks)) * factor


def _step(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _bell(clock: np.ndarray, centre: float, width: float) -> np.ndarray:
    return np.exp(-(((clock - centre) / width) ** 2) / 2)


def _autoregressive(draws: np.ndarray) -> np.ndarray:
    """A stationary process with the deviation of the independent draws, along time."""
    keep = np.exp(-1 / (12 * _WANDER_HOURS))
    process = np.empty_like(draws)
    process[0] = draws[0]
    for t in range(1, len(draws)):
        process[t] = keep * process[t - 1] + np.sqrt(1 - keep**2) * draws[t]
    return process


def draw_open_share(
    rng: np.random.Generator, road: Road, intervals: int, per_day: float
) -> Float64[np.ndarray, "T M"]:
    """How much of each cell incidents leave open: 1 where nothing is closed."""
    count = rng.poisson(per_day * intervals / PER_DAY)
    begins = rng.integers(intervals, size=count)
    lasts = rng.integers(*_INCIDENT_STEPS, size=count, endpoint=True)
    first = rng.integers(len(road.lanes), size=count)
    share = rng.uniform(*_INCIDENT_OPEN, size=count)
    open_share = np.ones((intervals, len(road.lanes)))
    for t, long, cell, left in zip(begins, lasts, first, share, strict=True):
        for _ in range(max(1, round(_INCIDENT_KM / road.cell_km))):
            closed = open_share[t : t + long, cell]
            np.minimum(closed, left, out=closed)
            if (cell := road.next_cell[cell]) < 0:
                break
    return open_share


def read_detectors(
    rng: np.random.Generator, speeds: Float64[np.ndarray, "T N"], noise_mph: float
) -> Float64[np.ndarray, "T N"]:
    """Readings in mph of true speeds in km/h, with normal errors, none below 0.5."""
    errors = rng.normal(0, noise_mph, speeds.shape)
    return np.maximum(speeds / KM_PER_MILE + errors, _LEAST_MPH)


def draw_missing(
    rng: np.random.Generator, steps: int, sensors: int, share: float
) -> Bool[np.ndarray, "T N"]:
    """Which readings are missing: an expected share, at most 0.9."""
    chance = 1 - np.sqrt(1 - share)
    repaired = 1 / _RUN_STEPS
    broken = repaired * chance / (1 - chance)
    single = rng.random((steps, sensors)) < chance
    draw = rng.random((steps, sensors))
    breaks, mends = draw < broken, draw >= 1 - repaired
    breaks[0], mends[0] = draw[0] < chance, draw[0] >= chance
    event = np.where(breaks | mends, np.arange(steps)[:, None], 0)
    last = np.maximum.accumulate(event, axis=0)  # the last event decides
    return single | np.take_along_axis(breaks, last, axis=0)
