"""Trained runs for the tests of sweeps over them, and what the command said."""

import functools
from pathlib import Path

import pytest

from sensitivity.sweep import main
from tests import train_runs
from tests.train_runs import train

RUN = ("--epochs", 2, "--seeds", 2, "--keep-epochs", 0, 2)


@functools.cache
def run(*more: object) -> Path:
    """A trained run, the same for all tests. Leave it as it is."""
    name = "-".join(str(word).strip("-") for word in more) or "plain"
    out = Path(train_runs._programs()) / "runs" / name
    assert train(out, *RUN, *more) == 0
    return out


def sweep(out: Path, *arguments: object) -> int:
    """Run the command."""
    try:
        return main([*map(str, arguments), "--out", str(out)])
    except SystemExit as stop:  # from the reader of the command line
        return int(str(stop.code))


def refusal(capsys: pytest.CaptureFixture, out: Path, *arguments: object):
    """Status of a command that fails, and what it says on stderr, as one line."""
    capsys.readouterr()
    status = sweep(out, *arguments)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return status, " ".join(said.replace("│", " ").split())
