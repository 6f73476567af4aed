"""What training leaves on disk, each written by Orbax in one step.

A checkpoint is everything that training goes on from; the last one is there. Kept
weights are those of chosen epochs; all of them stay.
"""

import contextlib
import errno
import logging
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from models.early_stopping import TrainState


class Checkpoint(NamedTuple):
    """What a killed run goes on from.

    Attributes:
        state: Weights, optimiser, early stopping and keys of all seeds.
        history: The rows of ``metrics.csv`` so far.
    """

    state: TrainState
    history: list[dict[str, Any]]


class CheckpointFolder:
    """The checkpoints of one run; the last one written is kept.

    Orbax writes into a temporary folder that is renamed when it is whole, so that a
    kill at any moment leaves the one before.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path, *, read_only: bool = False):
        """Open the folder.

        Args:
            path: The folder; it is made if it is not there.
            read_only: Whether to leave it as it is, for another process may write.
        """
        self.path = path.resolve()
        self._manager = _open(self.path, most=1, read_only=read_only)

    def save(self, epoch: int, checkpoint: Checkpoint) -> None:
        """Write a checkpoint.

        Args:
            epoch: Epochs done.
            checkpoint: What to keep.

        Raises:
            OSError: If it cannot be written, for example because the disk is full.
        """
        kept = ocp.args.Composite(
            state=ocp.args.StandardSave(checkpoint.state._asdict()),
            history=ocp.args.JsonSave({"rows": checkpoint.history}),
        )
        _save(self._manager, self.path, epoch, kept)

    def load(self, like: TrainState) -> Checkpoint | None:
        """Read the last checkpoint.

        Args:
            like: A state of the same model, whose values do not matter.

        Returns:
            The checkpoint, or None if there is none.

        Raises:
            ValueError: If it is damaged, or of another model.
        """
        epoch = self.latest()
        if epoch is None:
            return None
        asked = ocp.args.Composite(
            state=ocp.args.StandardRestore(_shapes(like._asdict())),
            history=ocp.args.JsonRestore(),
        )
        kept = _restore(self._manager, self.path, epoch, asked)
        return Checkpoint(TrainState(**kept["state"]), kept["history"]["rows"])

    def latest(self) -> int | None:
        """Epochs done at the last checkpoint, or None if there is none."""
        return self._manager.latest_step()

    def close(self) -> None:
        """Let go of the folder."""
        self._manager.close()


class KeptWeights:
    """The weights of chosen epochs of one run, as they were then.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path, *, read_only: bool = False):
        """Open the folder.

        Args:
            path: The folder; it is made if it is not there.
            read_only: Whether to leave it as it is.
        """
        self.path = path.resolve()
        self._manager = _open(self.path, most=None, read_only=read_only)

    def save(self, epoch: int, params: Any) -> None:
        """Keep the weights of all seeds after an epoch.

        Args:
            epoch: Epochs done; 0 is before training.
            params: The weights, seeds in front.

        Raises:
            OSError: If they cannot be written.
        """
        if epoch in self.epochs():  # by a run that was killed and has come here again
            self._manager.delete(epoch)
        kept = ocp.args.Composite(params=ocp.args.StandardSave(params))
        _save(self._manager, self.path, epoch, kept)

    def load(self, epoch: int, like: Any) -> Any:
        """Read the weights of an epoch.

        Args:
            epoch: One of `epochs`.
            like: Weights of the same model, whose values do not matter.

        Returns:
            The weights, seeds in front.

        Raises:
            ValueError: If they are damaged, or of another model.
        """
        asked = ocp.args.Composite(params=ocp.args.StandardRestore(_shapes(like)))
        return _restore(self._manager, self.path, epoch, asked)["params"]

    def epochs(self) -> list[int]:
        """The epochs whose weights are there, in order."""
        return sorted(self._manager.all_steps())

    def close(self) -> None:
        """Let go of the folder."""
        self._manager.close()


def _open(path: Path, *, most: int | None, read_only: bool) -> ocp.CheckpointManager:
    """A manager of the last ``most`` things written there."""
    with _errors_not_logged():  # nor that it is read only
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None if read_only else most,
            create=not read_only,
            cleanup_tmp_directories=not read_only,  # what a kill has left
            enable_async_checkpointing=False,
            read_only=read_only,
        )
        return ocp.CheckpointManager(path, options=options)


def _save(manager: ocp.CheckpointManager, path: Path, epoch: int, kept: Any) -> None:
    try:
        with _errors_not_logged():
            manager.save(epoch, args=kept, force=True)
    except ValueError as error:  # the words of the library below Orbax
        code = re.search(r"os_error_code='(\d+)'", str(error))
        number = int(code[1]) if code else errno.EIO
        raise OSError(number, os.strerror(number), str(path)) from error


def _restore(manager: ocp.CheckpointManager, path: Path, epoch: int, asked: Any) -> Any:
    try:
        with _errors_not_logged():
            return manager.restore(epoch, args=asked)
    except Exception as error:  # what is damaged can raise nearly anything
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"the checkpoint {path / str(epoch)} is damaged or of another model "
            f"({reason})."
        ) from error


def _shapes(tree: Any) -> Any:
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)


@contextlib.contextmanager
def _errors_not_logged() -> Iterator[None]:
    """What is raised is not printed with all its calls as well, by any thread.

    Yields:
        Nothing.
    """
    logger = logging.getLogger("absl")
    before, logger.disabled = logger.disabled, True
    hook, threading.excepthook = threading.excepthook, lambda _: None
    try:
        yield
    finally:
        logger.disabled, threading.excepthook = before, hook
