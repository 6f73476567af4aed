"""Which runs share a table and a row, what they are called and compared with."""

from pathlib import Path

import pytest

from analysis.tables._results import collect
from analysis.variants import (
    check_each_seed_once,
    describe,
    group_runs,
    name_of,
    telling_settings,
    variant_of,
)
from models.train.options import ModelOptions, TrainOptions
from models.train.record import read_run
from tests.table_runs import markdown_rows, tables, write_run

B = "(b) No regularization"


@pytest.fixture
def run(tmp_path):
    """Write a run into a new folder: one seed unless errors by seed are given."""

    def write(mae=(3.0,), **arguments):
        return write_run(tmp_path / str(len([*tmp_path.iterdir()])), mae, **arguments)

    return write


def labels_of(*folders):
    return [*collect([read_run(folder) for folder in folders]).seeds]


# --- rows ---------------------------------------------------------------------------


def test_seeds_of_one_variant_in_several_folders_are_one_row(run, tmp_path):
    one = run({0: 3.0, 1: 3.2})
    two = run({2: 3.4}, out="elsewhere", devices=8)
    assert tables(tmp_path / "out", one, two, "--horizons", 1) == 0
    row = markdown_rows(tmp_path / "out" / "table-12-12.md")[B]
    assert (row["seeds"], row["MAE 1"]) == ("3", "3.200 ± 0.200")


def test_a_weight_of_the_graph_is_told_where_there_are_two(run):
    plain, one = run(), run(graph="conjoint", structure_weight=0.01)
    other = run(graph="conjoint", structure_weight=0.1)
    assert labels_of(plain, one) == [B, f"{B}, graph conjoint"]
    weights = [f"{B}, graph conjoint, structure weight {w}" for w in (0.01, 0.1)]
    assert {*labels_of(plain, one, other)} == {B, *weights}
    graphs = (ModelOptions(), ModelOptions(graph="conjoint"))
    names = [
        row["variant"] for row in describe([TrainOptions(model=g) for g in graphs])
    ]
    assert names == [f"{B}, graph full", f"{B}, graph conjoint"]


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("graph", "diagonal", "graph diagonal"),
        ("stack", "time-then-space", "stack time-then-space"),
        ("layers", 5, "layers 5"),
        ("model", "convolution", "model convolution"),
    ],
)
def test_a_row_is_named_by_what_most_rows_do_not_have(run, setting, value, words):
    folders = run(**{setting: value}), run(), run(regularizer="penalty")
    assert labels_of(*folders) == [B, f"{B}, {words}", "(e) Diagonal penalty"]


def test_two_strengths_are_two_rows_and_another_s_strength_is_none(run):
    folders = [
        run(penalty=-7.0),
        run({1: 3.0}, penalty=None),
        run(regularizer="penalty"),
        run(regularizer="penalty", penalty=-1.0),
        run(residual=False, regularizer="mask"),  # the paper has no letter for it
    ]
    assert labels_of(*folders) == [
        B,
        "(e) Diagonal penalty, penalty -0.1",
        "(e) Diagonal penalty, penalty -1.0",
        "No residual, diagonal mask",
    ]


def test_a_variant_is_compared_with_the_b_of_its_own_architecture(run):
    folders = [
        run([3.0, 3.1]),
        run([3.5, 3.6], regularizer="penalty"),
        run([3.5, 3.6], regularizer="mask"),
        run([2.0, 2.1], layers=5),
        run([2.2, 2.3], layers=5, regularizer="penalty"),
    ]
    rows = collect([read_run(folder) for folder in folders]).rows
    rows = rows[(rows["metric"] == "mae") & (rows["horizon"] == "3")]
    found = rows.set_index("variant")
    five = "(e) Diagonal penalty, layers 5"
    assert found.loc[five, "reference"] == f"{B}, layers 5"
    assert found.loc[five, "difference"] == pytest.approx(0.2)
    assert found.loc["(e) Diagonal penalty", "difference"] == pytest.approx(0.5)
    assert found.loc[f"{B}, layers 5", "reference"] == B


@pytest.mark.parametrize(
    ("seeds", "other", "words"),
    [
        (
            (0, 1, 2),
            {"residual": False},
            "(a) No residual; (e) Diagonal penalty: there is no (b) of the same "
            "settings to pair with.",
        ),
        ((2, 3), {}, "(e) Diagonal penalty: no seed in common with (b)."),
    ],
)
def test_without_differences_a_line_says_why(run, tmp_path, seeds, other, words):
    penalty = run(dict.fromkeys(seeds, 3.0), regularizer="penalty")
    assert tables(tmp_path / "out", penalty, run([3.0, 3.1], **other)) == 0
    path = tmp_path / "out" / "table-12-12.md"
    assert not any("minus" in name for name in markdown_rows(path))
    assert f"No difference for {words}" in path.read_text()
    assert "minus (b)" not in path.read_text()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, B),
        ({"residual": False}, "(a) No residual"),
        ({"residual": False, "regularizer": "mask"}, "No residual, diagonal mask"),
        ({"graph": "diagonal"}, f"{B}, graph diagonal"),
        ({"stack": "time-then-space"}, f"{B}, time then space"),
        ({"regularizer": "query"}, "(f) Query penalty"),
        ({"head_norm": "rms"}, "(h) Head norm"),
        ({"head_norm": "rms", "residual": False}, "No residual, (h) Head norm"),
        ({"attention": "softmax-1"}, "(k) Softmax-1"),
        ({"graph": "conjoint"}, f"{B}, graph conjoint"),
        ({"model": "convolution"}, "Convolution"),
        ({"model": "convolution", "residual": False}, "Convolution, no residual"),
    ],
)
def test_a_model_has_a_name_by_itself(options, name):
    assert name_of(ModelOptions(**options)) == name


def test_each_seed_counts_once():
    one, two = Path("one"), Path("two")
    check_each_seed_once([("b", B, [0, 1], one), ("b", B, [2], two)])
    check_each_seed_once([("b", B, [0, 1], one), ("b, 5 layers", B, [0], two)])
    said = r"seed 1 of \(b\) No regularization is in one and in two"
    with pytest.raises(ValueError, match=said):
        check_each_seed_once([("b", B, [0, 1], one), ("b", B, [1], two)])


# --- tables -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value", "stem"),
    [
        ("width", 64, "width-64"),
        ("split", "time", "split-time"),
        ("time_of_week", True, "time-of-week-yes"),
        ("data", "/elsewhere/metr-la-207", "data-metr-la-207"),
        ("dataset", "/elsewhere/mine.csv", "dataset-mine.csv"),
        ("data_sha256", "0123456789abcdef", "data-sha256-0123456789ab"),
        ("something_new", 1, "something-new-1"),
    ],
)
def test_other_settings_make_another_table_that_names_them(
    run, tmp_path, setting, value, stem
):
    assert tables(tmp_path / "out", run(), run(**{setting: value})) == 0
    names = {path.name for path in (tmp_path / "out").glob("*.md")}
    assert len(names) == 2
    assert f"table-12-12-{stem}.md" in names
    first = (tmp_path / "out" / f"table-12-12-{stem}.md").read_text().splitlines()[0]
    words = {"data": "metr-la-207", "dataset": "out, mine.csv (metr-la-29), split"}
    assert words.get(setting, stem.replace("-", " ")) in first


def test_other_data_of_the_same_name_is_told_by_its_fingerprint(run):
    runs = [
        read_run(run(data_sha256="a" * 64)),
        read_run(run(data_sha256="b" * 64, width=8)),
        read_run(run({1: 3.0}, data_sha256="a" * 64)),
    ]
    groups = group_runs(runs)
    assert [len(group) for group in groups] == [2, 1]
    assert telling_settings(groups) == [["width"], ["width"]]


def test_a_copy_of_the_data_elsewhere_is_the_same_data(run):
    runs = [read_run(run()), read_run(run({1: 3.0}, data="/copy/metr-la-29"))]
    assert len(group_runs(runs)) == 1
    assert variant_of(runs[0]) == variant_of(runs[1])


def test_tables_of_different_horizons_need_no_other_name(run):
    long = read_run(run(window=36, horizon=36, width=8))
    groups = group_runs([long, read_run(run())])
    assert [group[0].arguments["horizon"] for group in groups] == [12, 36]
    assert telling_settings(groups) == [[], []]


def test_names_that_a_file_name_cannot_tell_apart_do_not_overwrite(run, tmp_path):
    assert tables(tmp_path / "out", run(noise=0.5), run(noise=-0.5)) == 0
    assert len([*(tmp_path / "out").glob("*.csv")]) == 2
