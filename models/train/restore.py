"""A training run read back: its data, its model and its weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Int

from data import Batch, Prepared, gather
from models.checkpoints import CheckpointFolder, KeptWeights
from models.early_stopping import TrainState
from models.forecaster import Forecaster
from models.runs.command import words_of
from models.runs.folder import digest
from models.train._setup import set_up
from models.train.folder import CHECKPOINTS, KEPT, differences, fingerprints
from models.train.options import TrainOptions
from models.train.record import is_file, read_run
from models.training import Trainer
from sensitivity.arguments import ArgumentError


class Restored(NamedTuple):
    """A run as it was when it ended."""

    options: TrainOptions
    trainer: Trainer
    prepared: Prepared  # the windows
    state: TrainState  # the last one; ``best`` holds the weights that were tested


class Snapshot(NamedTuple):
    """The forecaster of one seed at one moment of its training."""

    seed: int
    step: int  # training steps it had been trained for; 0 is untrained
    model: Forecaster


def restore(options: TrainOptions) -> Restored:
    """Read a run back.

    Args:
        options: The run; its folder is ``options.out``.

    Returns:
        The run.

    Raises:
        ValueError: If the folder holds no such run or no checkpoint of it, or the data
            cannot be read or are others than it was trained on.
    """
    arguments = read_run(options.out, complete=False).arguments
    try:
        setup = set_up(options)
    except ValueError as error:
        words = words_of(error)
        raise ValueError(f"{options.out} cannot be read back: {words}") from error
    asked = options.identity() | fingerprints(options, setup.series)
    if is_file(options.series.dataset):  # what it holds counts, not where it is
        asked["dataset"] = arguments.get("dataset")
    if different := differences(arguments, asked):
        raise ValueError(
            f"{options.out} holds a run with other arguments: {different}."
        )
    checkpoints = CheckpointFolder(options.out / CHECKPOINTS, read_only=True)
    checkpoint = checkpoints.load(setup.trainer.init(options.fit.seed_list()))
    if checkpoint is None:
        raise ValueError(f"{options.out} holds no checkpoint.")
    state = setup.trainer.put(checkpoint.state)
    return Restored(options, setup.trainer, setup.prepared, state)


def steps_per_epoch(run: Restored) -> int:
    """Training steps in an epoch of a run."""
    return run.trainer.steps_in(len(run.prepared.split.train))


def kept_epochs(folder: Path) -> list[int]:
    """The epochs of a run whose weights were kept (``--keep-epochs``), in order."""
    return KeptWeights(folder / KEPT, read_only=True).epochs()


def best_models(run: Restored) -> Iterator[Snapshot]:
    """The weights that were tested, of every seed.

    Args:
        run: The run.

    Yields:
        A snapshot per seed, in order.
    """
    state = run.state
    steps = np.asarray(state.epoch - state.since_best) * steps_per_epoch(run)
    for row, seed in enumerate(run.options.fit.seed_list()):
        yield Snapshot(seed, int(steps[row]), _model(run, state.best, row))


def kept_models(run: Restored, epoch: int) -> Iterator[Snapshot]:
    """The weights kept after an epoch, of every seed.

    Args:
        run: The run.
        epoch: One of `kept_epochs`.

    Yields:
        A snapshot per seed, in order.
    """
    weights = KeptWeights(run.options.out / KEPT, read_only=True)
    params = weights.load(epoch, run.state.params)
    ended = np.where(run.state.stopped, run.state.epoch, epoch)  # frozen since then
    for row, seed in enumerate(run.options.fit.seed_list()):
        step = min(epoch, int(ended[row])) * steps_per_epoch(run)
        yield Snapshot(seed, step, _model(run, params, row))


def _model(run: Restored, params: Any, row: int) -> Forecaster:
    return run.trainer.model(jax.tree.map(lambda part: part[row], params))


def spread_windows(prepared: Prepared, count: int) -> Batch:
    """Windows of the test split, evenly spaced from its first to its last.

    Args:
        prepared: The windows of a run.
        count: How many.

    Returns:
        The windows as the model reads them, on every node.

    Raises:
        ArgumentError: If there are not so many ``windows``.
    """
    starts = spread_starts(prepared, count)
    return gather(prepared.arrays, starts, prepared.window, prepared.horizon)


def spread_starts(prepared: Prepared, count: int) -> Int[np.ndarray, " B"]:
    """First steps of the windows of `spread_windows`.

    Args:
        prepared: The windows of a run.
        count: How many.

    Returns:
        Their numbers in the series.

    Raises:
        ArgumentError: If there are not so many ``windows``.
    """
    test = prepared.split.test
    if not 1 <= count <= len(test):
        raise ArgumentError(
            "windows",
            f"({count}) must be at least 1 and at most the {len(test)} of the test "
            "split.",
        )
    return test[np.linspace(0, len(test) - 1, count).round().astype(int)]


def spread_nodes(total: int, count: int | None) -> list[int]:
    """Numbers of nodes, evenly spaced from the first to the last.

    Args:
        total: How many there are.
        count: How many are wanted; None is all.

    Returns:
        The numbers, from 0.

    Raises:
        ArgumentError: If there are not so many ``nodes``.

    Example:
        >>> spread_nodes(29, 3)
        [0, 14, 28]
    """
    if count is None:
        return list(range(total))
    if count > total:
        rule = f"({count}) must be at most the {total} of the graph."
        raise ArgumentError("nodes", rule)
    return np.linspace(0, total - 1, count).round().astype(int).tolist()


def weights_sha256(model: Forecaster) -> str:
    """Fingerprint of all trained numbers of a model, as hexadecimal digits."""
    parts = []  # in the bytes of version 0.1.0, whose folders hold the digest
    leaves = jax.tree_util.tree_leaves_with_path(nnx.state(model, nnx.Param))
    for path, leaf in leaves:
        array = np.asarray(leaf)
        name = f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}"
        parts += [name.encode(), array.tobytes()]
    return digest(*parts)
