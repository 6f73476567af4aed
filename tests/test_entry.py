"""How commands start and end: Ctrl-C at any moment, faults as one line, defaults."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.runs import entry
from models.runs.command import fail, one_line, parse, run_command
from models.runs.console import open_console, still_at
from models.runs.entry import UNREAD
from sensitivity.arguments import ArgumentError

ROOT = Path(__file__).parents[1]

# --- Ctrl-C ---------------------------------------------------------------------------

TINY = """
import atexit, gc, hashlib, sys, time
def say(phase):
    print(phase, flush=True)
say("importing")
time.sleep(IMPORTING)
def main():
    from models.runs.entry import on_interrupt
    on_interrupt(lambda: WORDS)
    say("sleeping")
    if PHASE == "sleeping":
        time.sleep(60)
    say("swallowing")
    while PHASE == "swallowing":
        try:
            time.sleep(0.01)
        except BaseException:
            pass
    say("computing")
    if PHASE == "computing":
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
    say("collecting")
    if PHASE == "collecting":
        gc.callbacks.append(lambda *_: time.sleep(60))
        gc.collect()
    if PHASE == "leaving":
        atexit.register(time.sleep, 1)
        atexit.register(say, "leaving")
    return 7
"""
START = """import signal
signal.signal(signal.SIGINT, signal.{})  # a shell may let its children ignore it
from models.runs.entry import start
start('tiny')"""


@contextlib.contextmanager
def tiny(folder: Path, phase="none", words='"so much stays."', handler="SIG_DFL"):
    """A command that says what it does and stays in one phase of it."""
    program = TINY.replace("PHASE", repr(phase)).replace("WORDS", words)
    slow = 60 if phase == "importing" else 0
    (folder / "tiny.py").write_text(program.replace("IMPORTING", str(slow)))
    with subprocess.Popen(
        [sys.executable, "-c", START.format(handler)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


def interrupted(process: subprocess.Popen[str], phase: str) -> tuple[int, str]:
    """Status and last words of a command that is interrupted in a phase."""
    assert process.stdout is not None
    while process.stdout.readline().strip() != phase:
        assert process.poll() is None
    time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=20)[1]
    return process.returncode, said


PHASES = ["importing", "sleeping", "swallowing", "computing", "collecting"]


@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_is_one_line_and_130_whatever_the_command_does(tmp_path, phase):
    words = "nothing was done yet." if phase == "importing" else "so much stays."
    with tiny(tmp_path, phase) as process:
        found = interrupted(process, phase)
    assert found == (130, f"error: interrupted; {words}\n")


@pytest.mark.parametrize("words", ["1 / 0", "None", "'two\\nlines'"])
def test_ctrl_c_ends_also_where_its_words_fail(tmp_path, words):
    with tiny(tmp_path, "sleeping", words) as process:
        status, said = interrupted(process, "sleeping")
    assert status == 130
    assert said.startswith("error: interrupted")
    assert said.count("\n") == 1


def test_ctrl_c_ends_also_where_nobody_listens(tmp_path):
    with tiny(tmp_path, "swallowing") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while process.stdout.readline().strip() != "swallowing":
            pass
        process.stdout.close()
        process.stderr.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


def test_who_reads_no_further_is_told_nothing(tmp_path):
    with tiny(tmp_path, "computing") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.wait(20), process.stderr.read()) == (UNREAD, "")
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, "-m", "models.train", "--help"]
    with os.fdopen(write) as unread:
        done = subprocess.run(words, cwd=ROOT, stdout=unread, stderr=subprocess.PIPE)
    assert (done.returncode in (1, UNREAD), done.stderr) == (True, b"")
    with pytest.raises(BrokenPipeError):
        run(raising(BrokenPipeError(32, "Broken pipe")))


def test_ctrl_c_is_too_late_when_all_is_done(tmp_path):
    with tiny(tmp_path, "leaving") as process:
        assert interrupted(process, "leaving") == (7, "")


def test_what_is_not_to_be_stopped_is_not_and_returns_its_status(tmp_path):
    with tiny(tmp_path, handler="SIG_IGN") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=20)
    assert (process.returncode, said[1]) == (7, "")


def test_what_starts_a_command_is_imported_before_anything_else():
    """A door that loads a library leaves Ctrl-C to Python for that long."""
    for module in ("models.train", "sensitivity.sweep"):
        code = (
            f"import sys; import {module}, models.runs.entry\n"
            "assert not {'numpy', 'jax', 'tyro', 'pandas'} & {*sys.modules}"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, ""), module


# --- the skeleton ---------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is asked for."""

    batch_size: int = 1
    out: Path = Path("results")

    def __post_init__(self) -> None:
        """Refuse no batch."""
        if self.batch_size < 1:
            rule = f"must be positive, got {self.batch_size}."
            raise ArgumentError("batch_size", rule)


def run(work, *argv: str, **options) -> int:
    """Run a command that does this."""
    return run_command(Options, work, argv, prog="python -m tests", **options)


def raising(error: BaseException):
    """Work that fails."""

    def work(options: Options) -> int:
        raise error

    return work


STAYS = "what is finished stays, and the same command goes on."


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ArithmeticError("no number"), 1, "no number"),
        (ValueError("--data: gone"), 2, "--data: gone"),
        (ArgumentError("max_memory", "is\n low."), 2, "--max-memory is low."),
        (OSError(28, "disk full", "a.csv"), 1, f"disk full (a.csv); {STAYS}"),
        (OSError(28, "disk full"), 1, f"disk full (results); {STAYS}"),
        (OSError("odd"), 1, f"odd (results); {STAYS}"),
        (KeyboardInterrupt(), 130, f"interrupted; {STAYS}"),
        (
            RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 80 GiB"),
            1,
            "the device has too little memory for this: lower --batch-size; " + STAYS,
        ),
    ],
)
def test_what_goes_wrong_is_one_line(capsys, error, status, said):
    assert run(raising(error)) == status
    assert capsys.readouterr().err == f"error: {said}\n"
    assert one_line(raising(error), Options(), lambda asked: STAYS) == status
    assert capsys.readouterr().err == f"error: {said}\n"


def test_what_is_a_fault_of_ours_is_not_hidden():
    with pytest.raises(KeyError):
        run(raising(KeyError("name")))
    with pytest.raises(RuntimeError):
        run(raising(RuntimeError("INTERNAL: of the compiler")))


def test_what_takes_long_is_said_to_be_at_work(capsys):
    console = open_console()
    with still_at(console, "T=8", every=0.01):
        time.sleep(0.2)
    said = capsys.readouterr().out
    assert said.startswith("T=8: 0.000")
    assert said.splitlines()[-1].endswith(" min so far")
    time.sleep(0.05)
    assert capsys.readouterr().out == ""


def test_options_check_themselves_before_anything_runs(capsys):
    assert run(raising(KeyError()), "--batch-size", "0") == 2
    assert capsys.readouterr().err == "error: --batch-size must be positive, got 0.\n"
    with pytest.raises(SystemExit) as stop:
        run(raising(KeyError()), "--batch-size", "many")
    assert stop.value.code == 2


def test_defaults_may_depend_on_the_command_line():
    def default(argv):
        return Options(batch_size=len(argv))

    seen = []
    assert run(lambda o: seen.append(o) or 0, "--out", "x", default=default) == 0
    assert seen == [Options(batch_size=2, out=Path("x"))]
    assert parse(Options, ["--batch-size", "5"], default=default).batch_size == 5


def test_a_command_inside_another_leaves_it_its_words():
    def outer(options: Options) -> int:
        assert run(lambda inner: 0, "--out", "inner", stays=lambda o: "inner") == 0
        assert entry._words() == f"outer in {options.out}"
        return 0

    before = entry._words
    assert run(outer, stays=lambda options: f"outer in {options.out}") == 0
    assert entry._words is before


def test_what_stays_is_said_of_the_options(capsys):
    run(raising(KeyboardInterrupt()), stays=lambda options: f"look into {options.out}.")
    assert "interrupted; look into results." in capsys.readouterr().err
    assert fail("two\n lines", 3) == 3
    assert capsys.readouterr().err == "error: two lines\n"
