"""A series of the embedded freeway simulator: the default data set."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd
from jaxtyping import Float64, Int

from data.freeway_demand import PER_DAY, draw_demand, draw_open_share
from data.freeway_detectors import draw_missing, read_detectors
from data.freeway_network import ENTRIES, Freeway, build_freeway, road_adjacency
from data.freeway_solver import FlowState, Simulation, simulate
from data.payne_whitham import PayneWhitham
from data.series import TrafficSeries

WARM_UP = 36  # intervals before midnight from which each day is simulated
# Days join if all cells and queues agree to this, in veh/km per lane, km/h and veh. A
# road that has forgotten differs by rounding, below 1e-11, and mostly not by a bit; one
# that has not, by whole vehicles.
JOIN = 1e-6
MOST_MISSING = 0.9


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
            nights; :func:`true_speeds` then takes longer.
        incidents_per_day: Incidents expected in a day on the whole freeway.
        noise_mph: Standard deviation of the error of a reading, in mph.
        missing_share: Share of the readings that is missing, expected.
        physics: Parameters of the equations.
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
        """Refuse what cannot be simulated.

        Raises:
            ValueError: If a number is out of its range, or ``start`` is no date.
        """
        for name, least in (("days", 1), ("seed", 0)):
            if (number := getattr(self, name)) < least:
                raise ValueError(f"{name} must be at least {least}, got {number}.")
        for name in ("demand", "incidents_per_day", "noise_mph"):
            number = getattr(self, name)
            if not (np.isfinite(number) and number >= 0):
                raise ValueError(
                    f"{name} must be finite and not negative, got {number}."
                )
        if not 0 <= self.missing_share <= MOST_MISSING:
            raise ValueError(
                f"missing_share must be from 0 to {MOST_MISSING}, got "
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


class Scenario(NamedTuple):
    """What happens on the freeway, drawn for a day before the first and all days.

    Attributes:
        freeway: The road and its detectors.
        demand: Vehicles that want to enter, in veh/h, shape (T + 288, R).
        open_share: Share of each cell that is open, shape (T + 288, M).
    """

    freeway: Freeway
    demand: Float64[np.ndarray, "T R"]
    open_share: Float64[np.ndarray, "T M"]


def draw_scenario(options: FreewayOptions) -> Scenario:
    """Draw demand and incidents.

    Args:
        options: What is simulated.

    Returns:
        What happens, the same for the same seed.
    """
    freeway = build_freeway(options.cell_km, options.detector_km)
    of_demand, of_incidents = np.random.default_rng(options.seed).spawn(2)
    days = options.days + 1
    weekday = (pd.Timestamp(options.start).weekday() - 1) % 7
    return Scenario(
        freeway=freeway,
        demand=options.demand * draw_demand(of_demand, ENTRIES, weekday, days),
        open_share=draw_open_share(
            of_incidents, freeway.road, PER_DAY * days, options.incidents_per_day
        ),
    )


def true_speeds(
    physics: PayneWhitham, scenario: Scenario
) -> Float64[np.ndarray, "T N"]:
    """Speeds at the detectors, without error.

    All days are simulated side by side, each from an empty road at 21 h of the day
    before. So the last interval of a day is simulated twice: as its end, and in the
    warm-up of the next day. If the two agree, the road has forgotten by midnight how it
    was at 21 h, and the days join. If they do not, all days are simulated in a row: so
    it is where a queue lasts through a night, at a ``demand`` of more than about 1.2.
    That takes up to three times as long.

    It runs on the CPU, in float64, so that an accelerator does not change the data.

    Args:
        physics: Parameters of the equations.
        scenario: What happens.

    Returns:
        Mean speed over each interval, from midnight of the first day, in km/h.
    """
    freeway, intervals = scenario.freeway, len(scenario.demand)
    first, midnights = PER_DAY - WARM_UP, PER_DAY * np.arange(intervals // PER_DAY - 1)
    with jax.default_device(jax.devices("cpu")[0]):
        aside = np.arange(first, 2 * PER_DAY)[:, None] + midnights
        run = _simulate_from_empty(physics, scenario, aside)
        if not _days_join(run):
            in_a_row = np.arange(first, intervals)[:, None]
            run = _simulate_from_empty(physics, scenario, in_a_row)
        speed = np.asarray(run.speed)[WARM_UP:, freeway.detector_cells]
    return np.moveaxis(speed, 2, 0).reshape(-1, len(freeway.detector_cells))


def _simulate_from_empty(
    physics: PayneWhitham, scenario: Scenario, intervals: Int[np.ndarray, "T B"]
) -> Simulation:
    """Simulate B copies of an empty road, each over T intervals of the scenario."""
    road, demand, open_share = scenario.freeway.road, *scenario[1:]
    M, R, B = len(road.lanes), demand.shape[1], intervals.shape[1]
    empty = FlowState(
        density=np.zeros((M, B)),
        speed=np.full((M, B), physics.free_speed),
        queue=np.zeros((R, B)),
    )
    return simulate(
        physics,
        road,
        empty,
        demand[intervals].swapaxes(1, 2),
        open_share[intervals].swapaxes(1, 2),
    )


def _days_join(run: Simulation) -> bool:
    """Whether each day ends as the next has it after its warm-up."""
    fields = map(np.asarray, (run.density, run.speed, run.queue))
    return all(
        (np.abs(field[-1, :, :-1] - field[WARM_UP - 1, :, 1:]) <= JOIN).all()
        for field in fields
    )


def simulate_traffic(options: FreewayOptions | None = None) -> TrafficSeries:
    """Simulate a small freeway, and what its detectors read every five minutes.

    The freeway of :func:`data.freeway_network.build_freeway`, where two roads merge,
    carries the traffic of :class:`data.payne_whitham.PayneWhitham`. Queues form at its
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
