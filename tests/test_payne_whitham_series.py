"""The embedded data set: its freeway, its detectors, and what can be learned of it."""

import dataclasses

import numpy as np
import pytest

from data import _freeway_days
from data._freeway_days import Scenario, draw_scenario, true_speeds
from data._freeway_draws import (
    KM_PER_MILE,
    draw_demand,
    draw_missing,
    draw_open_share,
    read_detectors,
)
from data._freeway_network import ENTRIES, build_freeway, road_adjacency, road_distances
from data._freeway_solver import FlowState, simulate
from data.freeway import FreewayOptions, simulate_traffic
from data.payne_whitham import PayneWhitham

PHYSICS = PayneWhitham()
QUICK = FreewayOptions(days=2, cell_km=0.5, seed=3)
BUSY = FreewayOptions(days=3, cell_km=0.5, demand=1.3, incidents_per_day=0, seed=1)


@pytest.fixture(scope="module")
def quiet():
    """Seven days without incidents, their true speeds in mph, (7, 288, N)."""
    options = FreewayOptions(days=7, incidents_per_day=0, seed=1)
    scenario = draw_scenario(options)
    speeds = true_speeds(options.physics, scenario) / KM_PER_MILE
    return scenario, speeds.reshape(7, 288, -1)


# --- the freeway --------------------------------------------------------------------


def test_roads_merge_and_no_way_leads_back():
    freeway = build_freeway()
    name = freeway.detector_names.index
    away = freeway.distances
    assert away[name("main-5.5"), name("main-6.5")] == 1
    assert away[name("branch-3.5"), name("main-6.5")] == 1
    assert away[name("main-0.5"), name("main-13.5")] == 13
    assert np.isinf(away[name("main-6.5"), name("main-5.5")])
    assert np.isinf(away[name("main-5.5"), name("branch-3.5")])


def test_the_graph_is_a_gaussian_of_the_way_and_follows_the_traffic():
    freeway = build_freeway(detector_km=2.0)
    away = freeway.distances
    weights = road_adjacency(away)
    spread = away[np.isfinite(away)].std()
    expected = np.exp(-((away / spread) ** 2))
    kept = weights > 0
    np.testing.assert_allclose(weights[kept], expected[kept], rtol=1e-14)
    assert (expected[~kept] < 0.1).all()
    assert weights[0, 1] > 0.1
    assert weights[1, 0] == 0  # exactly
    assert (np.diag(weights) == 1).all()


def test_a_ring_has_a_way_from_everywhere_to_everywhere():
    road = build_freeway().road
    ring = dataclasses.replace(road, next_cell=np.roll(np.arange(72), -1))
    assert np.isfinite(road_distances(ring)).all()
    assert road_distances(ring).max() == 71 * 0.25


def test_vehicles_are_conserved_over_a_day_on_the_network():
    freeway, demand, open_share = draw_scenario(FreewayOptions(days=1, seed=2))
    road, M, R = freeway.road, len(freeway.road.lanes), demand.shape[1]
    start = FlowState(np.zeros((M, 1)), np.full((M, 1), 108.0), np.zeros((R, 1)))
    run = simulate(
        PayneWhitham(), road, start, demand[288:, :, None], open_share[288:, :, None]
    )
    on_road = float(road.lanes @ np.asarray(run.final.density)[:, 0]) * road.cell_km
    entered, left = float(run.entered.sum()), float(run.left.sum())
    waiting = float(np.asarray(run.final.queue).sum())
    assert on_road == pytest.approx(entered - left, abs=1e-12 * entered)
    assert entered + waiting == pytest.approx(demand[288:].sum() / 12, rel=1e-12)
    assert entered > 100_000
    assert np.asarray(run.density).min() >= 0
    assert np.asarray(run.density).max() < PayneWhitham().jam_density


# --- what happens there -------------------------------------------------------------


def test_weekdays_have_two_queues_and_weekends_none(quiet):
    _, mph = quiet
    hour = np.arange(288) / 12
    queued = (mph < 40).any(axis=2)  # (days, steps)
    morning = queued[:, (hour > 6) & (hour < 11)].any(axis=1)
    evening = queued[:, (hour > 15) & (hour < 21)].any(axis=1)
    assert morning.tolist() == evening.tolist() == [True] * 5 + [False] * 2
    assert not queued[:, (hour < 5) | (hour > 23)].any()


def test_queues_grow_against_the_traffic_from_detector_to_detector(quiet):
    scenario, mph = quiet
    name = scenario.freeway.detector_names.index
    evening = mph[:5, 12 * 14 :]
    upstream = [name(f"main-{km}") for km in ("8.5", "7.5", "6.5", "5.5")]
    begins = np.argmax(evening[:, :, upstream] < 40, axis=1)  # (days, detectors)
    reached = (evening[:, :, upstream] < 40).any(axis=1).all(axis=1)
    assert reached.sum() >= 3
    assert (np.diff(begins[reached], axis=1) > 0).all()


def test_an_incident_slows_those_behind_it(quiet):
    scenario, mph = quiet
    freeway, demand, _ = scenario
    name = freeway.detector_names.index
    closed = np.ones((2 * 288, len(freeway.road.lanes)))
    begin = 12 * 12
    closed[288 + begin : 288 + begin + 9, round(5 / 0.25) : round(6 / 0.25)] = 0.3
    hit = true_speeds(PayneWhitham(), Scenario(freeway, demand[: 2 * 288], closed))
    loss = mph[0] - hit / KM_PER_MILE
    assert np.abs(loss[:begin]).max() < 1e-9
    assert loss[begin + 8, name("main-4.5")] > 20
    assert np.abs(loss[begin : begin + 9, name("branch-1.5")]).max() < 1e-6


def test_incidents_are_as_many_and_as_long_as_asked():
    freeway = build_freeway()
    rng = np.random.default_rng(0)
    share = draw_open_share(rng, freeway.road, 288 * 400, 0.5)
    closed = share < 1
    begins = closed[1:] & ~closed[:-1]
    long = closed.sum() / begins.sum()
    assert long == pytest.approx(7.5, rel=0.1)  # intervals
    cells = begins.sum(axis=1)
    assert (begins.any(axis=1)).sum() == pytest.approx(200, rel=0.15)
    assert np.median(cells[cells > 0]) == 4  # a kilometre
    assert 0.3 <= share.min() < 0.35
    assert 0.65 < share[closed].max() <= 0.7
    assert (draw_open_share(rng, freeway.road, 288, 0.0) == 1).all()


def test_an_incident_on_the_branch_reaches_over_the_merge_and_not_beyond_an_end():
    road = build_freeway().road
    share = draw_open_share(np.random.default_rng(5), road, 288 * 40, 10.0)
    merge, last_main, last_branch = round(6 / 0.25), round(14 / 0.25) - 1, 71
    ends = share[:, last_main] < 1
    assert ends.any()
    assert (share[ends, last_main + 1] == 1).mean() > 0.9  # the branch begins there
    over = share[:, last_branch] < 1
    assert over.any()
    assert (share[over, merge] <= share[over, last_branch]).mean() > 0.5  # of 3 / 4


def test_demand_differs_from_day_to_day_and_has_its_mean():
    demand = draw_demand(np.random.default_rng(0), ENTRIES, 0, 70)
    noon = demand.reshape(10, 7, 288, -1)[:, :5, 12 * 12]  # weeks, weekdays, entries
    plateau = np.array([entry.day for entry in ENTRIES])
    ratio = noon / plateau
    assert ratio.mean() == pytest.approx(1.0, abs=0.05)
    assert ratio.std(axis=(0, 1)) == pytest.approx(0.055, abs=0.02)
    assert demand.min() > 0


# --- the readings -------------------------------------------------------------------


def test_readings_err_as_asked_and_are_never_zero():
    speeds = np.full((5000, 4), 100.0)
    mph = read_detectors(np.random.default_rng(0), speeds, 1.5)
    assert mph.mean() == pytest.approx(100 / 1.609344, abs=0.05)
    assert mph.std() == pytest.approx(1.5, rel=0.03)
    assert read_detectors(np.random.default_rng(0), 0 * speeds, 1.5).min() == 0.5


@pytest.mark.parametrize("share", [0.0, 0.04, 0.3])
def test_the_missing_share_is_as_asked_with_single_drops_and_runs(share):
    missing = draw_missing(np.random.default_rng(0), 40_000, 10, share)
    assert missing.mean() == pytest.approx(share, rel=0.1)
    if share == 0.04:
        alone = missing[1:-1] & ~missing[:-2] & ~missing[2:]
        assert 0.4 < alone.sum() / missing.sum() < 0.6
        within = missing[1:] & missing[:-1]
        assert 0.4 < within.sum() / missing.sum() < 0.6


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    one, again = simulate_traffic(QUICK), simulate_traffic(QUICK)
    other = simulate_traffic(dataclasses.replace(QUICK, seed=4))
    assert one.values.tobytes() == again.values.tobytes()
    assert one.missing.tobytes() == again.missing.tobytes()
    assert one.values.tobytes() != other.values.tobytes()


def test_an_option_changes_what_it_says_and_nothing_else():
    plain = simulate_traffic(QUICK)
    noisy = simulate_traffic(dataclasses.replace(QUICK, noise_mph=3.0))
    assert (plain.missing == noisy.missing).all()
    whole = dataclasses.replace(QUICK, missing_share=0.0, noise_mph=0.0)
    exact = true_speeds(whole.physics, draw_scenario(whole)) / KM_PER_MILE
    np.testing.assert_array_equal(simulate_traffic(whole).values, exact)
    empty = dataclasses.replace(whole, demand=0.0, start="2024-02-28")
    free = simulate_traffic(empty)
    assert free.values == pytest.approx(108 / KM_PER_MILE, rel=1e-12)
    assert str(free.time[-1]) == "2024-02-29 23:55:00"


@pytest.mark.slow
def test_the_default_data_set_is_as_described_and_can_be_learned():
    series = simulate_traffic()
    assert series.values.shape == (10_080, 18)
    assert (series.values == 0).tolist() == series.missing.tolist()
    assert series.missing.mean() == pytest.approx(0.04, abs=0.006)
    assert series.adjacency is not None
    assert series.name == "payne-whitham"
    assert 0.05 < (series.values[~series.missing] < 40).mean() < 0.15
    # Six steps ahead: what all detectors read beats the last value of each.
    filled = series.forward_fill()
    windows = np.lib.stride_tricks.sliding_window_view(filled, 12, axis=0)[:-6]
    past = np.c_[windows.reshape(len(windows), -1) / 60, np.ones(len(windows))]
    split = int(0.8 * len(past))
    train, test = past[:split], past[split:]
    target, last = filled[17:], filled[11:-6]
    ridge = train.T @ train + 1e-2 * np.eye(past.shape[1])
    guess = test @ np.linalg.solve(ridge, train.T @ target[:split])
    of_ridge = np.abs(guess - target[split:]).mean()
    of_last = np.abs(last - target)[split:].mean()
    assert of_ridge < 0.92 * of_last


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"days": 0}, "days must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"start": "2024-13-01"}, "start must be a date .* got '2024-13-01'"),
        ({"start": "soon"}, "start must be a date .* got 'soon'"),
        ({"cell_km": 0.3}, "cell_km must fit a whole number of times in 0.5 km"),
        ({"cell_km": 0.0}, "cell_km must fit .* got cell_km = 0.0"),
        ({"detector_km": 0.3}, "cell_km must fit .* in detector_km"),
        ({"detector_km": 5.0}, "detector_km must be at most 4.0, got 5.0"),
        ({"demand": -1.0}, "demand must be finite and not negative, got -1.0"),
        ({"incidents_per_day": np.inf}, "incidents_per_day must be .* got inf"),
        ({"noise_mph": np.nan}, "noise_mph must be .* got nan"),
        ({"missing_share": 1.0}, "missing_share must be from 0 to 0.9, got 1.0"),
    ],
)
def test_options_that_cannot_be_are_refused(change, rule):
    with pytest.raises(ValueError, match=rule):
        FreewayOptions(**change)


# --- days side by side, or in a row --------------------------------------------------


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
