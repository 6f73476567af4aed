"""Tables of made-up runs: numbers, layout and what is said below them."""

import re

import numpy as np
import pandas as pd
import pytest

from analysis.tables._layout import default_horizons
from tests.table_runs import markdown_rows, tables, write_run

# t of 0.975 with 3 degrees of freedom, as printed in tables.
T3 = 3.182446
# MAE of (b) and of (e) at step 1; the seeds move together, their difference hardly.
B = [3.0, 3.4, 3.2, 3.6]
E = [2.9, 3.2, 3.1, 3.5]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The tables of one grid of runs: (a) to (e), (b) diagonal, and 36 steps."""
    root = tmp_path_factory.mktemp("grid")
    runs = [
        write_run(root / "e", E, regularizer="penalty"),
        write_run(root / "b", B),
        write_run(root / "a", [4.0, 4.1, 4.3, 4.2], residual=False),
        write_run(root / "c", [3.1, 3.3], regularizer="mask"),
        write_run(root / "d", [3.25], regularizer="dropout"),
        write_run(
            root / "b-diagonal",
            [3.5, 3.9, 3.7, 4.0],
            graph="diagonal",
            record={"parameters": 24000, "device": "NVIDIA H100"},
        ),
        write_run(root / "b-36", [3.0], window=36, horizon=36),
        write_run(root / "e-36", [2.9], window=36, horizon=36, regularizer="penalty"),
    ]
    assert tables(root / "out", *runs) == 0
    return root / "out"


@pytest.fixture(scope="module")
def rows(out):
    """The cells of the table of 12 steps."""
    return markdown_rows(out / "table-12-12.md")


@pytest.fixture(scope="module")
def tidy(out):
    """The rows of its .csv."""
    return pd.read_csv(out / "table-12-12.csv").set_index(
        ["variant", "metric", "horizon"]
    )


# --- numbers ------------------------------------------------------------------------


def test_the_mean_and_the_sample_deviation_are_over_seeds(rows):
    # (b) at step 3: 5.0, 5.4, 5.2, 5.6; the squares about 5.3 add up to 0.2.
    spread = (0.2 / 3) ** 0.5
    assert rows["(b) No regularization"]["MAE 3"] == f"5.300 ± {spread:.3f}"
    assert rows["(b) No regularization"]["RMSE 3"] == f"10.600 ± {2 * spread:.3f}"


def test_the_difference_is_paired_by_seed_with_its_t_interval(rows, tidy):
    # Differences -0.1, -0.2, -0.1, -0.1: mean -0.125, deviation 0.05, over 4 seeds.
    reach = T3 * 0.05 / 2
    cell = rows["(e) Diagonal penalty / *minus (b)*"]["MAE 12"]
    assert cell == f"-0.125 [{-0.125 - reach:.3f}, {-0.125 + reach:.3f}]"
    row = tidy.loc[("(e) Diagonal penalty", "rmse", "7")]
    assert row["reference"] == "(b) No regularization"
    np.testing.assert_allclose(
        row[["difference", "low", "high"]].astype(float),
        [-0.25, -0.25 - 2 * reach, -0.25 + 2 * reach],
        rtol=1e-6,
    )
    assert row["paired_seeds"] == 4


def test_below_three_common_seeds_there_is_no_interval(rows, tidy):
    # Differences of (c) on its two seeds: 0.1 and -0.1.
    assert rows["(c) Full diagonal mask / *minus (b)*"]["MAE 3"] == "+0.000"
    row = tidy.loc[("(c) Full diagonal mask", "mae", "3")]
    assert (row["seeds"], row["paired_seeds"]) == (2, 2)
    assert row[["low", "high"]].isna().all()


def test_one_seed_has_nothing_but_its_mean(rows, tidy):
    assert rows["(d) Diagonal dropout"]["MAE 3"] == "5.250"
    assert rows["(d) Diagonal dropout"]["seeds"] == "1"
    assert not any(name.startswith("(d) Diagonal dropout /") for name in rows)
    assert np.isnan(tidy.loc[("(d) Diagonal dropout", "mae", "3"), "std"])


def test_b_has_no_difference_and_another_graph_is_compared_with_it(rows, tidy):
    assert not any(name.startswith("(b) No regularization / ") for name in rows)
    cell = rows["(b) No regularization, graph diagonal / *minus (b)*"]["MAE 3"]
    assert cell.startswith("+0.475 [")
    assert tidy.loc[("(b) No regularization", "mae", "3"), "paired_seeds"] == 0


def test_the_csv_has_every_step_and_the_mean_of_all_rows(tidy):
    assert len(tidy) == (6 + 3) * 3 * 13
    # Steps 1 to 12 add 0 to 11, in the mean 5.5.
    row = tidy.loc[("(b) No regularization", "mae", "mean")]
    assert row["mean"] == pytest.approx(3.3 + 5.5)
    assert tidy.loc[("ridge", "mape", "2"), "mean"] == pytest.approx(3 * 4.75)


# --- layout -------------------------------------------------------------------------


def test_rows_come_in_the_order_of_the_paper_and_baselines_last(rows):
    assert [name for name in rows if "*" not in name] == [
        "(a) No residual",
        "(b) No regularization",
        "(b) No regularization, graph diagonal",
        "(c) Full diagonal mask",
        "(d) Diagonal dropout",
        "(e) Diagonal penalty",
        "baseline: last value",
        "baseline: time of week",
        "baseline: ridge",
    ]


def test_columns_are_the_paper_s(rows, out):
    steps = [f"{metric} {step}" for metric in ("MAE", "RMSE", "MAPE") for step in "36"]
    names = [*rows["(a) No residual"]]
    assert [name for name in names if not name.endswith("12")] == [
        *("variant", "seeds"),
        *steps,
    ]
    assert len(names) == 11
    long = markdown_rows(out / "table-36-36.md")["(b) No regularization"]
    assert [*long][2:4] == ["MAE 24", "MAE 36"]


def test_the_best_trained_mean_of_a_column_is_bold(rows):
    bold = {
        (name, column)
        for name, cells in rows.items()
        for column, cell in cells.items()
        if cell.startswith("**")
    }
    # (e) has 3.175 in the mean at step 1, (c) 3.2; no baseline is ever bold.
    assert bold == {
        ("(e) Diagonal penalty", column) for column in [*rows["(a) No residual"]][2:]
    }


def test_equal_means_as_shown_are_bold_together_baselines_left_aside(tmp_path):
    better = {"ridge": 2.0}
    one = write_run(tmp_path / "b", [3.0001], baselines=better)
    two = write_run(tmp_path / "e", [3.0004], baselines=better, regularizer="penalty")
    assert tables(tmp_path / "out", one, two, "--horizons", 1) == 0
    rows = markdown_rows(tmp_path / "out" / "table-12-12.md")
    for name in ("(b) No regularization", "(e) Diagonal penalty"):
        assert rows[name]["MAE 1"] == "**3.000**"


def test_the_latex_is_balanced_and_every_line_has_every_column(out):
    text = (out / "table-12-12.tex").read_text()
    begun, ended = (re.findall(rf"\\{end}{{(.*?)}}", text) for end in ("begin", "end"))
    assert begun == [*reversed(ended)] == ["table*", "tabular"]
    plain = text.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
    assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0
    # Nothing bare that TeX reads as something else, the comment on top apart.
    assert not re.search(r"(?<!\\)[%#_]", text.split("\n", 1)[1])
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 2 + 6 + 3 + (3 * 2 + 1)
    for line in lines:
        spans = [int(n) for n in re.findall(r"\\multicolumn{(\d)}", line)]
        columns = line.count("&") + 1 + sum(spans) - len(spans)
        assert columns == 11, line


def test_the_latex_says_what_the_markdown_says(out, rows):
    text = (out / "table-12-12.tex").read_text()
    assert r"\mathbf{5.175 \pm 0.250}" in text
    assert rows["(e) Diagonal penalty"]["MAE 3"] == "**5.175 ± 0.250**"
    assert r"(a) No residual & 4 & $6.150 \pm 0.129$ & " in text


def test_the_mean_over_steps_is_labelled_as_such(tmp_path):
    run = write_run(tmp_path / "b", [3.0])
    assert tables(tmp_path / "out", run, "--horizons", 3, "--mean") == 0
    row = markdown_rows(tmp_path / "out" / "table-12-12.md")["(b) No regularization"]
    assert row["MAE 3"] == "5.000"
    assert row["MAE mean 1-12"] == "8.500"


@pytest.mark.parametrize(
    ("H", "steps"), [(1, (1,)), (3, (1, 3)), (12, (3, 6, 12)), (24, (6, 12, 24))]
)
def test_default_steps_lie_within_the_horizon(H, steps):
    assert default_horizons(H) == steps


def test_braces_and_marks_in_a_name_do_not_break_latex(tmp_path):
    run = write_run(tmp_path / "b", [3.0], data="my_{data}&100%")
    assert tables(tmp_path / "out", run) == 0
    text = (tmp_path / "out" / "table-12-12.tex").read_text()
    assert r"my\_\{data\}\&100\%" in text


# --- what is said -------------------------------------------------------------------


def test_a_table_says_data_split_seeds_epochs_parameters_and_device(out):
    text = (out / "table-12-12.md").read_text()
    assert "12 steps in, 12 out, metr-la (metr-la-29), split windows" in text
    assert "Seeds: 0, 1, 2, 3; (c) Full diagonal mask: 0, 1; (d)" in text
    assert (
        "Epochs: 10 to 13 of 30, 187 steps each." in text
    )  # the made-up runs stopped early
    assert "25,001; (b) No regularization, graph diagonal: 24,000." in text
    assert "Device: 2 cores of Abacus 9, NVIDIA H100." in text
    assert (
        "All trained rows: width 32, time of week no, epochs 30, batch size 32." in text
    )
    assert "graph full, stack time-and-space, layers 2, heads 4" in text
    assert "anywhere" not in text


def test_the_number_of_intervals_is_said(out):
    # Of the four rows with a difference, (c) has two seeds and no interval; 9 columns.
    assert "27 intervals stand here" in (out / "table-12-12.md").read_text()
    assert "intervals stand here" not in (out / "table-36-36.md").read_text()


def test_what_is_printed_has_the_numbers_and_names_the_files(capsys, tmp_path):
    runs = [
        write_run(tmp_path / "b", B),
        write_run(tmp_path / "e", E, regularizer="penalty"),
    ]
    capsys.readouterr()
    assert tables(tmp_path / "out", *runs) == 0
    said = capsys.readouterr().out
    assert re.search(r"\(e\) Diagonal penalty +4 +5\.175 ± 0\.250", said)
    assert re.search(r"minus \(b\) +4 +-0\.125", said)
    assert "wrote table-12-12.md, .tex and .csv to" in said


def test_a_step_without_a_reading_is_not_available_and_explained(tmp_path):
    run = write_run(tmp_path / "b", {0: float("nan"), 1: 3.0})
    other = write_run(tmp_path / "e", B, regularizer="penalty")
    assert tables(tmp_path / "out", run, other) == 0
    rows = markdown_rows(tmp_path / "out" / "table-12-12.md")
    assert rows["(b) No regularization"]["MAE 3"] == "n/a"
    assert rows["(e) Diagonal penalty"]["MAE 3"].startswith("**5.300")
    assert rows["(e) Diagonal penalty / *minus (b)*"]["MAE 3"] == "n/a"
    assert (
        "n/a: no mean can be given" in (tmp_path / "out" / "table-12-12.md").read_text()
    )
    assert "$n/a" not in (tmp_path / "out" / "table-12-12.tex").read_text()
