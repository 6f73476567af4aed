"""The grid of a study: what is trained, what is skipped, what is continued."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.study import main
from analysis.study.grid import VARIANTS, Cell, StudyOptions, is_finished, plan
from analysis.training_plots import attention_maps, training_curves
from models.train.options import TrainOptions


def finish(run) -> None:
    """Leave behind what a complete run of these options leaves."""
    run.out.mkdir(parents=True)
    record = {"arguments": run.identity(), "complete": True}
    (run.out / "run.json").write_text(json.dumps(record))


def missing(cell: Cell) -> TrainOptions:
    """The run that a cell lacks."""
    assert cell.missing is not None
    return cell.missing


def options(tmp_path, **changes) -> StudyOptions:
    settings = {"dataset": "payne-whitham", "windows": (6,), "seeds": 3}
    return StudyOptions(out=tmp_path, **(settings | changes))


def test_every_variant_differs_from_the_baseline_in_one_option():
    assert [len(VARIANTS[name]) for name in VARIANTS] == [1, 0, 1, 1, 1, 1]
    assert VARIANTS["a"] == {"residual": False}
    assert VARIANTS["b-diagonal"] == {"graph": "diagonal"}


def test_short_windows_come_first_and_all_is_missing_at_first(tmp_path):
    cells = plan(options(tmp_path, windows=(8, 6), variants=("b", "e")))
    assert [(cell.window, cell.variant) for cell in cells] == [
        *((6, "b"), (6, "e")),
        *((8, "b"), (8, "e")),
    ]
    for cell in cells:
        assert cell.finished == []
        run = missing(cell)
        assert run.fit.seed_list() == [0, 1, 2]
        assert run.series.horizon == cell.window
        assert run.resume


def test_what_is_finished_is_not_trained_again(tmp_path):
    study = options(tmp_path, variants=("b", "c"))
    finish(missing(plan(study)[0]))
    first, second = plan(study)
    assert first.missing is None
    assert len(first.finished) == 1
    assert second.missing is not None


def test_more_seeds_train_only_the_new_ones(tmp_path):
    finish(missing(plan(options(tmp_path, variants=("b",)))[0]))
    (cell,) = plan(options(tmp_path, variants=("b",), seeds=5))
    assert [run.fit.seed_list() for run in cell.finished] == [[0, 1, 2]]
    assert missing(cell).fit.seed_list() == [3, 4]


@pytest.mark.parametrize(
    "change", [{"epochs": 7}, {"batch_size": 8}, {"time_of_week": True}]
)
def test_a_run_with_other_settings_does_not_count_as_finished(tmp_path, change):
    run = missing(plan(options(tmp_path, variants=("b",)))[0])
    finish(run)
    assert is_finished(run)
    (cell,) = plan(options(tmp_path, variants=("b",), **change))
    assert cell.finished == []


def test_a_run_that_is_not_complete_is_continued(tmp_path):
    run = missing(plan(options(tmp_path, variants=("b",)))[0])
    finish(run)
    (run.out / "run.json").write_text(
        json.dumps({"arguments": run.identity(), "complete": False})
    )
    assert plan(options(tmp_path, variants=("b",)))[0].missing == run


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
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert rule in " ".join(capsys.readouterr().err.replace("│", " ").split())


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
    assert [ax.get_title() for ax in figure.axes] == [
        "12 steps in, 12 steps out",
        "36 steps in, 36 steps out",
    ]
    for ax in figure.axes:
        assert ax.get_xlabel() == "epoch"
        assert [line.get_label() for line in ax.get_lines()] == ["(b)", "(e)"]
        np.testing.assert_allclose(
            np.asarray(ax.get_lines()[0].get_ydata()), [9, 4.5, 3]
        )
    assert figure.axes[0].get_ylabel() == "validation MAE (mph)"


def test_attention_maps_share_one_scale_and_name_the_diagonal():
    maps = {"(b)": np.full((4, 4), 0.25), "(c)": (1 - np.eye(4)) / 3}
    figure = attention_maps(maps, "title")
    assert isinstance(figure, Figure)
    shown = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title() for ax in shown] == [
        "(b)\ndiagonal mean 0.250",
        "(c)\ndiagonal mean 0.000",
    ]
    assert {ax.images[0].get_clim() for ax in shown} == {(0, 1 / 3)}


@pytest.mark.slow
def test_a_small_study_runs_through_and_is_not_done_twice(tmp_path, capsys):
    command = "--dataset payne-whitham --windows 4 --variants b c --seeds 1 --epochs 1"
    arguments = [*command.split(), "--steps-per-epoch", "2", "--out", str(tmp_path)]
    assert main(arguments) == 0
    for name in ("tables/table-4-4.md", "training-curves.png", "attention-4-4.png"):
        assert (tmp_path / name).exists(), name
    before = (tmp_path / "4-4/b/seeds-0-0/test.csv").read_bytes()
    capsys.readouterr()
    assert main(arguments) == 0
    assert "0 to train" in capsys.readouterr().out
    assert (tmp_path / "4-4/b/seeds-0-0/test.csv").read_bytes() == before
