"""Trained runs for the tests of sweeps over them."""

import functools
from pathlib import Path

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
