"""The traffic equations: what is true of them comes out of the solver again."""

import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data._freeway_network import EXIT_SHARE, build_freeway
from data._freeway_solver import FlowState, face_flux, flux, simulate, stable_step
from data._road import Road
from data.payne_whitham import (
    PayneWhitham,
    equilibrium_speed,
    growth_rates,
    kinematic_speed,
)

PHYSICS = PayneWhitham()
# Drivers who keep their speed: what changes it is transport alone.
STUBBORN = PayneWhitham(relaxation=1e15, viscosity=0.0)
MINUTE = 1 / 60


def straight(M, km, *, ring=False, lanes=None):
    """A road, closed to a ring or fed at its first cell."""
    following = np.arange(1, M + 1)
    following[-1] = 0 if ring else -1
    lanes = np.full(M, 2.0) if lanes is None else lanes
    return Road(
        cell_km=km / M,
        lanes=lanes,
        next_cell=following,
        entry_cells=np.zeros(0 if ring else 1, int),
        entry_lanes=lanes[: 0 if ring else 1],
        exit_share=np.zeros(M),
    )


def drive(
    road,
    density,
    speed,
    T,
    demand: float | np.ndarray = 0.0,
    open_share: float | np.ndarray = 1.0,
    physics=PHYSICS,
    **options,
):
    """One copy of a road, without a queue at the beginning."""
    R, M = len(road.entry_cells), len(road.lanes)
    density, speed = (np.broadcast_to(v, M)[:, None] for v in (density, speed))
    wanted = np.broadcast_to(demand, (T, R))[:, :, None]
    share = np.broadcast_to(open_share, (T, M))[:, :, None]
    start = FlowState(density, speed, np.zeros((R, 1)))
    return simulate(physics, road, start, wanted, share, **options)


def on_road(road, density):
    """Vehicles on the road."""
    return float(road.lanes @ np.asarray(density).reshape(-1)) * road.cell_km


# --- the equations ------------------------------------------------------------------


def test_the_kinematic_speed_is_the_slope_of_the_flow():
    density = np.linspace(0, 139, 500)
    slope = jax.vmap(jax.grad(lambda rho: rho * equilibrium_speed(PHYSICS, rho)))
    expected = jax.jit(slope)(density)
    np.testing.assert_allclose(
        kinematic_speed(PHYSICS, density), expected, rtol=1e-9, atol=1e-9
    )


def test_no_density_carries_more_than_the_capacity():
    density = np.linspace(0, 140, 100_001)
    flow = density * np.asarray(equilibrium_speed(PHYSICS, density))
    assert flow.max() == pytest.approx(PHYSICS.capacity, rel=1e-9)
    assert density[flow.argmax()] == pytest.approx(PHYSICS.critical_density, abs=2e-3)


def test_the_characteristics_are_the_speed_plus_and_minus_the_sound_speed():
    def of_state(state):  # density and momentum
        return jax.numpy.stack(flux(PHYSICS, state[0], state[1] / state[0]))

    density, speed = (v.ravel() for v in np.meshgrid([1.0, 30, 150], [0.0, 54, 108]))
    jacobian = jax.vmap(jax.jacobian(of_state))(np.stack([density, density * speed], 1))
    characteristics = np.sort(np.linalg.eigvals(np.asarray(jacobian)).real)
    expected = np.stack([speed - 54, speed + 54], 1)
    np.testing.assert_allclose(characteristics, expected, atol=1e-9)


@given(st.floats(0, 150), st.floats(0, 108))
def test_the_flow_through_a_face_is_that_of_two_equal_sides(rho, v):
    density, speed = jax.numpy.asarray(rho), jax.numpy.asarray(v)
    actual = face_flux(PHYSICS, (density, density), (speed, speed))
    assert actual == flux(PHYSICS, density, speed)  # to the bit


def test_long_waves_travel_at_the_kinematic_speed_and_grow_in_a_queue_only():
    for density, grows in ((10.0, False), (40.0, True), (120.0, False)):
        slow = growth_rates(PHYSICS, density, 100.0)[0]
        speed = -slow.imag / (2 * np.pi / 100)
        kinematic = float(kinematic_speed(PHYSICS, density))
        assert speed == pytest.approx(kinematic, abs=0.3)
        assert bool(slow.real > 0) is grows
        behind = float(equilibrium_speed(PHYSICS, density)) - kinematic  # -rho V'
        assert bool(behind > PHYSICS.sound_speed) is grows  # Whitham's criterion


@pytest.mark.parametrize("number", [-1.0, 0.0, np.nan, np.inf])
@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(PayneWhitham)])
def test_parameters_without_a_meaning_are_refused(field, number):
    if (field, number) == ("viscosity", 0):
        assert PayneWhitham(viscosity=0).viscosity == 0
        return
    with pytest.raises(ValueError, match=f"^{field} must be .*, got {number}"):
        PayneWhitham(**{field: number})


# --- the solver ---------------------------------------------------------------------


@pytest.mark.parametrize("density", [0.0, 12.3, 45.6, 140.0])
def test_uniform_equilibrium_stays(density):
    speed = np.asarray(equilibrium_speed(PHYSICS, density))
    final = drive(straight(40, 10, ring=True), density, speed, 2).final
    assert (np.asarray(final.density) == density).all()  # to the bit
    np.testing.assert_allclose(final.speed, np.full((40, 1), speed), rtol=1e-15)


@functools.cache
def error_of_a_small_wave(density, M, km=4.0, hours=2 * MINUTE):
    """Relative error of amplitude and phase of a wave, and how much it grew."""
    k = 2 * np.pi / km
    rate = growth_rates(PHYSICS, density, km)[0]
    speed = float(equilibrium_speed(PHYSICS, density))
    wave = 1e-4 * density * np.exp(1j * k * (np.arange(M) + 0.5) * km / M)
    ratio = -(rate + 1j * k * speed) / (1j * k * density)
    state = (density + wave.real, speed + (ratio * wave).real)
    run = drive(straight(M, km, ring=True), *state, 1, interval=hours)
    change = np.asarray(run.final.density)[:, 0] - density
    grown = 2 * (change * wave.conj()).mean() / (1e-4 * density) ** 2
    return abs(grown / np.exp(rate * hours) - 1), abs(grown)


@pytest.mark.parametrize("density", [15.0, 70.0])
def test_small_waves_converge_to_those_of_the_linear_theory(density):
    coarse, fine = (error_of_a_small_wave(density, M)[0] for M in (128, 256))
    assert np.log2(coarse / fine) > 0.85  # the order; it tends to 1
    assert fine < 0.04


def test_waves_grow_in_a_queue_and_die_in_free_traffic_as_predicted():
    assert error_of_a_small_wave(40.0, 256)[1] > 1.2
    assert error_of_a_small_wave(15.0, 256)[1] < 0.5
    rate = growth_rates(PHYSICS, 40.0, 8.0)[0].real  # in cells of the default length:
    grown = error_of_a_small_wave(40.0, 32, km=8.0)[1]
    assert np.log(grown) / (2 * MINUTE) == pytest.approx(rate, rel=0.05)


def test_large_smooth_waves_converge_under_refinement():
    def solve(M):
        x = 2 * np.pi * (np.arange(M) + 0.5) / M
        density = 30 + 15 * np.sin(x)
        speed = np.asarray(equilibrium_speed(PHYSICS, density))
        road = straight(M, 4.0, ring=True)
        return np.asarray(
            drive(road, density, speed, 1, interval=2 * MINUTE).final.density
        )[:, 0]

    grids = [solve(M) for M in (40, 80, 160)]
    coarse, fine = (
        np.abs(a - b.reshape(-1, 2).mean(1)).mean()
        for a, b in itertools.pairwise(grids)
    )
    assert np.log2(coarse / fine) > 0.8
    assert coarse > 0.1  # there is something to converge


def test_the_chosen_step_is_stable_and_twice_that_is_not():
    noise = 1e-3 * np.random.default_rng(0).normal(size=80)
    speed = float(equilibrium_speed(PHYSICS, 15.0))
    spread = {}
    for times in (1, 2):
        steps = round(1 / 12 / stable_step(PHYSICS, 0.25) / times)
        road = straight(80, 20, ring=True)
        final = drive(road, 15 + noise, speed, 2, steps=steps).final
        spread[times] = np.ptp(np.asarray(final.density))
    assert spread[1] < np.ptp(noise) / 2
    assert spread[2] > 100


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans(), st.floats(0.5, 3))
def test_vehicles_are_conserved_and_neither_negative_nor_backward(
    seed, ring, exits, wild
):
    rng = np.random.default_rng(seed)
    density = np.minimum(140, 140 * rng.random(30) ** wild * (rng.random(30) < 0.8))
    speed = 108 * rng.random(30)
    road = straight(30, 7.5, ring=ring, lanes=rng.integers(1, 5, 30).astype(float))
    if exits:
        leaving = np.where(rng.random(30) < 0.3, 0.99 * rng.random(30), 0)
        road = dataclasses.replace(road, exit_share=leaving)
    share = np.where(rng.random((3, 30)) < 0.2, 0.3, 1.0)
    run = drive(road, density, speed, 3, 3000 * rng.random(1), share)
    change = on_road(road, run.final.density) - on_road(road, density)
    entered, left = float(run.entered.sum()), float(run.left.sum())
    scale = on_road(road, density) + entered
    assert change == pytest.approx(entered - left, abs=1e-12 * scale + 1e-12)
    if ring and not exits:
        assert entered == left == 0
    for state in (run, run.final):
        assert np.asarray(state.density).min() >= 0
        assert np.asarray(state.speed).min() >= 0
        assert np.asarray(state.speed).max() <= 108 * (1 + 1e-12)


def test_who_finds_no_room_waits_and_comes_in_later():
    road = straight(20, 5.0)
    demand = np.array([[9000.0]] * 3 + [[0.0]] * 3)
    run = drive(road, 15.0, 100.0, 6, demand)
    assert float(run.entered[0, 0]) < 9000 / 12
    assert float(run.entered[3, 0]) > 100
    total = float(run.entered.sum() + np.asarray(run.final.queue).sum())
    assert total == pytest.approx(3 * 9000 / 12, rel=1e-12)


def test_the_head_of_a_jam_moves_backward_at_10_to_20_km_per_hour():
    density = np.where((np.arange(120) >= 70) & (np.arange(120) < 100), 120.0, 15.0)
    speed = np.asarray(equilibrium_speed(PHYSICS, density))
    run = drive(straight(120, 12), density, speed, 20, 3000.0, interval=MINUTE)
    slow = np.asarray(run.speed)[:, :, 0] < 40
    head = 12 - 0.1 * np.argmax(slow[:, ::-1], axis=1)  # km, each minute
    minutes = np.arange(5, 20)
    km_per_hour = 60 * np.polyfit(minutes, head[minutes], 1)[0]
    assert -20 < km_per_hour < -10


def test_a_full_road_empties_at_its_end():
    final = drive(straight(20, 5.0), 130.0, 5.0, 24).final  # two hours
    assert np.asarray(final.density).max() < 1


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"density": -1.0}, r"start.density must be .* from 0 to inf, got -1.0"),
        ({"speed": 109.0}, r"start.speed must be .* from 0 to 108.0, got 109.0"),
        ({"demand": np.nan}, r"demand must be finite .*, got nan"),
        ({"open_share": 0.0}, r"open_share must be .* from 0.001 to 1, got 0.0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
    ],
)
def test_states_that_cannot_be_are_refused(change, rule):
    with pytest.raises(ValueError, match=rule):
        drive(straight(4, 1.0), **({"density": 10.0, "speed": 90.0, "T": 1} | change))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"cell_km": 0.0}, "cell_km must be above 0, got 0.0"),
        ({"lanes": np.zeros(4)}, "lanes must be above 0, got 0.0"),
        ({"next_cell": np.arange(3)}, r"next_cell must have shape \(4,\), got \(3,\)"),
        ({"next_cell": np.arange(4) + 1}, "next_cell must be cells below 4"),
        ({"entry_cells": np.array([-1])}, "entry_cells must be cells below 4"),
        ({"exit_share": np.ones(4)}, "exit_share must be at least 0 and below 1"),
        (
            {"entry_cells": np.zeros(2, int), "entry_lanes": np.ones(2)},
            "entry_cells must differ",
        ),
    ],
)
def test_what_is_no_road_is_refused(change, rule):
    with pytest.raises(ValueError, match=rule):
        dataclasses.replace(straight(4, 1.0), **change)


# --- off-ramps ----------------------------------------------------------------------


def with_exit(road, cell, share):
    """The road with an off-ramp at the end of a cell."""
    exit_share = np.where(np.arange(len(road.lanes)) == cell, share, 0.0)
    return dataclasses.replace(road, exit_share=exit_share)


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
    night = np.array([460.0, 230.0, 70.0, 120.0])
    flow = flows(road, drive(road, 0.0, 108.0, 24, night))
    at_9, at_10 = round(9 / cell_km), round(10 / cell_km)
    assert EXIT_SHARE == 0.15
    np.testing.assert_allclose(flow[at_9 - 1], 760, rtol=1e-9)
    np.testing.assert_allclose(flow[at_9:at_10], 0.85 * 760, rtol=1e-9)


@pytest.mark.parametrize("speed", [30.0, 80.0])  # slower and faster than the sound
def test_vehicles_leave_at_the_speed_of_the_flow(speed):
    road = with_exit(straight(8, 2.0, ring=True), 3, 0.4)
    interval = 1e-4
    options = {"physics": STUBBORN, "interval": interval, "steps": 1}
    run = drive(road, 20.0, speed, 1, **options)
    expected = np.full((8, 1), 20.0)
    expected[4] -= 0.4 * 20 * speed * interval / 0.25
    np.testing.assert_allclose(run.final.density, expected, rtol=1e-13)
    np.testing.assert_allclose(run.final.speed, np.full((8, 1), speed), rtol=1e-13)
    leaving = 0.4 * 2 * 20 * speed * interval
    assert float(run.left[0, 0]) == pytest.approx(leaving, rel=1e-12)


def test_those_who_go_on_gain_what_the_pressure_falls_by_and_no_more():
    road = with_exit(straight(16, 4.0), 7, 0.05)
    run = drive(road, 20.0, 80.0, 6, 2 * 20 * 80.0, physics=STUBBORN)
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
