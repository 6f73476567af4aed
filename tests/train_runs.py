"""Small training runs, what the command says, and compilers that remember."""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from jax.experimental.compilation_cache import compilation_cache

import models.train._loop
from data import TrafficSeries
from models.checkpoints import CheckpointFolder
from models.early_stopping import TrainState
from models.runs.command import parse
from models.train import main
from models.train._setup import Setup, set_up
from models.train.command import preset_of
from models.train.options import TrainOptions
from models.train.record import read_run
from tests.helpers import contents, run, scratch

ROOT = Path(__file__).parents[1]
SIZES = (
    *("--window", "4", "--horizon", "3", "--layers", "1", "--width", "4"),
    *("--heads", "2", "--batch-size", "16", "--steps-per-epoch", "4"),
)
# Runs that must agree are to draw their random numbers alike, so that there are some.
CHANCES = ("--dropout", 0.2, "--regularizer", "dropout", "--diagonal-dropout", 0.3)
LENGTH = ("--epochs", 4, "--seeds", 2, "--predictions")
EPOCHS = (*LENGTH, *CHANCES)
RESUME = (*EPOCHS, "--resume")
KEPT = ("--epochs", 2, "--seeds", 2, "--keep-epochs", 0, 2)
STEPS, NODES = 200, 3


def _programs() -> str:
    """Folder of compiled programs, for all tests of a session."""
    return str(scratch())


def _remembering() -> dict[str, Any]:
    return {
        "jax_compilation_cache_dir": _programs(),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }


def remembering_as_environment() -> dict[str, str]:
    """The same for a process of its own."""
    return {name.upper(): str(value) for name, value in _remembering().items()}


@contextlib.contextmanager
def as_on_the_command_line() -> Iterator[None]:
    """Float32 as users have it, and no program is compiled twice in a session."""
    before = {name: getattr(jax.config, name) for name in _remembering()}
    compilation_cache.reset_cache()
    for name, value in _remembering().items():
        jax.config.update(name, value)
    try:
        with jax.enable_x64(False):
            yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


# A module has these where it says so: ``command_line = train_runs.command_line``.


@pytest.fixture(scope="module", autouse=True)
def command_line() -> Iterator[None]:
    """All of a module as users have it."""
    with as_on_the_command_line():
        yield


@pytest.fixture(scope="module")
def like() -> TrainState:
    """A state of the same model."""
    return made().trainer.init([0, 1])


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every epoch."""
    monkeypatch.setattr(models.train._loop, "_CHECKPOINT_SECONDS", 0)


def walk(seed: int = 0, steps: int = STEPS) -> TrafficSeries:
    """Random walks of three sensors, some readings missing."""
    rng = np.random.default_rng(seed)
    values = np.clip(50 + rng.normal(size=(steps, NODES)).cumsum(0), 5, 80)
    missing = rng.random(values.shape) < 0.05
    return TrafficSeries(
        values=np.where(missing, 0.0, values),
        missing=missing,
        time=pd.date_range("2024-01-01", periods=steps, freq="5min"),
        sensor_ids=("a", "b", "c"),
        name="walk",
    )


def write_values(path: Path, values: np.ndarray) -> Path:
    """Readings as an ``.npz`` or a ``.csv`` file."""
    if path.suffix == ".npz":
        np.savez(path, data=values)
    else:
        pd.DataFrame(values, columns=["a", "b", "c"]).to_csv(path, index=False)
    return path


@functools.cache
def walk_file() -> Path:
    """A file of a walk, the same for all tests of a session."""
    return write_values(scratch() / "walk.npz", walk().values)


def small(*more: object) -> list[str]:
    """A small run; what is given wins over what is small."""
    given = [str(word) for word in more]
    if not {"--dataset", "--data"} & set(given):
        given += ["--dataset", str(walk_file())]
    return [*SIZES, *given]


def arguments(out: Path, *more: object) -> list[str]:
    """A small run in a folder."""
    return [*small(*more), "--out", str(out)]


def options(*more: object, out: Path = Path("anywhere")) -> TrainOptions:
    """What the command makes of its arguments."""
    return parsed(*arguments(out, *more))


def parsed(*words: object) -> TrainOptions:
    """What the command makes of a whole command line."""
    return parse(TrainOptions, [*map(str, words)], default=preset_of)


def made(*more: object) -> Setup:
    """The data and the model of a small run with dropout."""
    return set_up(options(*CHANCES, *more))


def train(out: Path, *more: object) -> int:
    """Run the command."""
    return run(main, *arguments(out, *more))


@functools.cache
def finished() -> Path:
    """A finished run of two seeds, one for all tests. Leave it as it is."""
    out = scratch() / "finished"
    assert train(out, *EPOCHS) == 0
    return out


@functools.cache
def trained(*more: object) -> Path:
    """A run of two epochs, the same for all tests. Leave it as it is."""
    name = "-".join(str(word).strip("-") for word in more) or "plain"
    out = scratch() / "runs" / name
    assert train(out, *KEPT, *more) == 0
    return out


def shortened(checkpoint: Path) -> None:
    """The files of the arrays of a checkpoint end early."""
    for file in (checkpoint / "state").rglob("d/*"):
        file.write_bytes(file.read_bytes()[:20])


def one_of(tree: Any, seed: int) -> list[np.ndarray]:
    """The arrays of one seed."""
    return [np.asarray(leaf)[seed] for leaf in jax.tree.leaves(tree)]


def kept(out: Path, like: TrainState) -> TrainState:
    """The last state of a run."""
    checkpoint = CheckpointFolder(out / "checkpoints", read_only=True).load(like)
    assert checkpoint is not None
    return checkpoint.state


def same(out: Path, like: TrainState) -> bool:
    """Whether a run ended as the one that ran through, to the last bit."""
    done = finished()
    here, there = contents(out), contents(done)
    pairs = zip(
        jax.tree.leaves(kept(out, like)), jax.tree.leaves(kept(done, like)), strict=True
    )
    return (
        metrics(out).equals(metrics(done))
        and all(here[f] == there[f] for f in ("test.csv", "predictions.npz"))
        and all(np.array_equal(one, other) for one, other in pairs)
        and not list(out.rglob("*.part"))
        and not list(out.rglob("*-tmp*"))
        and read_run(out).seconds > 0
    )


def metrics(out: Path) -> Any:
    """The rows of ``metrics.csv``, without the times, which no two runs share."""
    return pd.read_csv(out / "metrics.csv").drop(columns="seconds")
