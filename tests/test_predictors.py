"""Rank correlations of measures with exact influence, over heads of forecasters."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.attention._predictors import TARGETS, in_order, predict, predictors_page
from analysis.diagnostics.registry import DIAGNOSTICS
from analysis.plots.predictors import draw_predictors
from analysis.statistics import rank_correlations

RNG = np.random.default_rng(0)


def test_correlations_are_scipy_s_and_leave_out_rows_without_a_value():
    x, y = RNG.normal(size=(20, 3)).round(1), RNG.normal(size=(20, 2))
    x[:5, 1], x[:, 2] = np.nan, 1.0
    found = rank_correlations(x, y, np.arange(20) // 4, resamples=50)
    for m in (0, 1):
        there = ~np.isnan(x[:, m])
        for t in (0, 1):
            expected = stats.spearmanr(x[there, m], y[there, t]).statistic
            assert found.value[m, t] == pytest.approx(expected)
            assert found.low[m, t] <= found.high[m, t]
    assert np.isnan(found.value[2]).all()  # it does not vary
    assert found.rows.tolist() == [[20, 20], [15, 15], [20, 20]]


def test_an_interval_holds_the_truth_as_often_as_it_says():
    held, rho = 0, 6 / np.pi * np.arcsin(0.5 / 2)  # Spearman's of a normal pair
    for _ in range(60):
        x = RNG.normal(size=(60, 1))
        y = 0.5 * x + 0.75**0.5 * RNG.normal(size=(60, 1))
        found = rank_correlations(x, y, np.arange(60), resamples=200)
        held += found.low.item() <= rho <= found.high.item()
    assert held >= 50  # 57 of 60 expected


def test_two_groups_have_no_interval():
    x = RNG.normal(size=(8, 1))
    found = rank_correlations(x, x, np.arange(8) // 4)
    assert found.value.item() == pytest.approx(1)
    assert np.isnan([found.low, found.high]).all()


def table_of(seeds: int, heads: int) -> pd.DataFrame:
    """Rows of ``diagnostics.csv`` in which entropy says what parroting will be."""
    rows = []
    for seed in range(seeds):
        for head in [*map(str, range(heads)), "layer"]:
            own = RNG.random()
            for entry in DIAGNOSTICS:
                value = own if entry.name == "entropy" else RNG.random()
                if entry.name == "parroting_median":
                    value = np.exp(own)
                whose = ["run", "(b)", 12, seed, 5, 0, head]
                rows.append([*whose, entry.name, value])
    columns = ["run", "variant", "T", "seed", "step", "layer", "head", "quantity"]
    return pd.DataFrame(rows, columns=[*columns, "value"])


def test_the_measure_that_predicts_comes_first_and_norms_predict_no_norms():
    table = predict(table_of(seeds=4, heads=4))
    assert not set(table["measure"]) & {"value_diagonal", "parroting_mean", "rows"}
    assert set(table["target"]) == set(TARGETS)
    assert set(table["rows"]) == {16}  # the layer as a whole is no head
    order = in_order(table)
    assert order[0] == "entropy"
    first = table[(table["measure"] == "entropy") & (table["target"] == "parroting")]
    assert first["value"].item() == pytest.approx(1)
    page = predictors_page(table, "a note")
    (row,) = [line for line in page.splitlines() if "| relative entropy |" in line]
    assert row.startswith("| relative entropy | **+1.00 [+1.00, +1.00]** |")
    assert row.endswith("| 16 |")  # heads that have it
    figure = draw_predictors(table, order, TARGETS, "a note")
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names[0] == "relative entropy"
    assert [ax.get_title() for ax in figure.axes] == [*TARGETS.values()]


def test_a_few_heads_predict_nothing():
    assert predict(table_of(seeds=1, heads=3)).empty


def test_a_head_without_a_ratio_leaves_out_itself_and_no_target():
    table = table_of(seeds=4, heads=4)
    one = (table["head"] == "0") & (table["seed"] == 0)
    table.loc[one & (table["quantity"] == "parroting_median"), "value"] = np.nan
    found = predict(table)
    rows = found.groupby("target")["rows"].unique().map(list).to_dict()
    assert rows == {name: [15 if name == "parroting" else 16] for name in TARGETS}
    first = found[(found["measure"] == "entropy") & (found["target"] == "parroting")]
    assert first["value"].item() == pytest.approx(1)


def test_windows_of_one_step_have_no_influence_off_the_diagonal_to_predict():
    table = table_of(seeds=4, heads=4)
    needs_two = table["quantity"].str.contains("parroting|off_diagonal")
    found = predict(table.assign(value=table["value"].mask(needs_two)))
    assert set(found["target"]) == {"query_share"}
