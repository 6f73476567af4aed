"""What a sweep has finished stays, whatever happens, and the same command goes on."""

import errno
import itertools
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
from tests.sweep_runs import SMALL, points, refusal, sweep

ROOT = Path(__file__).parents[1]
RESULTS = ("sweep.csv", "verdicts.csv")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A complete sweep: its folder. Leave it as it is."""
    out = tmp_path_factory.mktemp("done") / "out"
    assert sweep(out) == 0
    return out


def same(out: Path, other: Path) -> bool:
    """Whether two sweeps have the same bytes."""
    return all((out / f).read_bytes() == (other / f).read_bytes() for f in RESULTS)


def start_and_send(out: Path, number: int) -> tuple[int, str]:
    """Start the command, and signal it as soon as a point is finished."""
    code = (  # what a shell started in the background ignores, a terminal does not
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from sensitivity.sweep import main; sys.exit(main(sys.argv[1:]))"
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
def test_a_sweep_killed_goes_on_and_ends_with_the_same_bytes(done, tmp_path, capsys):
    out = tmp_path / "out"
    status, _ = start_and_send(out, signal.SIGKILL)
    assert status == -signal.SIGKILL
    before = points(out)
    assert 0 < len(before) < 6
    assert not (out / "sweep.csv").exists()
    assert sweep(out) == 0
    assert capsys.readouterr().out.count("finished before") == len(before)
    assert same(out, done)
    after = points(out)
    assert len(after) == 6
    assert {name: after[name] for name in before} == before  # not computed again


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_a_sentence(done, tmp_path):
    out = tmp_path / "out"
    status, said = start_and_send(out, signal.SIGINT)
    assert status == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    assert 0 < len(points(out)) < 6
    assert sweep(out) == 0
    assert same(out, done)


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


@pytest.mark.parametrize("writes", [0, 3, 9, 30])
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
    assert str(out) in said
    assert "what was finished stays, and the same command goes on" in said
    before = points(out)
    # A point is two whole files, and a file two writes: of itself and of its folder.
    assert len(before) == min(max(writes - 1, 0) // 4, 6)
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
    assert str(tmp_path / "out") in said
    assert "nothing was written" in said


def left_parts(out: Path) -> None:
    """Killed while writing a point, and a result."""
    name = "T=8-seed=1.csv"
    (out / "points" / name).rename(out / "points" / f"{name}.part")
    (out / "points" / f"{name}.part").write_text("T,sour")
    (out / "sweep.csv").unlink()
    (out / "bound-vs-T.pdf.part").write_bytes(b"%P")


def nothing(out: Path) -> None:
    """Killed when only the folder was made."""
    shutil.rmtree(out)
    out.mkdir()


def only_points(out: Path) -> None:
    """An empty folder of points and half a ``run.json``."""
    nothing(out)
    (out / "points").mkdir()
    (out / "run.json.part").write_text('{"argu')


def only_record(out: Path) -> None:
    """Killed when only ``run.json`` was written."""
    record = (out / "run.json").read_bytes()
    nothing(out)
    (out / "run.json").write_bytes(record)


def a_gap(out: Path) -> None:
    """A point is gone."""
    (out / "points" / "T=4-seed=0.csv").unlink()


def no_results(out: Path) -> None:
    """Killed after the last point."""
    for name in (*RESULTS, "bound-vs-T.png", "bound-vs-T.pdf"):
        (out / name).unlink()


@pytest.mark.parametrize(
    "damage", [left_parts, nothing, only_points, only_record, a_gap, no_results]
)
def test_a_sweep_goes_on_from_the_worst_moments(done, tmp_path, damage):
    out = tmp_path / "out"
    shutil.copytree(done, out)
    damage(out)
    before = points(out)
    assert sweep(out) == 0
    assert same(out, done)
    after = points(out)
    assert len(after) == 6
    assert {name: after[name] for name in before} == before
    assert not list(out.rglob("*.part"))


def cut(text: bytes) -> bytes:
    """Written in part: the last number is another one."""
    return text[:-1]


def without_a_row(text: bytes) -> bytes:
    """Whole lines, but not all."""
    return b"".join(text.splitlines(keepends=True)[:-1])


def other_columns(text: bytes) -> bytes:
    """From another version."""
    return text.replace(b"exact", b"excat", 1)


def other_point(text: bytes) -> bytes:
    """The file of another length."""
    return text.replace(b"\n8,", b"\n4,")


def words_for_numbers(text: bytes) -> bytes:
    """Something has been at it."""
    return text.replace(b",0.", b",o.", 1)


def emptied(text: bytes) -> bytes:
    """What a crash of the machine may leave."""
    return b""


def zeroed(text: bytes) -> bytes:
    """What a crash of the machine may leave, too."""
    return bytes(len(text))


def garbled(text: bytes) -> bytes:
    """No text at all."""
    return b"\xff" + text[1:]


@pytest.mark.parametrize(
    "damage",
    [
        *(cut, without_a_row, other_columns, other_point),
        *(words_for_numbers, emptied, zeroed, garbled),
    ],
)
def test_a_damaged_point_is_computed_again_and_said_so(done, tmp_path, capsys, damage):
    out = tmp_path / "out"
    shutil.copytree(done, out)
    point = out / "points" / "T=8-seed=1.csv"
    point.write_bytes(damage(point.read_bytes()))
    before = points(out)
    capsys.readouterr()
    assert sweep(out) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("finished before") == 5
    assert said.count("computed again: its file was damaged") == 1
    assert same(out, done)
    changed = {name for name, time in points(out).items() if time != before[name]}
    assert changed == {point.name}


def test_the_same_command_again_computes_nothing(done, tmp_path, monkeypatch):
    shutil.copytree(done, tmp_path / "out")
    monkeypatch.setattr(sensitivity.bounds, "measure", None)
    assert sweep(tmp_path / "out", "--max-memory", "2GiB") == 0
    assert same(tmp_path / "out", done)
