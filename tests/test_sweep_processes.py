"""Several processes share the points of one sweep, and no other works among them."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.sweep import _crew
from analysis.sweep._crew import Shared
from models.runs.crew import Crew
from models.runs.folder import RunFolder, digest
from sensitivity.sweep import main
from tests import sweep_runs, train_runs
from tests.helpers import run

ROOT = Path(__file__).parents[1]
COMMAND, NAME = "sensitivity.sweep", "127.0.0.1:1234"
IDENTITY = {"scale": 1.0}
KEY = digest("all that it depends on")


def opened(out, process, name=NAME, scale=1.0) -> RunFolder:
    """The folder, as a process of a crew of two opens or joins it."""
    return RunFolder(out, COMMAND, {"scale": scale}, crew=Crew(name, process, 2))


@pytest.fixture
def out(tmp_path):
    """Where results shall be."""
    return tmp_path / "out"


@pytest.fixture
def first(out):
    """The folder, opened by process 0."""
    with opened(out, 0) as folder:
        folder.record["filled_share"] = {}
        folder.save()
        yield folder


def started(out: Path, port: int, process: int, *more: object) -> subprocess.Popen[str]:
    """One of two processes of a small sweep."""
    words = [*sweep_runs.SMALL, "--out", out, "--coordinator", f"127.0.0.1:{port}"]
    words += ["--processes", 2, "--process", process, *more]
    return subprocess.Popen(
        [sys.executable, "-m", COMMAND, *map(str, words)],
        cwd=ROOT,
        env=os.environ | train_runs.remembering_as_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def together(out: Path, *of_the_second: object) -> list[tuple[int, str, str]]:
    """Status, output and errors of two processes."""
    port = free_port()
    both = [started(out, port, 0), started(out, port, 1, *of_the_second)]
    said = [process.communicate(timeout=240) for process in both]
    return [(process.returncode, *s) for process, s in zip(both, said, strict=True)]


@pytest.mark.slow
def test_two_processes_write_what_one_would(out):
    with train_runs.as_on_the_command_line():
        alone = sweep_runs.finished()
    (status, said, error), (other, others, wrong) = together(out)
    assert (status, error, other, wrong) == (0, "", 0, "")
    assert said.count("by another process") == others.count(" seed=") == 3
    assert sweep_runs.same(out, alone)


@pytest.mark.slow
def test_where_one_ends_the_other_says_so_and_the_sweep_goes_on(out):
    (status, _, error), (other, _, wrong) = together(out, "--scale", 2)
    assert (status, other) == (1, 2)
    assert error == (
        f"error: process 1 of 2 has ended without T=4-seed=1 ({out}); what was "
        f"finished stays in {out}, and the same command goes on.\n"
    )
    assert "with other settings (--scale 1.0 there, 2.0 asked for)" in wrong
    with train_runs.as_on_the_command_line():
        assert sweep_runs.sweep(out) == 0
        assert sweep_runs.same(out, sweep_runs.finished())


def test_a_process_that_does_not_come_back_is_named(first, monkeypatch):
    monkeypatch.setattr(_crew, "_LATE_SECONDS", 0.0)
    shared = Shared(first, Crew(NAME, 0, 2), IDENTITY)
    with pytest.raises(ConnectionError, match="process 1 of 2 has ended without T=4"):
        shared.wait_for(1, "T=4", KEY)


def test_what_one_keeps_the_first_one_finds(first, out):
    shared = Shared(first, Crew(NAME, 0, 2), IDENTITY)
    with opened(out, 1) as second:
        assert first.has_joined(1)
        others = Shared(second, Crew(NAME, 1, 2), IDENTITY)
        second.record["filled_share"]["T=4"] = 0.5
        others.save()
        second.keep("T=4", KEY, "1,2\n", ".csv")
        assert shared.wait_for(1, "T=4", KEY) == b"1,2\n"
        others.close()
    shared.close()
    assert first.record["filled_share"] == {"T=4": 0.5}
    assert not first.has_joined(1)


def test_the_others_say_that_the_first_one_has_ended(first, out):
    with opened(out, 1) as second:
        first.close()
        others = Shared(second, Crew(NAME, 1, 2), IDENTITY)
        with pytest.raises(ConnectionError, match="process 0 of 2, which writes"):
            others.close()


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"name": "127.0.0.1:99"}, "was not opened by process 0 of 127.0.0.1:99"),
        ({"scale": 2.0}, r"other settings \(--scale 1.0 there, 2.0 asked for\)"),
    ],
)
def test_only_the_same_sweep_joins(out, how, words):
    with pytest.raises(ValueError, match=words):
        opened(out, 1, **how)


@pytest.mark.usefixtures("first")
def test_nobody_else_works_there(out):
    with pytest.raises(ValueError, match=f"process {os.getpid()} works there"):
        RunFolder(out, COMMAND, IDENTITY)
    with (
        opened(out, 1),
        pytest.raises(ValueError, match="in use by another process 1 of"),
    ):
        opened(out, 1)


def test_a_folder_that_nobody_opened_is_not_joined(out):
    with pytest.raises(ValueError, match="was not opened by process 0"):
        opened(out, 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--processes", 2], "--processes needs --coordinator HOST:PORT."),
        (["--process", 0], "--process needs --coordinator HOST:PORT."),
        (["--coordinator", "here"], "--coordinator must be HOST:PORT, got 'here'."),
        (["--coordinator", "a:1", "--process", 0], "--processes must be given"),
        (
            ["--coordinator", "a:1", "--process", 2, "--processes", 2],
            "--process (2) must be below --processes (2).",
        ),
        (
            ["--coordinator", "a:1", "--process", 0, "--processes", 0],
            "--processes must be at least 1, got 0.",
        ),
    ],
)
def test_a_part_that_is_not_wholly_said_is_refused(out, words, said, capsys):
    assert run(main, *words, "--out", out) == 2
    assert said in capsys.readouterr().err
