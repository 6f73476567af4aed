"""A finished run read back: its data, its model and its weights."""

from typing import NamedTuple

from data import Prepared
from models.checkpoints import CheckpointFolder
from models.state import TrainState
from models.train.folder import differences, fingerprints, read_record
from models.train.options import TrainOptions
from models.train.setup import set_up
from models.training import Trainer


class Restored(NamedTuple):
    """A run as it was when it ended.

    Attributes:
        trainer: The model.
        prepared: The windows.
        state: The last state; ``best`` holds the weights that were tested.
    """

    trainer: Trainer
    prepared: Prepared
    state: TrainState


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
    record = read_record(options.out)
    if record is None:
        raise ValueError(f"{options.out} is no training run: it holds no run.json.")
    setup = set_up(options)
    asked = options.identity() | fingerprints(options, setup.series)
    if different := differences(record["arguments"], asked):
        raise ValueError(
            f"{options.out} holds a run with other arguments: {different}."
        )
    folder = options.out / "checkpoints"
    if not folder.is_dir():
        raise ValueError(f"{options.out} holds no checkpoint.")
    checkpoints = CheckpointFolder(folder, read_only=True)
    try:
        checkpoint = checkpoints.load(setup.trainer.init(options.fit.seed_list()))
    finally:
        checkpoints.close()
    if checkpoint is None:
        raise ValueError(f"{options.out} holds no checkpoint.")
    return Restored(setup.trainer, setup.prepared, setup.trainer.put(checkpoint.state))
