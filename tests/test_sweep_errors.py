"""What the sweep command refuses: in a sentence that names the argument, status 2."""

import dataclasses
import shutil

import pytest

from sensitivity.sweep import main
from tests.data_files import frame, write
from tests.helpers import contents, refusal
from tests.sweep_runs import ONE, finished, options, points, sweep

MASK, DROPOUT = ("--regularizer", "mask"), ("--regularizer", "dropout")
TRAINED = ("--checkpoint", ".")


# --- arguments ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--T",), "--T must name at least one length"),
        (("--T", "0"), "--T must be at least 1, got 0"),
        (("--T", "8", "-3"), "--T must be at least 1, got -3"),
        (("--T", "8", "8"), "--T must not repeat a length, got [8, 8]"),
        (("--seeds", "0"), "--seeds must be at least 1, got 0"),
        (("--samples", "-1"), "--samples must be at least 1, got -1"),
        (("--d-model", "6", "--heads", "4"), "--d-model (6) must be a multiple of"),
        (("--d-model", "0"), "--d-model must be at least 1, got 0"),
        (("--heads", "0"), "--heads must be at least 1, got 0"),
        (("--scale", "-1"), "--scale must be positive and finite, got -1"),
        (("--scale", "0"), "--scale must be positive and finite, got 0"),
        (("--scale", "nan"), "--scale must be positive and finite, got nan"),
        (("--penalty", "-0.1"), "--penalty needs --regularizer penalty, got 'none'"),
        ((*MASK, "--penalty", "-1"), "--penalty needs --regularizer penalty, got 'mas"),
        (
            ("--regularizer", "penalty", "--penalty", "-inf"),
            "--penalty must be finite (--regularizer mask is -inf), got -inf",
        ),
        (("--dropout", "0.2"), "--dropout needs --regularizer dropout, got 'none'"),
        ((*DROPOUT, "--dropout", "1.5"), "--dropout must lie in [0, 1], got 1.5"),
        ((*MASK, "--T", "4", "1"), "--T must be at least 2 with --regularizer mask"),
        ((*DROPOUT, "--T", "1"), "--T must be at least 2 with --regularizer dropout"),
        (("--max-memory", "lots"), "--max-memory must be a positive amount such as"),
        (("--max-memory", "0GiB"), "--max-memory must be a positive amount such as"),
        ((*ONE, "--max-memory", "1KiB"), "--max-memory (1KiB) must be at least"),
        (("--source", "metr-la"), "--source metr-la needs --data"),
        (("--data", "."), "--data needs --source metr-la or --checkpoint"),
        (("--nodes", "2"), "--nodes needs --checkpoint"),
        (("--weights", "kept"), "--weights needs --checkpoint"),
        ((*TRAINED, "--T", "8"), "--T is for random layers"),
        ((*TRAINED, "--seeds", "2"), "--seeds is for random layers"),
        ((*TRAINED, "--source", "payne-whitham"), "--source is for random layers"),
        ((*TRAINED, "--d-model", "8"), "--d-model is for random layers"),
        ((*TRAINED, *MASK), "--regularizer is for random layers"),
        ((*TRAINED, "--nodes", "0"), "--nodes must be at least 1, got 0"),
        ((*TRAINED, "."), "--checkpoint must not repeat one"),
    ],
)
def test_arguments_that_cannot_be_are_refused_by_name(
    tmp_path, capsys, arguments, words
):
    said = refusal(capsys, sweep, tmp_path / "out", *arguments)
    assert words in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_scale_that_overflows_is_refused_and_makes_no_verdict(
    tmp_path, capsys, dtype
):
    asked = (*ONE, "--scale", "1e200", "--dtype", dtype)
    said = refusal(capsys, sweep, tmp_path / "out", *asked)
    assert ("--scale (1e+200) is too large" if dtype == "float32" else "finite") in said
    assert not points(tmp_path / "out")


def test_help_lists_every_option_and_only_sources_that_work(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    asked = options()
    fields = [
        field.name
        for part in (asked, asked.layer, asked.measure)
        for field in dataclasses.fields(part)
        if field.name not in ("layer", "measure")
    ]
    assert len(fields) == 26
    for name in fields:
        assert f"--{name.replace('_', '-')} " in said.replace(",", " ")
    assert "--source {gaussian,payne-whitham,metr-la}" in said


# --- data ---------------------------------------------------------------------------


def absent(path):
    """Nothing there."""
    path.unlink()
    path.parent.rmdir()


def truncated(path):
    """Only the beginning of the file."""
    path.write_bytes(path.read_bytes()[:3000])


def foreign(path):
    """Another kind of file."""
    path.write_text("sensor,speed\n773869,64.375\n")


def other_key(path):
    """The right kind, with the frame under another key."""
    frame().to_hdf(path, key="flow", mode="w", format="fixed")


def series_layout(path):
    """A single series where there must be a frame."""
    frame()["773869"].to_hdf(path, key="df", mode="w", format="fixed")


@pytest.mark.parametrize(
    "damage", [absent, truncated, foreign, other_key, series_layout]
)
def test_data_that_cannot_be_read_are_refused(tmp_path, capsys, damage):
    folder = tmp_path / "data"
    folder.mkdir()
    damage(write(folder))
    asked = (*ONE, "--source", "metr-la", "--data", folder)
    said = refusal(capsys, sweep, tmp_path / "out", *asked)
    where = "data does not exist" if damage is absent else "data/metr-la.h5"
    assert f"--data: {tmp_path}/{where}" in said
    assert not (tmp_path / "out").exists()


def test_lengths_beyond_the_series_are_refused(tmp_path, capsys):
    write(tmp_path)
    asked = (*ONE, "--source", "metr-la", "--data", tmp_path, "--T", "4", "7")
    said = refusal(capsys, sweep, tmp_path / "out", *asked)
    assert "--T (7) must not exceed the 6 steps of" in said


def test_a_data_file_that_changed_is_never_mixed_in(tmp_path, capsys):
    out = tmp_path / "out"
    write(tmp_path)
    asked = (*ONE, "--source", "metr-la", "--data", tmp_path)
    assert sweep(out, *asked) == 0
    assert sweep(out, *asked) == 0
    before = contents(out)
    write(tmp_path, frame() ** 2)
    said = refusal(capsys, sweep, out, *asked)
    assert "--out" in said
    assert "(the data or the weights are others)" in said
    assert contents(out) == before
    assert sweep(out, *asked, "--overwrite") == 0
    assert (out / "sweep.csv").read_bytes() != before["sweep.csv"]


def test_overwrite_of_a_longer_sweep_leaves_no_point_of_it(tmp_path):
    out = shutil.copytree(finished(*ONE), tmp_path / "out")
    assert sweep(out, *ONE, "--T", "1", "--overwrite") == 0
    assert [name[:10] for name in points(out)] == ["T=1-seed=0"]
