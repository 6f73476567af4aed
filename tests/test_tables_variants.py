"""Which runs share a table and a row, what they are compared with, and by how much."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.statistics import paired_difference, spread
from analysis.tables._results import collect
from analysis.variants import group_runs, telling_settings, variant_of
from models.train.record import read_run
from tests.table_runs import markdown_rows, tables, write_run

errors = st.lists(st.floats(0.5, 20), min_size=3, max_size=8)

# --- the paired difference ----------------------------------------------------------


@given(errors, st.data())
def test_the_interval_is_scipy_s_of_the_paired_t_test(one, data):
    other = data.draw(st.lists(st.floats(0.5, 20), min_size=len(one)))
    two = other[: len(one)]
    actual = paired_difference(dict(enumerate(one)), dict(enumerate(other)))
    expected = np.subtract(one, two).mean()
    np.testing.assert_allclose(actual.mean, expected, rtol=1e-12, atol=1e-12)
    assert actual.seeds == len(one)
    if np.ptp(np.subtract(one, two)) < 1e-6:
        return  # scipy warns that nothing is left but rounding
    low, high = stats.ttest_rel(one, two).confidence_interval(0.95)
    np.testing.assert_allclose(actual[1:3], [low, high], rtol=1e-9, atol=1e-9)


@given(errors)
def test_the_spread_is_numpy_s_with_one_degree_less(values):
    mean, std = spread(values)
    assert mean == pytest.approx(np.mean(values), rel=1e-12)
    assert std == pytest.approx(np.std(values, ddof=1), rel=1e-12)


@given(errors, st.floats(-3, 3))
def test_a_shift_of_every_seed_is_found_exactly(values, shift):
    one = dict(enumerate(np.add(values, shift)))
    found = paired_difference(one, dict(enumerate(values)))
    np.testing.assert_allclose(found[:3], shift, rtol=0, atol=1e-12)


def test_only_common_seeds_are_paired():
    found = paired_difference({0: 1.0, 5: 3.0, 9: 99.0}, {5: 2.0, 0: 1.0, 7: -99.0})
    assert (found.mean, found.seeds) == (0.5, 2)
    assert np.isnan(found[1:3]).all()


def test_without_a_common_seed_there_is_no_difference():
    found = paired_difference({0: 1.0}, {1: 1.0})
    assert np.isnan(found[:3]).all()
    assert found.seeds == 0


def test_a_spread_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one seed, got none"):
        spread([])


# --- rows ---------------------------------------------------------------------------


def labels_of(*folders):
    return [*collect([read_run(folder) for folder in folders]).seeds]


def test_seeds_of_one_variant_in_several_folders_are_one_row(tmp_path):
    one = write_run(tmp_path / "one", {0: 3.0, 1: 3.2})
    two = write_run(tmp_path / "two", {2: 3.4}, out="elsewhere", devices=8)
    assert tables(tmp_path / "out", one, two, "--horizons", 1) == 0
    row = markdown_rows(tmp_path / "out" / "table-12-12.md")["(b) No regularization"]
    assert (row["seeds"], row["MAE 1"]) == ("3", "3.200 ± 0.200")


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("graph", "diagonal", "graph diagonal"),
        ("stack", "time-then-space", "stack time-then-space"),
        ("layers", 5, "layers 5"),
        ("model", "convolution", "model convolution"),
    ],
)
def test_a_row_is_named_by_what_most_rows_do_not_have(tmp_path, setting, value, words):
    folders = [
        write_run(tmp_path / "other", [3.0], **{setting: value}),
        write_run(tmp_path / "b", [3.0]),
        write_run(tmp_path / "e", [3.0], regularizer="penalty"),
    ]
    assert labels_of(*folders) == [
        "(b) No regularization",
        f"(b) No regularization, {words}",
        "(e) Diagonal penalty",
    ]


def test_two_strengths_are_two_rows_and_another_s_strength_is_none(tmp_path):
    folders = [
        write_run(tmp_path / "b", [3.0], penalty=-7.0),
        write_run(tmp_path / "b-too", {1: 3.0}, penalty=None),
        write_run(tmp_path / "e", [3.0], regularizer="penalty"),
        write_run(tmp_path / "e-too", [3.0], regularizer="penalty", penalty=-1.0),
    ]
    assert labels_of(*folders) == [
        "(b) No regularization",
        "(e) Diagonal penalty, penalty -0.1",
        "(e) Diagonal penalty, penalty -1.0",
    ]


def test_a_variant_is_compared_with_the_b_of_its_own_architecture(tmp_path):
    folders = [
        write_run(tmp_path / "b", [3.0, 3.1]),
        write_run(tmp_path / "e", [3.5, 3.6], regularizer="penalty"),
        write_run(tmp_path / "c", [3.5, 3.6], regularizer="mask"),
        write_run(tmp_path / "b-5", [2.0, 2.1], layers=5),
        write_run(tmp_path / "e-5", [2.2, 2.3], layers=5, regularizer="penalty"),
    ]
    rows = collect([read_run(folder) for folder in folders]).rows
    rows = rows[(rows["metric"] == "mae") & (rows["horizon"] == "3")]
    found = rows.set_index("variant")[["reference", "difference"]]
    five = "(e) Diagonal penalty, layers 5"
    assert found.loc[five, "reference"] == "(b) No regularization, layers 5"
    assert found.loc[five, "difference"] == pytest.approx(0.2)
    assert found.loc["(e) Diagonal penalty", "difference"] == pytest.approx(0.5)
    other = "(b) No regularization, layers 5"
    assert found.loc[other, "reference"] == "(b) No regularization"


def test_a_variant_the_paper_does_not_have_has_no_letter(tmp_path):
    folder = write_run(tmp_path / "x", [3.0], residual=False, regularizer="mask")
    assert labels_of(folder) == ["No residual, diagonal mask"]


def test_without_b_the_differences_are_empty_and_a_line_says_why(tmp_path):
    folders = [
        write_run(tmp_path / "e", [3.0, 3.1, 3.2], regularizer="penalty"),
        write_run(tmp_path / "a", [3.0, 3.1, 3.2], residual=False),
    ]
    assert tables(tmp_path / "out", *folders) == 0
    path = tmp_path / "out" / "table-12-12.md"
    assert not any("minus" in name for name in markdown_rows(path))
    assert (
        "No difference for (a) No residual; (e) Diagonal penalty: there is no (b) of "
        "the same settings to pair with."
    ) in path.read_text()


def test_without_common_seeds_a_line_says_so(tmp_path):
    folders = [
        write_run(tmp_path / "b", {0: 3.0, 1: 3.0}),
        write_run(tmp_path / "e", {2: 3.0, 3: 3.0}, regularizer="penalty"),
    ]
    assert tables(tmp_path / "out", *folders) == 0
    said = (tmp_path / "out" / "table-12-12.md").read_text()
    assert "No difference for (e) Diagonal penalty: no seed in common with (b)." in said
    assert "minus (b)" not in said


# --- tables -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value", "stem"),
    [
        ("width", 64, "width-64"),
        ("epochs", 150, "epochs-150"),
        ("split", "time", "split-time"),
        ("time_of_week", True, "time-of-week-yes"),
        ("data", "/elsewhere/metr-la-207", "data-metr-la-207"),
        ("dataset", "/elsewhere/mine.csv", "dataset-mine.csv"),
        ("data_sha256", "0123456789abcdef", "data-sha256-0123456789ab"),
        ("something_new", 1, "something-new-1"),
    ],
)
def test_other_settings_make_another_table_that_names_them(
    tmp_path, setting, value, stem
):
    one = write_run(tmp_path / "one", [3.0])
    two = write_run(tmp_path / "two", [3.0], **{setting: value})
    assert tables(tmp_path / "out", one, two) == 0
    names = sorted(path.name for path in (tmp_path / "out").glob("*.md"))
    assert len(names) == 2
    assert f"table-12-12-{stem}.md" in names
    first = (tmp_path / "out" / f"table-12-12-{stem}.md").read_text().splitlines()[0]
    words = {"data": "metr-la-207", "dataset": "out, mine.csv (metr-la-29), split"}
    assert words.get(setting, stem.replace("-", " ")) in first


def test_other_data_of_the_same_name_is_told_by_its_fingerprint(tmp_path):
    runs = [
        read_run(write_run(tmp_path / "one", [3.0], data_sha256="a" * 64)),
        read_run(write_run(tmp_path / "two", [3.0], data_sha256="b" * 64, width=8)),
        read_run(write_run(tmp_path / "three", {1: 3.0}, data_sha256="a" * 64)),
    ]
    groups = group_runs(runs)
    assert [len(group) for group in groups] == [2, 1]
    assert telling_settings(groups) == [["width"], ["width"]]


def test_a_copy_of_the_data_elsewhere_is_the_same_data(tmp_path):
    runs = [
        read_run(write_run(tmp_path / "one", [3.0])),
        read_run(write_run(tmp_path / "two", {1: 3.0}, data="/copy/metr-la-29")),
    ]
    assert len(group_runs(runs)) == 1
    assert variant_of(runs[0]) == variant_of(runs[1])


def test_tables_of_different_horizons_need_no_other_name(tmp_path):
    runs = [
        read_run(write_run(tmp_path / "36", [3.0], window=36, horizon=36, width=8)),
        read_run(write_run(tmp_path / "12", [3.0])),
    ]
    groups = group_runs(runs)
    assert [group[0].folder.name for group in groups] == ["12", "36"]
    assert telling_settings(groups) == [[], []]


def test_names_that_a_file_name_cannot_tell_apart_do_not_overwrite(tmp_path):
    one = write_run(tmp_path / "one", [3.0], noise=0.5)
    two = write_run(tmp_path / "two", [3.0], noise=-0.5)
    assert tables(tmp_path / "out", one, two) == 0
    assert len([*(tmp_path / "out").glob("*.csv")]) == 2
