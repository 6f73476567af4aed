"""Attention beside that of resampled windows: against loops, on noise, and planted."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize
from scipy.interpolate import make_smoothing_spline
from scipy.stats import norm

from analysis.attention._significance import (
    QUANTITIES,
    Significance,
    measure_significance,
    significance_page,
    significance_table,
)
from analysis.attention.options import AttentionOptions, Null
from analysis.diagnostics.nulls import resampled_windows
from analysis.diagnostics.significance import (
    compare_with_null,
    local_false_discovery_rate,
    null_proportion,
    signed_rmsd,
    survives,
)
from analysis.plots.significance import survival_maps
from sensitivity import AttentionWeights, LayerInput, ScoreBias
from sensitivity.arguments import ArgumentError
from sensitivity.attention import attention_matrix

T, D, H = 8, 6, 2


def layer(windows: int, scale: float = 0.25, **bias) -> LayerInput:
    """A random layer that is given noise."""
    rng = np.random.default_rng(3)
    weights = AttentionWeights(*(scale * rng.normal(size=(3, D, H, D))))
    x = rng.normal(size=(windows, 1, T, D))
    return LayerInput(x=x, weights=weights, score_bias=ScoreBias(**bias))


def options(
    null: Null | None = "steps", resamples: int = 99, **more
) -> AttentionOptions:
    """What the command is asked for."""
    run = Path("run")
    return AttentionOptions(runs=(run,), null=null, resamples=resamples, **more)


def values(found: Significance, head: str = "layer") -> dict[str, float]:
    """Numbers of the first layer."""
    table = significance_table(found)
    own = table[(table["head"] == head) & (table["layer"] == 0)]
    return dict(zip(own["quantity"], own["value"], strict=True))


# Resampled windows.


def test_steps_are_drawn_whole_and_with_replacement():
    x = np.random.default_rng(0).normal(size=(3, T, D))
    null = resampled_windows(x, "steps", 200, np.random.default_rng(1))
    assert null.shape == (3, 200, T, D)
    counts = np.zeros((3, T))
    for s, m, i in np.ndindex(3, 200, T):
        (found,) = [j for j in range(T) if (null[s, m, i] == x[s, j]).all()]
        counts[s, found] += 1
    assert counts.min() > 120  # of 200 on average
    assert any(len(np.unique(own[:, 0])) < T for own in null[0])


@pytest.mark.parametrize(("asked", "there"), [(3, 3), (7, 7), (500, 7)])
def test_a_circle_of_t_steps_has_t_minus_1_shifts_each_once(asked, there):
    x = np.random.default_rng(0).normal(size=(2, T, D))
    null = resampled_windows(x, "shift", asked, np.random.default_rng(1))
    assert null.shape == (2, there, T, D)
    for s in range(2):
        turned = [np.roll(x[s], -by, 0) for by in range(1, T)]
        of = [[(own == other).all() for other in turned].index(True) for own in null[s]]
        assert len(set(of)) == there


def test_gaussian_windows_have_the_moments_of_each_channel_of_their_own_window():
    x = np.random.default_rng(0).normal(size=(2, T, D)) * np.arange(1, D + 1) + 5
    null = resampled_windows(x, "gaussian", 5000, np.random.default_rng(1))
    for s in range(2):
        flat = null[s].reshape(-1, D)
        np.testing.assert_allclose(flat.std(0), x[s].std(0), rtol=0.03)
        np.testing.assert_allclose(flat.mean(0), x[s].mean(0), atol=0.15)


# z, p, pi0 and rates.


def test_z_and_p_are_those_of_loops_and_what_is_no_edge_has_none():
    rng = np.random.default_rng(0)
    alpha, null = rng.random((2, H, 4, 4)), rng.random((2, 25, H, 4, 4))
    alpha[0, 0, 1, 2] = 0  # forbidden
    null[1, 7, 1, 3, 3] = 0  # underflows once
    alpha[1, 0, 0, 0] = null[1, :, 0, 0, 0] = 1  # never changes
    found = compare_with_null(alpha, null)
    for place in np.ndindex(2, H, 4, 4):
        s, *edge = place
        own = [alpha[place], *(null[s, m][tuple(edge)] for m in range(25))]
        if min(own) == 0 or len(set(own)) == 1:
            assert np.isnan([found.z[place], found.p[place]]).all()
            continue
        logs = [math.log(weight) for weight in own]
        mean = sum(logs) / 26
        spread = math.sqrt(sum((log - mean) ** 2 for log in logs) / 26)
        scores = [(log - mean) / spread for log in logs]
        count = sum(abs(score) >= abs(scores[0]) for score in scores[1:])
        assert found.z[place] == pytest.approx(scores[0], rel=1e-12)
        assert found.p[place] == pytest.approx((count + 1) / 26, rel=1e-12)


def test_pi0_is_the_end_of_the_smoothing_spline_of_three_degrees_of_freedom():
    rng, M = np.random.default_rng(0), 39
    ranks = np.where(rng.random(5000) < 0.6, rng.integers(1, M + 2, 5000), 1)
    cuts, found = [k / 20 for k in range(1, 20)], []
    for cut in cuts:
        alike = sum(k / (M + 1) > cut + 1e-12 for k in range(1, M + 2)) / (M + 1)
        found.append(sum(r / (M + 1) > cut + 1e-12 for r in ranks) / 5000 / alike)

    def smooth(y, penalty):
        return make_smoothing_spline(np.array(cuts), np.array(y), lam=penalty)(cuts)

    def freedom(log):
        eye = np.eye(len(cuts))
        return sum(smooth(eye[k], math.exp(log))[k] for k in range(len(cuts))) - 3

    penalty = math.exp(optimize.brentq(freedom, -20, 5, xtol=1e-12))
    expected = smooth(found, penalty)[-1]
    assert null_proportion(ranks / (M + 1), M) == pytest.approx(expected, rel=1e-6)
    assert expected == pytest.approx(0.6, abs=0.06)


@pytest.mark.parametrize("M", [11, 20, 200])
def test_pi0_of_uniform_p_is_1_however_coarse_they_are(M):
    p = np.tile(np.arange(1, M + 2) / (M + 1), 50)
    assert null_proportion(p, M) == pytest.approx(1, rel=1e-9)
    assert abs(signed_rmsd(p)) == pytest.approx(0.5 / (M + 1), rel=0.3)


def test_signed_rmsd_is_that_of_a_loop():
    p = [0.9, 0.2, 0.35, 0.3]
    gaps = [(0.125, 0.2), (0.375, 0.3), (0.625, 0.35), (0.875, 0.9)]
    expected = math.sqrt(sum((u - v) ** 2 for u, v in gaps) / 4)
    assert signed_rmsd(np.array(p)) == pytest.approx(expected, rel=1e-12)
    assert signed_rmsd(1 - np.array(p)) == pytest.approx(-expected, rel=1e-12)


@pytest.mark.parametrize("far", [3.5, 14.0])
def test_rates_are_those_of_a_known_mixture(far):
    rng = np.random.default_rng(0)
    planted = rng.random(20_000) < 0.1
    z = rng.normal(size=20_000) + far * planted
    rates = local_false_discovery_rate(z, 0.9)
    exact = 0.9 * norm.pdf(z) / (0.9 * norm.pdf(z) + 0.1 * norm.pdf(z - far))
    assert np.abs(rates - exact).mean() < 0.03
    kept = survives(z, rates, 0.1)
    best = survives(z, exact, 0.1)
    assert kept[planted].mean() == pytest.approx(best[planted].mean(), abs=0.02)
    assert kept[~planted].mean() < 0.002
    assert not survives(-z, rates, 0.1)[z > 1].any()


def test_there_is_no_rate_where_there_is_no_density():
    z = np.random.default_rng(0).normal(size=200)
    assert not np.isnan(local_false_discovery_rate(z, 1.0)).any()
    for lacking in (z[:99], np.ones(200), np.repeat([-1.0, 40.0], [199, 1])):
        assert np.isnan(local_false_discovery_rate(lacking, 1.0)).all()


# Layers.


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("null", ["steps", "gaussian"])
def test_on_noise_p_is_uniform_and_few_edges_survive(null, causal):
    found = values(measure_significance([layer(80, causal=causal)], options(null)))
    pairs = 80 * (T * (T + 1) // 2 - 1 if causal else T * T)
    assert found["edges"] == pairs  # the first row of a causal map has no choice
    assert abs(found["srmsd"]) < 0.04
    assert found["pi0"] > 0.85
    for where in ("diagonal", "off_diagonal"):
        assert found[f"share_surviving_{where}"] < 0.01
        assert 0.01 < found[f"share_surviving_p_{where}"] < 0.08
        assert abs(found[f"z_{where}"]) < 0.15


def test_edges_of_a_causal_map_are_not_compared_with_one_another():
    own = layer(80, causal=True)
    x = own.x[:, 0]
    null = resampled_windows(x, "gaussian", 99, np.random.default_rng(0))
    alpha, nulls = (
        np.asarray(attention_matrix(part, own.weights, own.score_bias))
        for part in (x, null)
    )
    z = compare_with_null(alpha, nulls).z
    diagonal = np.einsum("shii->shi", z)[..., 1:]
    assert np.abs(diagonal.mean((0, 1))).max() < 0.25
    # ... whose first rows are over few steps, and all high among the whole map's.
    logs = np.log(nulls[nulls > 0])
    first = (np.log(alpha[..., 1, 1]) - logs.mean()) / logs.std()
    assert first.mean() > 1


@pytest.mark.parametrize("null", ["steps", "gaussian"])
def test_a_planted_edge_survives(null):
    own = layer(80, 0.15)
    q, k = (np.array(a) for a in (own.weights.query, own.weights.key))
    q[:2, :, 0] = k[:2, :, 0] = 0
    q[0, :, 0] = k[1, :, 0] = 1  # a step with channel 0 asks for one with channel 1
    x = own.x.copy()
    x[..., :2] *= 0.1
    x[..., 2, 0] = x[..., 5, 1] = 2
    weights = AttentionWeights(q, k, own.weights.value)
    found = measure_significance([LayerInput(x=x, weights=weights)], options(null))
    others = np.ones((T, T), bool)
    others[2, 5] = False
    attention, by_lfdr, by_p = found.maps[0]
    assert 0.3 < attention[2, 5] < 0.5
    assert by_lfdr[2, 5] > 0.7
    assert by_lfdr[others].max() < 0.05
    assert by_p[2, 5] > 0.95
    assert by_p[others].mean() < 0.05


def test_turned_windows_give_no_p_below_1_over_t():
    found = compare_with_null(
        *(
            np.asarray(attention_matrix(x, layer(5).weights))
            for x in (
                layer(5).x[:, 0],
                resampled_windows(
                    layer(5).x[:, 0], "shift", 500, np.random.default_rng(0)
                ),
            )
        )
    )
    # Without a mask a turned window has the turned map: p are ranks among its own.
    np.testing.assert_allclose(
        np.sort(found.p[:, :, range(T), range(T)], -1),
        np.broadcast_to(np.arange(1, T + 1) / T, (5, H, T)),
    )


def test_a_seed_gives_the_same_numbers_however_many_windows_are_held_at_once(
    monkeypatch,
):
    own, asked = layer(3), options("gaussian", 20)
    once = measure_significance([own], asked)
    again = measure_significance([own], asked)
    monkeypatch.setattr("analysis.attention._significance._AT_ONCE", 1)
    parts = measure_significance([own], asked)
    other = measure_significance([own], options("gaussian", 20, resample_seed=1))
    np.testing.assert_array_equal(once.values, again.values)
    np.testing.assert_allclose(once.values, parts.values, rtol=1e-9)
    assert not np.isclose(once.values, other.values).all()


def test_uniform_attention_has_no_edge_and_few_edges_no_rate_and_both_say_so():
    own = layer(2)
    none = AttentionWeights(0 * own.weights.query, own.weights.key, own.weights.value)
    still = LayerInput(x=own.x, weights=none)
    table = significance_table(measure_significance([own, still], options()))
    of_uniform = table[table["layer"] == 1]
    assert of_uniform["value"].isna().all()
    assert of_uniform["note"].str.startswith("needs ").all()
    few = LayerInput(x=own.x[:1], weights=own.weights)
    table = significance_table(measure_significance([few], options()))
    missing = table[table["value"].isna()]
    assert set(missing["quantity"]) == {
        "share_surviving_diagonal",
        "share_surviving_off_diagonal",
    }
    assert missing["note"].str.contains("at least 100 edges").all()
    assert (table.loc[table["value"].notna(), "note"] == "").all()


def test_the_page_has_variants_over_seeds_beside_b_and_what_is_empty():
    tables = []
    for name, shift in (("b", 0.0), ("c", 0.5)):
        for seed in range(3):
            numbers = np.full((1, 3, len(QUANTITIES)), 1.0 + seed + shift)
            numbers[..., list(QUANTITIES).index("pi0")] = np.nan
            found = Significance(numbers, np.empty((1, 3, T, T)))
            whose = {"T": T, "variant": name, "seed": seed}
            whose |= {"weights": "best", "step": 5}
            tables.append(significance_table(found).assign(**whose))
    page = significance_page(
        pd.concat(tables), {(T, "b"): "", (T, "c"): "b"}, "of what"
    )
    assert "| 8 | b | 3 | 2 [-0.484, 4.48] | 2 [" in page
    assert "| 8 | minus (b), by seed | 3 | +0.5 | +0.5 |" in page
    assert page.count("minus (b)") == 1
    assert f"Where pi0 is missing: needs {QUANTITIES['pi0'].needs}." in page


def test_maps_draw_what_is_no_edge_in_grey():
    table = np.full((T, T), 0.2)
    holes = np.where(np.eye(T, dtype=bool), np.nan, table)
    maps = {"attention": table, "surviving_lfdr": holes, "surviving_p": holes}
    figure = survival_maps({"b": maps}, "title")
    images = [ax.images[0] for ax in figure.axes if ax.images]
    masked = [int(np.ma.count_masked(image.get_array())) for image in images[:3]]
    assert masked == [0, T, T]
    empty = dict.fromkeys(("surviving_lfdr", "surviving_p"), np.full((T, T), np.nan))
    survival_maps({"b": maps | empty}, "title").canvas.draw()


# Options.


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"resamples": 19, "null": None}, "resamples must be 0 or at least 20, got 19"),
        ({"resamples": -1, "null": None}, "resamples must be 0 or at least 20, got -1"),
        ({"resamples": 0}, r"null \(steps\) needs --resamples of at least 20, got 0"),
        ({"false_discovery": 1.0}, "false_discovery must be between 0 and 1, got 1.0"),
        ({"resample_seed": -1}, "resample_seed must be at least 0, got -1"),
    ],
)
def test_what_cannot_be_resampled_is_refused_by_name(given, words):
    with pytest.raises(ArgumentError, match=words):
        options(**given)


def test_settings_name_resamples_only_where_there_are_any():
    settings = options("shift", 50).settings()
    assert (settings["null"], settings["resamples"]) == ("shift", 50)
    assert "null" not in options(None, 0).settings()
