"""What happens on a freeway: how many want to drive, and where lanes are closed."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from data.freeway_network import Entry
from data.freeway_road import Road

PER_DAY = 288  # five-minute intervals
DAY_SPREAD, ENTRY_SPREAD, WANDER_SPREAD = 0.03, 0.02, 0.04  # of the logarithm
WANDER_HOURS = 1.0
PEAK_SHIFT_HOURS = 0.35
MORNING, EVENING = (7.75, 1.1), (17.25, 1.4)  # hour of the peak, and its width in h
INCIDENT_STEPS, INCIDENT_OPEN, INCIDENT_KM = (3, 12), (0.3, 0.7), 1.0


def draw_demand(
    rng: np.random.Generator, entries: Sequence[Entry], first_weekday: int, days: int
) -> Float64[np.ndarray, "T R"]:
    r"""Draw the demand of each entry for whole days.

    On weekdays it rises from night to day around 6 h and has peaks around 7:45 and
    17:15; at weekends it rises around 9 h and has no peaks. Each day is early or late
    by a normal draw of 21 min. Demand is multiplied by :math:`e^z`, where z adds a
    normal draw for the day (deviation 0.03), one for the day and entry (0.02), and an
    autoregressive process of each entry (0.04) that forgets within an hour.

    Args:
        rng: Source of the draws.
        entries: The R entries.
        first_weekday: Weekday of the first day, 0 for Monday.
        days: Number of days.

    Returns:
        Demand in veh/h in each of T = 288 ``days`` intervals, shape (T, R).

    Example:
        >>> from data.freeway_network import ENTRIES
        >>> demand = draw_demand(np.random.default_rng(0), ENTRIES, 0, 7)
        >>> total = demand.sum(axis=1).reshape(7, 288)
        >>> morning = total[:, 7 * 12 : 9 * 12].mean(axis=1)
        >>> bool(morning[:5].min() > 2 * morning[5:].max())  # Saturday, Sunday
        True
    """
    shape = (PER_DAY * days, len(entries))
    day = np.repeat(np.arange(days), PER_DAY)
    weekend = ((first_weekday + day) % 7 >= 5)[:, None]
    shift = rng.normal(0, PEAK_SHIFT_HOURS, days)[day]
    clock = (np.tile(np.arange(PER_DAY) / 12, days) - shift)[:, None]
    night, plateau, morning, evening = np.array(
        [[entry.night, entry.day, entry.morning, entry.evening] for entry in entries]
    ).T
    rise = np.where(weekend, _step((clock - 9) / 0.8), _step((clock - 6) / 0.4))
    level = night + (plateau - night) * rise * _step((21 - clock) / 0.8)
    peaks = morning * _bell(clock, *MORNING) + evening * _bell(clock, *EVENING)
    wander = _autoregressive(rng.normal(0, WANDER_SPREAD, shape))
    of_day = rng.normal(0, DAY_SPREAD, (days, 1))
    of_entry = rng.normal(0, ENTRY_SPREAD, (days, len(entries)))
    factor = np.exp((of_day + of_entry)[day] + wander)
    return (level + np.where(weekend, 0, peaks)) * factor


def _step(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _bell(clock: np.ndarray, centre: float, width: float) -> np.ndarray:
    return np.exp(-(((clock - centre) / width) ** 2) / 2)


def _autoregressive(draws: np.ndarray) -> np.ndarray:
    """A stationary process with the deviation of the independent draws, along time."""
    keep = np.exp(-1 / (12 * WANDER_HOURS))
    process = np.empty_like(draws)
    process[0] = draws[0]
    for t in range(1, len(draws)):
        process[t] = keep * process[t - 1] + np.sqrt(1 - keep**2) * draws[t]
    return process


def draw_open_share(
    rng: np.random.Generator, road: Road, intervals: int, per_day: float
) -> Float64[np.ndarray, "T M"]:
    """Draw incidents, and how much of the road they leave open.

    Their number is Poisson. Each begins at some interval and cell, lasts 15 to 60 min,
    and leaves open 0.3 to 0.7 of the lanes of the kilometre from there on, or as much
    of it as there is; all are uniform. Where incidents meet, the narrower one counts.

    Args:
        rng: Source of the draws.
        road: The M cells.
        intervals: Number T of five-minute intervals.
        per_day: Incidents expected in a day.

    Returns:
        Shares, shape (T, M): 1 where nothing is closed.

    Example:
        >>> from data.freeway_network import build_freeway
        >>> road = build_freeway().road
        >>> share = draw_open_share(np.random.default_rng(1), road, 288, 3.0)
        >>> share.shape, bool(0.3 <= share.min() < 1), float(share.max())
        ((288, 72), True, 1.0)
    """
    count = rng.poisson(per_day * intervals / PER_DAY)
    begins = rng.integers(intervals, size=count)
    lasts = rng.integers(*INCIDENT_STEPS, size=count, endpoint=True)
    first = rng.integers(len(road.lanes), size=count)
    share = rng.uniform(*INCIDENT_OPEN, size=count)
    open_share = np.ones((intervals, len(road.lanes)))
    for t, long, cell, left in zip(begins, lasts, first, share, strict=True):
        for _ in range(max(1, round(INCIDENT_KM / road.cell_km))):
            closed = open_share[t : t + long, cell]
            np.minimum(closed, left, out=closed)
            if (cell := road.next_cell[cell]) < 0:
                break
    return open_share
