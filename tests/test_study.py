"""The grid of a study: what is trained, what is skipped, what is continued."""

import dataclasses
import functools
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.plots.training import attention_maps, training_curves
from analysis.study import main
from analysis.study._grid import (
    PAPER,
    VARIANTS,
    Cell,
    CellKey,
    StudyOptions,
    all_finished,
    plan,
)
from analysis.study.command import label_of
from analysis.tables import main as tables
from models.runs.folder import RunFolder
from models.train.options import TrainOptions
from tests import helpers
from tests.table_runs import write_run


def finish(run: TrainOptions, *, complete: bool = True) -> None:
    """Leave behind what a run of these options leaves."""
    run.out.mkdir(parents=True)
    record = {"arguments": run.identity(), "complete": complete}
    (run.out / "run.json").write_text(json.dumps(record))


def missing(cell: Cell) -> TrainOptions:
    """The one run that a cell lacks."""
    (run,) = cell.missing
    return run


def options(tmp_path, **changes) -> StudyOptions:
    settings = {"dataset": "payne-whitham", "windows": (6,), "seeds": 3}
    return StudyOptions(out=tmp_path, **(settings | changes))


def only_b(tmp_path, **changes) -> Cell:
    """What there is, and is to be done, of (b)."""
    (cell,) = plan(options(tmp_path, variants=("b",), **changes))
    return cell


def seeds_of(runs) -> list[list[int]]:
    return [run.fit.seed_list() for run in runs]


def test_every_variant_differs_from_the_baseline_in_one_option():
    assert [len(VARIANTS[name]) for name in PAPER] == [1, 0, 1, 1, 1, 1]
    assert VARIANTS["a"] == {"residual": False}
    assert VARIANTS["b-diagonal"] == {"graph": "diagonal"}


def test_cells_are_called_as_in_the_tables(tmp_path):
    cells = [
        Cell(key := CellKey(6, variant, 2), [options(tmp_path).cell(key, 0, 1)], [])
        for variant in VARIANTS
    ]
    assert [label_of(cell, cells) for cell in cells] == [
        "(a) No residual",
        "(b) No regularization",
        "(c) Full diagonal mask",
        "(d) Diagonal dropout",
        "(e) Diagonal penalty",
        "(f) Query penalty",
        "(g) Spectrum penalty",
        "(g) Spectrum penalty, spectrum size norm",
        "(h) Head norm",
        "(i) Learned mask",
        "(j) Conjoint attention",
        "(k) Softmax-1",
        "(b) No regularization, graph diagonal",
        "(b) No regularization, graph conjoint",
        "(b) No regularization, time then space",
        "Convolution",
        "Convolution, time then space",
    ]
    deep = cells[1]._replace(key=CellKey(6, "b", 3))
    assert label_of(deep, [*cells, deep]) == "(b) No regularization, 3 layers"


def test_short_windows_come_first_and_all_is_missing_at_first(tmp_path):
    cells = plan(options(tmp_path, windows=(8, 6), variants=("b", "e")))
    keys = [cell.key[:2] for cell in cells]
    assert keys == [(6, "b"), (6, "e"), (8, "b"), (8, "e")]
    for cell in cells:
        assert cell.finished == []
        run = missing(cell)
        assert run.fit.seed_list() == [0, 1, 2]
        assert run.series.horizon == cell.key.window
        assert run.resume


def test_what_is_finished_is_not_trained_again(tmp_path):
    study = options(tmp_path, variants=("b", "c"))
    finish(missing(plan(study)[0]))
    first, second = plan(study)
    assert first.missing == []
    assert len(first.finished) == len(second.missing) == 1


@pytest.mark.parametrize(
    ("there", "asked", "left"),
    [
        ([(0, 3)], 5, [[3, 4]]),  # more seeds
        ([(0, 1), (1, 3)], 1, []),  # fewer than there are
        ([(0, 1), (1, 3)], 2, []),
        ([(0, 1), (1, 3)], 3, []),
        ([(0, 1), (3, 2)], 7, [[1, 2], [5, 6]]),  # gaps
    ],
)
def test_only_seeds_that_are_not_there_are_trained(tmp_path, there, asked, left):
    for first, count in there:
        finish(options(tmp_path).cell(CellKey(6, "b", 2), first, count))
    assert seeds_of(only_b(tmp_path, seeds=asked).missing) == left


def test_depths_and_a_horizon_of_its_own_are_cells_of_their_own(tmp_path):
    study = options(tmp_path, variants=("b", "convolution-tts"), layers=(3, 1))
    study = dataclasses.replace(study, windows=(8, 6), horizon=4, keep_epochs=(0, 2))
    runs = [missing(cell) for cell in plan(study)]
    sizes = [(run.series.window, run.model.layers) for run in runs]
    assert sizes == [(T, L) for T in (6, 8) for L in (1, 1, 3, 3)]
    assert {run.series.horizon for run in runs} == {4}
    assert {run.keep_epochs for run in runs} == {(0, 2)}
    assert len({run.out for run in runs}) == 8
    for run in runs:
        finish(run)
    assert all(not cell.missing for cell in plan(study))
    there = all_finished(dataclasses.replace(study, windows=(6,), layers=(1,)))
    assert [cell.key for cell in there] == study.keys()
    assert all_finished(dataclasses.replace(study, horizon=None)) == []


def test_where_the_data_lie_does_not_count(tmp_path):
    finish(missing(only_b(tmp_path, data="here", dataset="metr-la")))
    assert only_b(tmp_path, data="elsewhere", dataset="metr-la").missing == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (["--epochs", "7"], "--epochs 10 there, 7 asked for"),
        (["--batch-size", "8"], "--batch-size 32 there, 8 asked for"),
        (["--time-of-week"], "--time-of-week False there, True asked for"),
    ],
)
def test_a_study_of_other_settings_is_refused_before_anything_is_written(
    tmp_path, capsys, change, word
):
    finish(options(tmp_path).cell(CellKey(6, "e", 2), 0, 3))
    command = ["--dataset", "payne-whitham", "--windows", "6", "--out", str(tmp_path)]
    assert main([*command, *change]) == 2
    error = capsys.readouterr().err
    assert word in error
    assert "choose another --out" in error
    assert [file.name for file in tmp_path.iterdir()] == ["6-6"]
    assert [file.name for file in (tmp_path / "6-6").iterdir()] == ["e"]


@pytest.mark.parametrize(
    ("there", "words"),
    [("notes.txt", "it holds 'notes.txt' and no run.json"), (None, "is in use")],
)
def test_a_folder_of_somebody_else_or_in_use_is_refused(tmp_path, capsys, there, words):
    command = ["--dataset", "payne-whitham", "--out", str(tmp_path)]
    if there is None:
        with RunFolder(tmp_path, "analysis.study", {}):
            assert main(command) == 2
    else:
        (tmp_path / there).touch()
        assert main(command) == 2
    assert words in capsys.readouterr().err


def test_a_run_that_is_not_complete_is_continued(tmp_path):
    run = missing(only_b(tmp_path))
    finish(run, complete=False)
    assert only_b(tmp_path).missing == [run]
    assert seeds_of(only_b(tmp_path, seeds=4).missing) == [[0, 1, 2], [3]]


def test_all_that_is_finished_is_compared_whatever_was_asked_for_last(tmp_path):
    study = options(tmp_path)
    for window, variant, first in ((6, "b", 0), (6, "b", 1), (6, "e", 0), (8, "b", 0)):
        finish(study.cell(CellKey(window, variant, 2), first, 1))
    finish(study.cell(CellKey(8, "c", 2), 0, 1), complete=False)
    cells = all_finished(options(tmp_path, windows=(8,), variants=("b",)))
    found = [(c.key.window, c.key.variant, len(c.finished)) for c in cells]
    assert found == [(6, "b", 2), (6, "e", 1), (8, "b", 1)]


def test_seeds_trained_piece_by_piece_are_one_row_of_one_table(tmp_path):
    study = options(tmp_path, variants=("b", "e"))
    for seeds in (1, 4):
        for cell in plan(dataclasses.replace(study, seeds=seeds)):
            arguments: Any = missing(cell).identity() | {"data_sha256": "0"}
            mae = dict.fromkeys(missing(cell).fit.seed_list(), 3.0)
            write_run(missing(cell).out, mae, **arguments)
    folders = sorted(map(str, tmp_path.glob("6-6/*/seeds-*")))
    assert len(folders) == 4
    assert tables([*folders, "--out", str(tmp_path / "tables")]) == 0
    names = {file.name for file in (tmp_path / "tables").iterdir()}
    assert {f"table-6-6.{end}" for end in ("csv", "md", "tex")} == names
    rows = pd.read_csv(tmp_path / "tables" / "table-6-6.csv")
    assert set(rows.loc[rows["reference"].notna(), "paired_seeds"]) == {4}


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["--seeds", "0"], "--seeds must be at least 1, got 0"),
        (["--windows", "12", "12"], "--windows must not repeat one"),
        (["--windows", "0"], "--windows must be at least 1, got 0"),
        (["--data", "x", "--dataset", "payne-whitham"], "--data needs --dataset"),
    ],
)
def test_bad_arguments_are_named(capsys, arguments, rule):
    said = helpers.refusal(capsys, functools.partial(helpers.run, main), *arguments)
    assert rule in said


def test_training_curves_have_a_line_per_variant_and_a_panel_per_window():
    table = pd.DataFrame(
        [
            {"epoch": e, "seed": s, "window": w, "variant": v, "validation_mae": 9 / e}
            for e in (1, 2, 3)
            for s in (0, 1)
            for w in (12, 36)
            for v in ("(b)", "(e)")
        ]
    )
    figure = training_curves(table)
    assert [ax.get_title() for ax in figure.axes] == ["12 steps in", "36 steps in"]
    for ax in figure.axes:
        assert ax.get_xlabel() == "epoch"
        lines = ax.get_lines()
        assert [line.get_label() for line in lines] == ["(b)", "(e)"]
        np.testing.assert_allclose(np.asarray(lines[0].get_ydata()), [9, 4.5, 3])
        assert lines[0].get_marker() == ""
    assert figure.axes[0].get_ylabel() == "validation MAE (mph)"
    (ax, _) = training_curves(table[table["epoch"] == 1]).axes  # a point is seen
    assert ax.get_lines()[0].get_marker() == "o"
    assert all(float(tick).is_integer() for tick in ax.get_xticks())


def test_a_seed_that_stopped_counts_on_with_its_last_error():
    rows = [(1, 0, 4.0), (2, 0, 3.0), (1, 1, 2.0), (2, 1, 2.0), (3, 1, 2.0)]
    table = pd.DataFrame(rows, columns=["epoch", "seed", "validation_mae"])
    figure = training_curves(table.assign(window=12, variant="(b)"))
    line = np.asarray(figure.axes[0].get_lines()[0].get_ydata())
    np.testing.assert_allclose(line, [3, 2.5, 2.5])


def test_attention_maps_share_one_scale_and_name_the_diagonal():
    maps = {"(b)": np.full((4, 4), 0.25), "(c)": (1 - np.eye(4)) / 3}
    shown = [ax for ax in attention_maps(maps, "title").axes if ax.images]
    titles = ["(b)\ndiagonal mean 0.250", "(c)\ndiagonal mean 0.000"]
    assert [ax.get_title() for ax in shown] == titles
    assert {ax.images[0].get_clim() for ax in shown} == {(0, 1 / 3)}


@pytest.mark.slow
def test_a_small_study_runs_through_and_is_not_done_twice(tmp_path, capsys):
    command = "--dataset payne-whitham --windows 4 --variants b c --seeds 1 --epochs 1"
    arguments = [*command.split(), "--steps-per-epoch", "2", "--out", str(tmp_path)]
    assert main(arguments) == 0
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["complete"]
    assert record["files"] == ["training-curves.png", "attention-4-4.png"]
    names = ("tables/table-4-4.md", *record["files"], "4-4/b/seeds-0-0/test.csv")
    before = [(tmp_path / name).read_bytes() for name in names]
    (tmp_path / "run.json").unlink()  # as version 0.1.0 left it
    capsys.readouterr()
    assert main(arguments) == 0
    assert "0 run(s) to train" in capsys.readouterr().out
    assert [(tmp_path / name).read_bytes() for name in names] == before
