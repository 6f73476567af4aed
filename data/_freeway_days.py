"""Days on the freeway, simulated side by side where they join.

Each day is simulated from an empty road at 21 h of the day before. So the last interval
of a day is simulated twice: as its end, and in the warm-up of the next day. If the two
agree, the road has forgotten by midnight how it was at 21 h, and the days join. If they
do not, all days are simulated in a row: so it is where a queue lasts through a night,
at a ``demand`` of more than about 1.2. That takes up to three times as long.

It runs on the CPU, in float64, so that an accelerator does not change the data.
"""

from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
import pandas as pd
from jaxtyping import Float64, Int

from data._freeway_draws import PER_DAY, draw_demand, draw_open_share
from data._freeway_network import ENTRIES, Freeway, build_freeway
from data._freeway_solver import FlowState, Simulation, simulate
from data.payne_whitham import PayneWhitham

if TYPE_CHECKING:
    from data.freeway import FreewayOptions

_WARM_UP = 36  # intervals before midnight from which each day is simulated
# Days join if all cells and queues agree to this, in veh/km per lane, km/h and veh. A
# road that has forgotten differs by rounding, below 1e-11, and mostly not by a bit; one
# that has not, by whole vehicles.
JOIN = 1e-6


class Scenario(NamedTuple):
    """What happens on the freeway, drawn for a day before the first and all days."""

    freeway: Freeway
    demand: Float64[np.ndarray, "T R"]  # vehicles that want to enter, in veh/h
    open_share: Float64[np.ndarray, "T M"]


def draw_scenario(options: "FreewayOptions") -> Scenario:
    """Demand and incidents, the same for the same seed."""
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
    """Mean speeds in km/h at the detectors, from midnight of the first day."""
    freeway, intervals = scenario.freeway, len(scenario.demand)
    first, midnights = PER_DAY - _WARM_UP, PER_DAY * np.arange(intervals // PER_DAY - 1)
    with jax.default_device(jax.devices("cpu")[0]):
        aside = np.arange(first, 2 * PER_DAY)[:, None] + midnights
        run = _simulate_from_empty(physics, scenario, aside)
        if not _days_join(run):
            in_a_row = np.arange(first, intervals)[:, None]
            run = _simulate_from_empty(physics, scenario, in_a_row)
        speed = np.asarray(run.speed)[_WARM_UP:, freeway.detector_cells]
    return np.moveaxis(speed, 2, 0).reshape(-1, len(freeway.detector_cells))


def _simulate_from_empty(
    physics: PayneWhitham, scenario: Scenario, intervals: Int[np.ndarray, "T B"]
) -> Simulation:
    """B copies of an empty road, each over T intervals of the scenario."""
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
        (np.abs(field[-1, :, :-1] - field[_WARM_UP - 1, :, 1:]) <= JOIN).all()
        for field in fields
    )
