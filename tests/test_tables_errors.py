"""What the table command refuses: in a sentence that names the argument, status 2."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from models.train.record import read_run
from tests.helpers import refusal
from tests.table_runs import markdown_rows, tables, write_run


@pytest.fixture
def run(tmp_path):
    """A finished run."""
    return write_run(tmp_path / "run", [3.0])


def rewrite(path, change):
    """Change what a JSON file holds."""
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


# --- arguments ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "RUNS must name at least one folder, got none"),
        (("RUN", "--horizons"), "--horizons must name at least one step, got none"),
        (("RUN", "--horizons", "3", "-2"), "--horizons must be at least 1, got -2"),
        (("RUN", "--horizons", "3", "24"), "--horizons (24) must not exceed the 12"),
        (("RUN", "RUN"), "RUNS must name each folder once, got"),
    ],
)
def test_a_bad_argument_is_named(capsys, tmp_path, run, arguments, words):
    arguments = [run if one == "RUN" else one for one in arguments]
    said = refusal(capsys, tables, tmp_path / "out", *arguments)
    assert words in said
    assert not (tmp_path / "out").exists()


def test_out_must_be_a_folder(capsys, tmp_path, run):
    (tmp_path / "file").write_text("mine")
    said = refusal(capsys, tables, tmp_path / "file", run)
    assert (tmp_path / "file").read_text() == "mine"
    assert "file) must be a folder, but it is a file." in said
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    said = refusal(capsys, tables, tmp_path / "link", run)
    assert "gone, which is not there" in said
    said = refusal(capsys, tables, tmp_path / "file" / "out", run, status=1)
    assert "Not a directory" in said


def test_what_else_is_in_the_folder_stays(tmp_path, run):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert tables(tmp_path / "out", run) == tables(tmp_path / "out", run) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "notes.txt",
        *(f"table-12-12.{ending}" for ending in ("csv", "md", "tex")),
    ]


def test_help_does_not_load_jax():
    program = (
        "import sys\nfrom analysis.tables import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit('jax' in sys.modules or 'pandas' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    assert "--horizons" in done.stdout


def test_pytables_is_not_shadowed():
    assert hasattr(importlib.import_module("tables"), "open_file")
    assert not hasattr(importlib.import_module("analysis.tables"), "open_file")


# --- runs ---------------------------------------------------------------------------


def test_a_folder_that_is_no_run_is_named(capsys, tmp_path):
    (tmp_path / "photos").mkdir()
    said = refusal(capsys, tables, tmp_path / "out", tmp_path / "photos")
    assert "photos is no training run: it holds no run.json" in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.pop("arguments"), "must hold arguments and complete"),
        (lambda r: r.pop("complete"), "must hold arguments and complete"),
        (lambda r: r["arguments"].pop("graph"), "lacks graph among the arguments"),
        (lambda r: r.pop("device"), "must hold parameters (a number), seeds"),
        (lambda r: r.update(seeds=[]), "must hold parameters (a number), seeds"),
        (lambda r: r.update(seeds=[0, 1]), "the seeds [0, 1] that run.json names, got"),
        (lambda r: r["arguments"].update(horizon=3), "the steps 1 to 3 and their mean"),
    ],
)
def test_a_record_that_does_not_fit_is_named(capsys, tmp_path, run, change, words):
    rewrite(run / "run.json", change)
    said = refusal(capsys, tables, tmp_path / "out", run)
    assert words in said
    assert "run" in said


@pytest.mark.parametrize("content", ["{", "[]", "null", '"text"'])
def test_a_record_that_is_none_is_refused(run, content):
    (run / "run.json").write_text(content)
    with pytest.raises(ValueError, match=r"cannot be read|is no training run"):
        read_run(run)


def test_a_step_that_occurs_twice_or_not_is_named(capsys, tmp_path, run):
    table = pd.read_csv(run / "test.csv")
    doubled = pd.concat([table, table[table["model"] == "ridge"].head(1)])
    for rows, words in ((doubled, "once for ridge"), (table[1:], "once for seed 0")):
        rows.to_csv(run / "test.csv", index=False)
        assert words in refusal(capsys, tables, tmp_path / "out", run)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "must hold test.csv, but it is not there"),
        ("seed,model\n0,attention\n", "must have the columns ['horizon', 'mae'"),
        ("", "test.csv cannot be read: No columns"),
        ("seed,model\nzero,attention\n", "test.csv cannot be read"),
    ],
)
def test_a_broken_test_table_is_named(capsys, tmp_path, run, content, words):
    (run / "test.csv").unlink()
    if content is not None:
        (run / "test.csv").write_text(content)
    said = refusal(capsys, tables, tmp_path / "out", run)
    assert words in said


def test_an_incomplete_run_is_named_and_left_out_only_on_request(capsys, tmp_path, run):
    half = write_run(tmp_path / "half", {7: 9.0}, record={"complete": False})
    (half / "test.csv").unlink()  # a run that was killed has none
    rewrite(half / "run.json", lambda record: record.pop("device"))
    said = refusal(capsys, tables, tmp_path / "out", run, half)
    assert "half is not complete. Train it to its end, or leave it out with" in said
    said = refusal(capsys, tables, tmp_path / "out", half, "--partial")
    assert "RUNS must hold a complete run, but none of ['half'] is" in said
    assert not (tmp_path / "out").exists()
    assert tables(tmp_path / "out", run, half, "--partial") == 0
    path = tmp_path / "out" / "table-12-12.md"
    assert markdown_rows(path)["(b) No regularization"]["seeds"] == "1"
    assert "Left out, not complete: half." in path.read_text()


def test_the_same_seed_twice_is_refused_with_both_folders(capsys, tmp_path):
    one = write_run(tmp_path / "one", {0: 3.0, 1: 3.0})
    two = write_run(tmp_path / "two", {1: 3.1, 2: 3.1})
    said = refusal(capsys, tables, tmp_path / "out", one, two)
    assert "seed 1 of (b) No regularization is in" in said
    assert "one and in" in said


def test_baselines_that_differ_betray_different_data(capsys, tmp_path):
    one = write_run(tmp_path / "one", [3.0], baselines={"ridge": 3.4})
    near = write_run(tmp_path / "near", {1: 3.0}, baselines={"ridge": 3.40001})
    far = write_run(tmp_path / "far", {2: 3.0}, baselines={"ridge": 3.5})
    assert tables(tmp_path / "out", one, near) == 0
    said = refusal(capsys, tables, tmp_path / "out", one, far)
    assert "the baseline 'ridge' must have the same errors" in said


def test_a_run_that_was_not_trained_has_zero_epochs(tmp_path):
    run = write_run(tmp_path / "run", [3.0], epochs=0)
    header = (run / "metrics.csv").read_text().splitlines()[0]
    (run / "metrics.csv").write_text(header + "\n")
    assert tables(tmp_path / "out", run) == 0
    assert "Epochs: 0 of 0, 187" in (tmp_path / "out" / "table-12-12.md").read_text()
