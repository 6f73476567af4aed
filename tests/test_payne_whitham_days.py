"""Days are simulated side by side where they join, and in a row where they do not."""

import dataclasses

import numpy as np
import pytest

from data import _freeway_days
from data._freeway_days import Scenario, draw_scenario, true_speeds
from data._freeway_network import build_freeway
from data._freeway_solver import FlowState, simulate
from data.freeway import FreewayOptions
from data.payne_whitham import PayneWhitham

PHYSICS = PayneWhitham()
BUSY = FreewayOptions(days=3, cell_km=0.5, demand=1.3, incidents_per_day=0, seed=1)


def in_a_row(scenario):
    """Speeds at the detectors, all days in one simulation from 21 h on."""
    road = scenario.freeway.road
    M, R = len(road.lanes), scenario.demand.shape[1]
    start = FlowState(np.zeros((M, 1)), np.full((M, 1), 108.0), np.zeros((R, 1)))
    wanted, share = (part[288 - 36 :, :, None] for part in scenario[1:])
    run = simulate(PHYSICS, road, start, wanted, share)
    return np.asarray(run.speed)[36:, scenario.freeway.detector_cells, 0]


@pytest.fixture
def ways(monkeypatch):
    """How many copies of the road each simulation of ``true_speeds`` had."""
    copies = []

    def watched(physics, road, start, *args):
        copies.append(start.density.shape[1])
        return simulate(physics, road, start, *args)

    monkeypatch.setattr(_freeway_days, "simulate", watched)
    return copies


def test_the_default_days_are_simulated_side_by_side_as_if_in_a_row(ways):
    scenario = draw_scenario(FreewayOptions(days=5))
    aside = true_speeds(PHYSICS, scenario)
    assert ways == [5]
    np.testing.assert_allclose(aside, in_a_row(scenario), rtol=0, atol=1e-9)


def test_days_whose_queues_last_through_the_night_are_simulated_in_a_row(ways):
    scenario = draw_scenario(BUSY)
    speeds = true_speeds(PHYSICS, scenario)
    assert ways == [3, 1]
    np.testing.assert_array_equal(speeds, in_a_row(scenario))
    alone = Scenario(scenario.freeway, *(part[288:864] for part in scenario[1:]))
    empty_at_21 = true_speeds(PHYSICS, alone)[:12]  # the second day, begun anew
    assert np.abs(speeds[288:300] - empty_at_21).max() > 50  # there was a queue


def test_a_queue_outside_an_entry_alone_keeps_days_from_joining(ways):
    road = build_freeway(0.5)
    demand = np.zeros((3 * 288, 4))
    demand[:, 2] = 2200.0  # of a ramp that lets in 2,099
    demand[432:444, 2] = 4000.0  # at noon of the first day, for an hour
    demand[2 * 288 + 1 :] = 0.0  # from 0:05 of the second day
    scenario = Scenario(road, demand, np.ones((3 * 288, len(road.road.lanes))))
    speeds = true_speeds(PHYSICS, scenario)
    assert ways == [2, 1]
    np.testing.assert_array_equal(speeds, in_a_row(scenario))


@pytest.mark.parametrize("field", ["density", "speed", "queue"])
def test_a_difference_of_any_part_of_the_state_keeps_days_from_joining(
    monkeypatch, ways, field
):
    scenario = draw_scenario(dataclasses.replace(BUSY, days=2, demand=1.0))
    watched = _freeway_days.simulate

    def disturbed(*args):
        run = watched(*args)
        part = np.array(getattr(run, field))
        part[-1, 0, 0] += 2 * _freeway_days.JOIN
        return run._replace(**{field: part})

    true_speeds(PHYSICS, scenario)
    assert ways == [2]
    monkeypatch.setattr(_freeway_days, "simulate", disturbed)
    true_speeds(PHYSICS, scenario)
    assert ways == [2, 2, 1]
