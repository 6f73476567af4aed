"""Off-ramps take the share that they state, and no more than conservation asks for."""

import dataclasses

import numpy as np
import pytest

from data._freeway_network import EXIT_SHARE, build_freeway
from data._freeway_solver import FlowState, simulate
from data.payne_whitham import PayneWhitham, equilibrium_speed
from tests.test_payne_whitham import PHYSICS, drive, straight

# Drivers who keep their speed: what changes it is transport alone.
STUBBORN = PayneWhitham(relaxation=1e15, viscosity=0.0)


def with_exit(road, cell, share):
    """The road with an off-ramp at the end of a cell."""
    exit_share = np.where(np.arange(len(road.lanes)) == cell, share, 0.0)
    return dataclasses.replace(road, exit_share=exit_share)


def stubborn(road, speed, T, demand=0.0, **options):
    """Traffic of 20 veh/km per lane at one speed, of drivers who keep it."""
    M, R = len(road.lanes), len(road.entry_cells)
    start = FlowState(np.full((M, 1), 20.0), np.full((M, 1), speed), np.zeros((R, 1)))
    wanted, share = np.full((T, R, 1), demand), np.ones((T, M, 1))
    return simulate(STUBBORN, road, start, wanted, share, **options)


def flows(road, run):
    """Flow in each cell at the end, in veh/h."""
    density, speed, _ = (np.asarray(field) for field in run.final)
    return road.lanes * density[:, 0] * speed[:, 0]


@pytest.mark.parametrize("share", [0.15, 0.9])
@pytest.mark.parametrize("M", [12, 24])
def test_the_share_that_leaves_in_free_traffic_is_the_one_stated(M, share):
    road = with_exit(straight(M, 6.0), M // 2 - 1, share)  # at km 3
    run = drive(road, 10.0, 100.0, 24, 2000.0)  # two hours
    flow = flows(road, run)
    np.testing.assert_allclose(flow[: M // 2], np.full(M // 2, 2000.0), rtol=1e-9)
    np.testing.assert_allclose(1 - flow[M // 2 :] / 2000, share, rtol=1e-9)


@pytest.mark.parametrize("cell_km", [0.5, 0.25])
def test_of_the_freeway_15_percent_leave_at_kilometre_9(cell_km):
    road = build_freeway(cell_km).road
    M, R = len(road.lanes), len(road.entry_cells)
    start = FlowState(np.zeros((M, 1)), np.full((M, 1), 108.0), np.zeros((R, 1)))
    night = np.tile([[460.0], [230.0], [70.0], [120.0]], (24, 1, 1))
    flow = flows(road, simulate(PHYSICS, road, start, night, np.ones((24, M, 1))))
    at_9, at_10 = round(9 / cell_km), round(10 / cell_km)
    assert EXIT_SHARE == 0.15
    np.testing.assert_allclose(flow[at_9 - 1], 760, rtol=1e-9)
    np.testing.assert_allclose(flow[at_9:at_10], 0.85 * 760, rtol=1e-9)


@pytest.mark.parametrize("speed", [30.0, 80.0])  # slower and faster than the sound
def test_vehicles_leave_at_the_speed_of_the_flow(speed):
    road = with_exit(straight(8, 2.0, ring=True), 3, 0.4)
    interval = 1e-4
    run = stubborn(road, speed, 1, interval=interval, steps=1)
    expected = np.full((8, 1), 20.0)
    expected[4] -= 0.4 * 20 * speed * interval / 0.25
    np.testing.assert_allclose(run.final.density, expected, rtol=1e-13)
    np.testing.assert_allclose(run.final.speed, np.full((8, 1), speed), rtol=1e-13)
    leaving = 0.4 * 2 * 20 * speed * interval
    assert float(run.left[0, 0]) == pytest.approx(leaving, rel=1e-12)


def test_those_who_go_on_gain_what_the_pressure_falls_by_and_no_more():
    road = with_exit(straight(16, 4.0), 7, 0.05)
    run = stubborn(road, 80.0, 6, 2 * 20 * 80.0)
    density, speed, _ = (np.asarray(field)[:, 0] for field in run.final)
    np.testing.assert_allclose(speed[:8], np.full(8, 80.0), rtol=1e-12)
    gain = 0.95 * 20 * 80 * (speed[8] - 80)  # of momentum, per lane
    fall = STUBBORN.sound_speed**2 * (20 - density[8])
    assert fall > 0
    assert gain == pytest.approx(fall, rel=1e-9)
    np.testing.assert_allclose(speed[8:], np.full(8, speed[8]), rtol=1e-10)


def test_an_exit_at_an_open_end_changes_nothing_there():
    road = straight(12, 3.0)
    plain, left_by_ramp = (
        drive(each, 20.0, 90.0, 6, 3000.0) for each in (road, with_exit(road, 11, 0.3))
    )
    for a, b in zip(plain.final, left_by_ramp.final, strict=True):
        assert (np.asarray(a) == np.asarray(b)).all()  # to the bit
    assert (np.asarray(plain.left) == np.asarray(left_by_ramp.left)).all()
    assert float(plain.left.sum()) > 1000


def test_a_standing_queue_beyond_an_exit_holds_up_those_who_want_to_leave():
    road = with_exit(straight(8, 2.0, ring=True), 3, 0.4)
    density = np.where(np.arange(8) == 3, 60.0, 140.0)
    speed = np.asarray(equilibrium_speed(PHYSICS, density))
    assert speed[3] > 20
    run = drive(road, density, speed, 1, interval=1e-4, steps=1)
    assert float(run.left[0, 0]) == 0  # exactly
