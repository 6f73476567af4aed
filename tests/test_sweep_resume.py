"""What a sweep has finished stays, whatever happens, and the same command goes on."""

import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import models.runs.whole_files
import sensitivity.bounds
from analysis.sweep._drawn import RandomLayers
from analysis.sweep._earlier import earlier_point
from tests.sweep_runs import (
    RESULTS,
    SMALL,
    contents,
    finished,
    options,
    points,
    refusal,
    same,
    sweep,
)

ROOT = Path(__file__).parents[1]


@pytest.fixture
def done():
    """A complete sweep of six points: its folder. Leave it as it is."""
    return finished()


@pytest.fixture
def copied(done, tmp_path):
    """A complete sweep, to be changed."""
    return shutil.copytree(done, tmp_path / "out")


def start_and_send(out: Path, number: int) -> tuple[int, str]:
    """Start the command, and signal it as soon as a point is finished."""
    code = (  # what a shell started in the background ignores, a terminal does not
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from models.runs.entry import start; start('analysis.sweep.command')"
    )
    command = [sys.executable, "-c", code, *SMALL, "--out", str(out)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        deadline = time.monotonic() + 120
        while not points(out) and process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
            time.sleep(0.02)
        process.send_signal(number)
        said = process.stderr.read()
    return process.returncode, said


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_sweep_stopped_goes_on_and_ends_with_the_same_bytes(
    done, tmp_path, capsys, number
):
    out = tmp_path / "out"
    status, said = start_and_send(out, number)
    assert "Traceback" not in said
    if number == signal.SIGINT:
        assert status == 130
        assert said.startswith("error: interrupted; ")
    before = points(out)
    assert 0 < len(before) < 6
    assert not (out / "sweep.csv").exists()
    assert sweep(out) == 0
    assert capsys.readouterr().out.count("finished before") == len(before)
    assert same(out, done)
    after = points(out)
    assert len(after) == 6
    assert {name: after[name] for name in before} == before  # not computed again


def test_an_interrupt_between_points_keeps_them(done, tmp_path, capsys, monkeypatch):
    out, count, whole = tmp_path / "out", itertools.count(), sensitivity.bounds.measure

    def interrupted(*arguments, **options):
        if next(count) == 3:
            raise KeyboardInterrupt
        return whole(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(sensitivity.bounds, "measure", interrupted)
        status, said = refusal(capsys, out)
    assert status == 130
    assert str(out) in said
    assert "the same command goes on" in said
    assert len(points(out)) == 3
    assert sweep(out) == 0
    assert same(out, done)


@pytest.mark.parametrize("writes", [0, 6, 12, 33])
def test_a_full_disk_is_named_and_nothing_is_lost(
    done, tmp_path, capsys, monkeypatch, writes
):
    out, count = tmp_path / "out", itertools.count()

    def full(handle):
        if next(count) >= writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(models.runs.whole_files.os, "fsync", full)
        status, said = refusal(capsys, out)
    assert status == 1
    assert os.strerror(errno.ENOSPC) in said
    assert f"what was finished stays in {out}, and the same command goes on" in said
    before = points(out)
    # Whose folder it is and run.json, then two whole files a point; a whole file is
    # two writes: of itself, which is there then, and of its folder.
    assert len(before) == min(max(writes - 3, 0) // 4, 6)
    assert sweep(out) == 0
    assert same(out, done)
    after = points(out)
    assert {name: after[name] for name in before} == before


def test_a_folder_that_cannot_be_written_is_named(tmp_path, capsys, monkeypatch):
    def read_only(self, *arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "mkdir", read_only)
    status, said = refusal(capsys, tmp_path / "out")
    assert status == 1
    assert os.strerror(errno.EROFS) in said
    assert f"nothing was written to --out ({tmp_path / 'out'})" in said


def part(out: Path, name: str) -> Path:
    """The file of a point."""
    (found,) = (out / "parts").glob(f"{name}-*.csv")
    return found


def left_parts(out: Path) -> None:
    """Killed while writing a point, and a result."""
    point = part(out, "T=8-seed=1")
    point.rename(point.with_name(f"{point.name}.x7.part")).write_text("T,sour")
    (out / "sweep.csv").unlink()
    (out / "bound-vs-T.pdf.x7.part").write_bytes(b"%P")


def nothing(out: Path) -> None:
    """Killed when only the folder was made."""
    shutil.rmtree(out)
    out.mkdir()


def only_parts(out: Path) -> None:
    """An empty folder of points and half a ``run.json``."""
    nothing(out)
    (out / "parts").mkdir()
    (out / "run.json.x7.part").write_text('{"argu')


def only_record(out: Path) -> None:
    """Killed when only ``run.json`` was written."""
    record = (out / "run.json").read_bytes()
    nothing(out)
    (out / "run.json").write_bytes(record)


def a_gap(out: Path) -> None:
    """A point is gone."""
    part(out, "T=4-seed=0").unlink()


def no_results(out: Path) -> None:
    """Killed after the last point."""
    for name in (*RESULTS, "bound-vs-T.png", "bound-vs-T.pdf"):
        (out / name).unlink()


@pytest.mark.parametrize(
    "damage", [left_parts, nothing, only_parts, only_record, a_gap, no_results]
)
def test_a_sweep_goes_on_from_the_worst_moments(done, copied, damage):
    damage(copied)
    before = points(copied)
    assert sweep(copied) == 0
    assert same(copied, done)
    after = points(copied)
    assert len(after) == 6
    assert {name: after[name] for name in before} == before
    assert not list(copied.rglob("*.part"))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda text: text.replace(b",0.", b",1.", 1), id="edited"),
        pytest.param(lambda text: text[:-1], id="cut"),
        pytest.param(lambda text: b"", id="emptied"),
    ],
)
def test_a_damaged_point_is_computed_again_and_said_so(done, copied, capsys, damage):
    point = part(copied, "T=8-seed=1")
    point.write_bytes(damage(point.read_bytes()))
    before = points(copied)
    capsys.readouterr()
    assert sweep(copied) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("finished before") == 5
    assert said.count("computed again: its file was damaged") == 1
    assert same(copied, done)
    changed = {name for name, time in points(copied).items() if time != before[name]}
    assert changed == {point.name}


@pytest.mark.parametrize("more", [("--max-memory", "2GiB"), ("--overwrite",)])
def test_the_same_command_again_computes_nothing_and_changes_no_byte(
    copied, monkeypatch, more
):
    before = contents(copied)
    monkeypatch.setattr(sensitivity.bounds, "measure", None)
    assert sweep(copied, *more) == 0
    assert contents(copied) == before


# --- folders of version 0.1.0 -------------------------------------------------------

OLD = Path(__file__).with_name("written_by_0_1_0") / "sweep"
AS_OLD = ("--T", "4", "8", "--seeds", "1", "--samples", "1")


@pytest.fixture
def old(tmp_path):
    """What version 0.1.0 wrote, without its pictures."""
    return shutil.copytree(OLD, tmp_path / "old")


def test_a_folder_of_0_1_0_goes_on_and_ends_with_its_bytes(old, monkeypatch):
    for name in RESULTS:
        (old / name).unlink()
    monkeypatch.setattr(sensitivity.bounds, "measure", None)
    assert sweep(old, *AS_OLD) == 0
    assert same(old, OLD)
    assert len(points(old)) == 2
    assert not (old / "points").exists()  # they are parts now
    record = json.loads((old / "run.json").read_text())
    before = json.loads((OLD / "run.json").read_text())
    assert record["command"] == "sensitivity.sweep"
    for name in ("arguments", "complete", "seconds", "filled_share"):
        assert record[name] == before[name]
    assert sweep(old, *AS_OLD) == 0
    assert same(old, OLD)


def test_a_folder_of_0_1_0_of_other_arguments_needs_overwrite(old, capsys):
    before = contents(old)
    status, said = refusal(capsys, old, *AS_OLD, "--scale", "2")
    assert status == 2
    assert "--scale 1.0 there, 2.0 asked for" in said
    assert contents(old) == before
    (old / "points" / "notes.txt").write_text("mine")
    assert sweep(old, *AS_OLD, "--T", "4", "--overwrite", "--scale", "2") == 0
    assert len(points(old)) == 1
    assert [file.name for file in (old / "points").iterdir()] == ["notes.txt"]
    assert not same(old, OLD)


def test_a_damaged_point_of_0_1_0_is_computed_again(old, capsys):
    file = old / "points" / "T=8-seed=0.csv"
    file.write_bytes(file.read_bytes()[:-1])
    assert sweep(old, *AS_OLD) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("finished before") == 1
    assert said.count("computed again: its file was damaged") == 1
    assert not (old / "points").exists()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda text: text[:-1], id="cut"),
        pytest.param(lambda text: text[: text.rindex(b"\n", 0, -1) + 1], id="a row"),
        pytest.param(lambda text: text.replace(b"exact", b"excat", 1), id="columns"),
        pytest.param(lambda text: text.replace(b"\n8,", b"\n4,"), id="other point"),
        pytest.param(lambda text: text.replace(b",0.", b",o.", 1), id="words"),
        pytest.param(lambda text: b"", id="emptied"),
        pytest.param(lambda text: bytes(len(text)), id="zeroed"),
        pytest.param(lambda text: b"\xff" + text[1:], id="garbled"),
    ],
)
def test_points_of_0_1_0_are_taken_over_if_they_are_whole(old, damage):
    asked = options(*AS_OLD)
    point = RandomLayers(asked).points[1]
    assert earlier_point(old, asked, point).state == "finished"
    file = old / "points" / f"{point.name}.csv"
    file.write_bytes(damage(file.read_bytes()))
    assert earlier_point(old, asked, point).state == "damaged"
    file.unlink()
    assert earlier_point(old, asked, point).state == "missing"
