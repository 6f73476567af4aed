"""Tables of made-up runs: numbers, layout and what is said below them."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.tables._layout import default_horizons
from analysis.variants import PAPER_ROWS
from tests.table_runs import BASELINES, markdown_rows, tables, write_run

# t of 0.975 with 3 degrees of freedom, as printed in tables.
T3 = 3.182446
# MAE of (b) and of (e) at step 1; the seeds move together, their difference hardly.
B = [3.0, 3.4, 3.2, 3.6]
E = [2.9, 3.2, 3.1, 3.5]
NAMES = {name[1]: name for name in PAPER_ROWS.values()}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The tables of one grid of runs: (a) to (e), (b) diagonal, and 36 steps."""
    root = tmp_path_factory.mktemp("grid")
    long: dict[str, Any] = {"window": 36, "horizon": 36}
    other = {"parameters": 24000, "device": "NVIDIA H100"}
    runs = [
        write_run(root / "e", E, regularizer="penalty"),
        write_run(root / "b", B),
        write_run(root / "a", [4.0, 4.1, 4.3, 4.2], residual=False),
        write_run(root / "c", [3.1, 3.3], regularizer="mask"),
        write_run(root / "d", [3.25], regularizer="dropout"),
        write_run(root / "bd", [3.5, 3.9, 3.7, 4.0], graph="diagonal", record=other),
        write_run(root / "b-36", [3.0], **long),
        write_run(root / "e-36", [2.9], **long, regularizer="penalty"),
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
    table = pd.read_csv(out / "table-12-12.csv")
    return table.set_index(["variant", "metric", "horizon"])


# --- numbers ------------------------------------------------------------------------


def test_the_mean_and_the_sample_deviation_are_over_seeds(rows):
    # (b) at step 3: 5.0, 5.4, 5.2, 5.6; the squares about 5.3 add up to 0.2.
    spread = (0.2 / 3) ** 0.5
    assert rows[NAMES["b"]]["MAE 3"] == f"5.300 ± {spread:.3f}"
    assert rows[NAMES["b"]]["RMSE 3"] == f"10.600 ± {2 * spread:.3f}"


def test_the_difference_is_paired_by_seed_with_its_t_interval(rows, tidy):
    # Differences -0.1, -0.2, -0.1, -0.1: mean -0.125, deviation 0.05, over 4 seeds.
    reach = T3 * 0.05 / 2
    cell = rows["(e) Diagonal penalty / *minus (b)*"]["MAE 12"]
    assert cell == f"-0.125 [{-0.125 - reach:.3f}, {-0.125 + reach:.3f}]"
    row = tidy.loc[(NAMES["e"], "rmse", "7")]
    assert (row["reference"], row["paired_seeds"]) == (NAMES["b"], 4)
    np.testing.assert_allclose(
        row[["difference", "low", "high"]].astype(float),
        [-0.25, -0.25 - 2 * reach, -0.25 + 2 * reach],
        rtol=1e-6,
    )


def test_below_three_common_seeds_there_is_no_interval(rows, tidy):
    # Differences of (c) on its two seeds: 0.1 and -0.1.
    assert rows["(c) Full diagonal mask / *minus (b)*"]["MAE 3"] == "+0.000"
    row = tidy.loc[(NAMES["c"], "mae", "3")]
    assert (row["seeds"], row["paired_seeds"]) == (2, 2)
    assert row[["low", "high"]].isna().all()
    # One seed has nothing but its mean.
    assert (rows[NAMES["d"]]["MAE 3"], rows[NAMES["d"]]["seeds"]) == ("5.250", "1")
    assert not any(name.startswith(f"{NAMES['d']} /") for name in rows)
    assert np.isnan(tidy.loc[(NAMES["d"], "mae", "3"), "std"])


def test_b_has_no_difference_and_another_graph_is_compared_with_it(rows, tidy):
    assert not any(name.startswith(f"{NAMES['b']} / ") for name in rows)
    cell = rows["(b) No regularization, graph diagonal / *minus (b)*"]["MAE 3"]
    assert cell.startswith("+0.475 [")
    assert tidy.loc[(NAMES["b"], "mae", "3"), "paired_seeds"] == 0


def test_the_csv_has_every_step_and_the_mean_of_all_rows(tidy):
    assert len(tidy) == (6 + 3) * 3 * 13
    # Steps 1 to 12 add 0 to 11, in the mean 5.5.
    row = tidy.loc[(NAMES["b"], "mae", "mean")]
    assert row["mean"] == pytest.approx(3.3 + 5.5)
    assert tidy.loc[("ridge", "mape", "2"), "mean"] == pytest.approx(3 * 4.75)


# --- layout -------------------------------------------------------------------------


def test_rows_come_in_the_order_of_the_paper_and_columns_are_the_paper_s(rows, out):
    a, b, *others = (
        *("(a) No residual", "(b) No regularization", "(c) Full diagonal mask"),
        *("(d) Diagonal dropout", "(e) Diagonal penalty"),
    )
    trained = [a, b, f"{b}, graph diagonal", *others]
    baselines = [f"baseline: {name}" for name in BASELINES]
    assert [name for name in rows if "*" not in name] == trained + baselines
    steps = [f"{metric} {n}" for metric in ("MAE", "RMSE", "MAPE") for n in (3, 6, 12)]
    assert [*rows[a]] == ["variant", "seeds", *steps]
    long = markdown_rows(out / "table-36-36.md")[b]
    assert [*long][2:4] == ["MAE 24", "MAE 36"]


def test_the_best_trained_mean_of_a_column_is_bold(rows):
    bold = {
        (name, column)
        for name, cells in rows.items()
        for column, cell in cells.items()
        if cell.startswith("**")
    }
    # (e) has 3.175 in the mean at step 1, (c) 3.2; no baseline is ever bold.
    assert bold == {(NAMES["e"], column) for column in [*rows[NAMES["a"]]][2:]}


def test_equal_means_as_shown_are_bold_together_baselines_left_aside(tmp_path):
    better = {"ridge": 2.0}
    one = write_run(tmp_path / "b", [3.0001], baselines=better)
    two = write_run(tmp_path / "e", [3.0004], baselines=better, regularizer="penalty")
    assert tables(tmp_path / "out", one, two, "--horizons", 1) == 0
    rows = markdown_rows(tmp_path / "out" / "table-12-12.md")
    assert [rows[NAMES[letter]]["MAE 1"] for letter in "be"] == ["**3.000**"] * 2


def test_the_latex_is_balanced_and_every_line_has_every_column(out, rows):
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
        assert line.count("&") + 1 + sum(spans) - len(spans) == 11, line
    assert rows[NAMES["e"]]["MAE 3"] == "**5.175 ± 0.250**"
    assert r"\mathbf{5.175 \pm 0.250}" in text
    assert r"(a) No residual & 4 & $6.150 \pm 0.129$ & " in text


def test_the_mean_over_steps_is_labelled_as_such(tmp_path):
    run = write_run(tmp_path / "b", [3.0])
    assert tables(tmp_path / "out", run, "--horizons", 3, "--mean") == 0
    row = markdown_rows(tmp_path / "out" / "table-12-12.md")[NAMES["b"]]
    assert (row["MAE 3"], row["MAE mean 1-12"]) == ("5.000", "8.500")


@pytest.mark.parametrize(
    ("H", "steps"),
    [(1, (1,)), (3, (1, 3)), (12, (3, 6, 12)), (24, (6, 12, 24)), (36, (24, 36))],
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
    for words in (
        "12 steps in, 12 out, metr-la (metr-la-29), split windows",
        "Seeds: 0, 1, 2, 3; (c) Full diagonal mask: 0, 1; (d)",
        "Epochs: 10 to 13 of 30, 187 steps each.",  # the made-up runs stopped early
        "25,001; (b) No regularization, graph diagonal: 24,000.",
        "Device: 2 cores of Abacus 9, NVIDIA H100.",
        "All trained rows: width 32, time of week no, epochs 30, batch size 32.",
        "graph full, stack time-and-space, layers 2, heads 4",
        # 9 columns of the four rows with a difference, but (c) has two seeds.
        "27 intervals stand here",
    ):
        assert words in text
    assert "anywhere" not in text
    assert "intervals stand here" not in (out / "table-36-36.md").read_text()


def test_what_is_printed_has_the_numbers_and_names_the_files(capsys, tmp_path):
    runs = [
        write_run(tmp_path / "b", B),
        write_run(tmp_path / "e", E, regularizer="penalty"),
    ]
    assert tables(tmp_path / "out", *runs) == 0
    said = capsys.readouterr().out
    assert re.search(r"\(e\) Diagonal penalty +4 +5\.175 ± 0\.250", said)
    assert re.search(r"minus \(b\) +4 +-0\.125", said)
    assert "wrote table-12-12.md, .tex and .csv to" in said


def test_a_step_without_a_reading_is_not_available_and_explained(tmp_path):
    run = write_run(tmp_path / "b", {0: float("nan"), 1: 3.0})
    other = write_run(tmp_path / "e", B, regularizer="penalty")
    assert tables(tmp_path / "out", run, other) == 0
    path = tmp_path / "out" / "table-12-12.md"
    rows = markdown_rows(path)
    assert rows[NAMES["b"]]["MAE 3"] == "n/a"
    assert rows[NAMES["e"]]["MAE 3"].startswith("**5.300")
    assert rows["(e) Diagonal penalty / *minus (b)*"]["MAE 3"] == "n/a"
    assert "n/a: no mean can be given" in path.read_text()
    assert "$n/a" not in path.with_suffix(".tex").read_text()
