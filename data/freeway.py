"""A series of the embedded freeway simulator: the default data set."""

import dataclasses

import numpy as np
import pandas as pd

from data._freeway_days import draw_scenario, true_speeds
from data._freeway_draws import draw_missing, read_detectors
from data._freeway_network import build_freeway, road_adjacency
from data.payne_whitham import PayneWhitham
from data.series import TrafficSeries

_MOST_MISSING = 0.9


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FreewayOptions:
    """What is simulated.

    Attributes:
        days: Number of days, from midnight.
        seed: Seed of all draws.
        start: Date of the first day, as ``"2024-01-01"`` (a Monday).
        cell_km: Length of a cell of the solver in km; a whole number must fit in
            0.5 km and in ``detector_km``.
        detector_km: Distance of detectors in km.
        demand: Factor on the number of vehicles. Above about 1.2 queues last through
            nights; the simulation then takes longer.
        incidents_per_day: Incidents expected in a day on the whole freeway.
        noise_mph: Standard deviation of the error of a reading, in mph.
        missing_share: Share of the readings that is missing, expected.
        physics: Parameters of the equations.

    Raises:
        ValueError: If a number is out of its range, or ``start`` is no date.
    """

    days: int = 35
    seed: int = 0
    start: str = "2024-01-01"
    cell_km: float = 0.25
    detector_km: float = 1.0
    demand: float = 1.0
    incidents_per_day: float = 3.0
    noise_mph: float = 1.5
    missing_share: float = 0.04
    physics: PayneWhitham = PayneWhitham()

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated."""
        for name, least in (("days", 1), ("seed", 0)):
            if (number := getattr(self, name)) < least:
                raise ValueError(f"{name} must be at least {least}, got {number}.")
        for name in ("demand", "incidents_per_day", "noise_mph"):
            number = getattr(self, name)
            if not (np.isfinite(number) and number >= 0):
                raise ValueError(
                    f"{name} must be finite and not negative, got {number}."
                )
        if not 0 <= self.missing_share <= _MOST_MISSING:
            raise ValueError(
                f"missing_share must be from 0 to {_MOST_MISSING}, got "
                f"{self.missing_share}."
            )
        try:
            date = pd.to_datetime(self.start, format="%Y-%m-%d")
        except ValueError:
            date = pd.NaT
        if date is pd.NaT:
            raise ValueError(
                f"start must be a date as '2024-01-01', got {self.start!r}."
            )
        build_freeway(self.cell_km, self.detector_km)  # checks the two lengths


def simulate_traffic(options: FreewayOptions | None = None) -> TrafficSeries:
    """Simulate a small freeway, and what its detectors read every five minutes.

    A main road of 14 km, a branch that joins it and two ramps (`data._freeway_network`)
    carry the traffic of :class:`data.payne_whitham.PayneWhitham`. Queues form at their
    bottlenecks in the morning and the evening of weekdays, by day earlier or later,
    longer or shorter, and behind incidents; they grow and dissolve against the
    traffic, so that a detector tells what its neighbour will read.

    By default: 10,080 steps of 5 min (35 days), 18 detectors, mph, 4 % missing (single
    readings, and runs of an hour on average), as 0. The graph is directed, from a
    detector to those down the road.

    Args:
        options: What is simulated; the default data set if None.

    Returns:
        The series, the same to the bit for the same options on the same machine.

    Example:
        >>> series = simulate_traffic(FreewayOptions(days=1, cell_km=0.5))
        >>> series.values.shape, series.sensor_ids[0], series.name
        ((288, 18), 'main-0.5', 'payne-whitham')

    References:
        arXiv 2602.10956, Eq. 31-32.
    """
    options = FreewayOptions() if options is None else options
    scenario = draw_scenario(options)
    speeds = true_speeds(options.physics, scenario)
    of_noise, of_missing = np.random.default_rng(options.seed).spawn(4)[2:]
    readings = read_detectors(of_noise, speeds, options.noise_mph)
    missing = draw_missing(
        of_missing, len(speeds), len(speeds[0]), options.missing_share
    )
    return TrafficSeries(
        values=np.where(missing, 0.0, readings),
        missing=missing,
        time=pd.date_range(options.start, periods=len(speeds), freq="5min"),
        sensor_ids=scenario.freeway.detector_names,
        adjacency=road_adjacency(scenario.freeway.distances),
        name="payne-whitham",
    )
