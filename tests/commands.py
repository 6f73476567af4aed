"""Commands, as `test_commands` runs them: refused, stopped, gone on with, replaced.

A command of its own is an entry of `COMMANDS`, and nothing else.
"""

import contextlib
import dataclasses
import functools
import importlib
import io
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests import sweep_runs, train_runs

ROOT = Path(__file__).parents[1]
MOMENTS = int(os.environ.get("MOMENTS", "1"))
"""At how many moments a command is stopped, besides the first it can be at."""
AS_TYPED = (  # what a shell started in the background ignores, a terminal does not
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL);"
    "os.execv(sys.executable, [sys.executable, '-m', *sys.argv[1:]])"
)


class Said(NamedTuple):
    """How a command ended, and what it said; errors as they would be on one line."""

    status: int
    out: str
    error: str


@dataclasses.dataclass(frozen=True)
class Command:
    """A small call of a command."""

    module: str  # what is typed after ``python -m``; it has a ``main``
    arguments: Callable[[], Sequence[object]]  # all but --out
    results: tuple[str, ...] = ()  # the same bytes in the end; () of what measures time
    keeps: bool = True  # whether it has a `RunFolder`, and goes on
    anew: tuple[str, ...] = ("--overwrite",)  # what must be typed to replace results
    other: tuple[object, ...] = ()  # what makes another call of it, ...
    named: str | None = None  # ... and how that is refused; None: it never is
    resume: tuple[str, ...] = ()  # what must be typed to go on
    full: tuple[int, ...] = (0, 5, 17)  # after how many writes a disk is full
    slow: bool = True  # whether a call takes seconds

    def words(self, out: Path, *more: object) -> list[str]:
        """The arguments."""
        return [*map(str, self.arguments()), *map(str, more), "--out", str(out)]

    def run(self, out: Path, *more: object) -> Said:
        """Run it here."""
        said, wrong = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong):
            try:
                with train_runs.as_on_the_command_line():
                    main = importlib.import_module(self.module).main
                    status = main(self.words(out, *more))
            except SystemExit as stop:  # from the reader of the command line
                status = int(str(stop.code))
        assert "Traceback" not in wrong.getvalue()
        return Said(status, said.getvalue(), wrong.getvalue())

    def go_on(self, out: Path) -> Said:
        """Go on with what has begun."""
        begun = (out / "run.json").exists()
        return self.run(out, *(self.resume if begun else ()))

    def start(self, out: Path, *more: object) -> subprocess.Popen[str]:
        """Run it in a process of its own, as it is typed."""
        known = {
            k.upper(): str(value) for k, value in train_runs._remembering().items()
        }
        return subprocess.Popen(
            [sys.executable, "-c", AS_TYPED, self.module, *self.words(out, *more)],
            cwd=ROOT,
            env=os.environ | known,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def stop(self, out: Path, number: int, after: float) -> Said:
        """Start it and signal it some seconds after it has begun to listen."""
        process = self.start(out)
        _wait_until_it_listens(process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after)
        process.send_signal(number)
        said, wrong = process.communicate(timeout=240)
        return Said(process.returncode, said, wrong)

    def moments(self) -> list[float]:
        """Seconds after which to stop it: at once, and anywhere in its course."""
        drawn = random.Random(self.module)
        return [0.0, *(drawn.uniform(0, seconds(self)) for _ in range(MOMENTS))]

    def contents(self, out: Path) -> dict[str, bytes]:
        """Its results."""
        return {name: (out / name).read_bytes() for name in self.results}


def _wait_until_it_listens(process: subprocess.Popen[str]) -> None:
    """Until the thread is there that waits for Ctrl-C, where that can be seen."""
    threads = Path(f"/proc/{process.pid}/task")
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if not threads.exists():
            time.sleep(2)
            return
        with contextlib.suppress(OSError):
            if len(list(threads.iterdir())) > 1:
                return
        time.sleep(0.001)


def _a_run() -> Path:
    with train_runs.as_on_the_command_line():
        return train_runs.finished()


@functools.cache
def finished(command: Command) -> Path:
    """The folder of a finished call, one for all tests. Leave it as it is."""
    out = Path(train_runs._programs()) / command.module
    assert command.run(out).status == 0
    return out


@functools.cache
def seconds(command: Command) -> float:
    """How long a process takes that finds its programs compiled."""
    if command.results:
        finished(command)
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        process = command.start(Path(folder) / "out")
        said = process.communicate(timeout=600)
        assert (process.returncode, said[1]) == (0, ""), said
        took = time.monotonic() - start
        if command.results:
            there = command.contents(Path(folder) / "out")
            assert there == command.contents(finished(command))
    return took


_ONE = ("--windows", 1, "--nodes", 1)
_STUDY = (
    *("--windows", 4, "--horizon", 3, "--variants", "b", "--seeds", 1, "--layers", 1),
    *("--epochs", 1, "--steps-per-epoch", 2, "--batch-size", 4),
)
COMMANDS = [
    Command(
        "sensitivity.sweep",
        arguments=lambda: sweep_runs.SMALL,
        results=("sweep.csv", "verdicts.csv", "bound-vs-T.png", "bound-vs-T.pdf"),
        other=("--scale", 2),
        named="--scale 1.0 there, 2.0 asked for",
        slow=False,
    ),
    Command(
        "models.train",
        arguments=lambda: train_runs.small(*train_runs.EPOCHS),
        results=("test.csv", "predictions.npz"),
        other=("--width", 8, "--no-residual"),
        named="--residual True there, False asked for, --width 4 there, 8 asked for",
        resume=("--resume",),
    ),
    Command(
        "analysis.attention",
        arguments=lambda: (_a_run(), *_ONE, "--certificates", 1),
        results=("diagnostics.csv", "variants.csv", "variants.md", "path-maps.png"),
        other=("--windows", 2),
        named="--windows 1 there, 2 asked for",
    ),
    Command(
        "analysis.network",
        arguments=lambda: (_a_run(), *_ONE),
        results=("influence.csv", "bounds.csv", "summary.csv", "bounds-tightness.png"),
        other=("--windows", 2),
    ),
    Command(
        "analysis.study",
        arguments=lambda: (*_STUDY, "--dataset", train_runs.walk_file()),
        results=(
            *("tables/table-4-3.csv", "training-curves.png", "attention-4-3.png"),
            "4-3/b-1-layers/seeds-0-0/test.csv",
        ),
        anew=(),
        full=(0,),  # later, every run that it ends says so, and the study names it
    ),
    Command(
        "analysis.tables",
        arguments=lambda: (_a_run(),),
        results=("table-4-3.csv", "table-4-3.md", "table-4-3.tex"),
        keeps=False,
        anew=(),
        full=(0, 2),
    ),
    Command(
        "analysis.benchmark",
        arguments=lambda: ("--quick", "--methods", "path_norms"),
        keeps=False,
        anew=(),
    ),
    Command(
        "analysis.benchmark.training",
        arguments=lambda: ("--quick", "--parts", "input", "--rounds", 1, "--steps", 1),
        keeps=False,
        anew=(),
    ),
]
