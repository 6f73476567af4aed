"""Checkpoints of training: everything it goes on from, written by Orbax in one step."""

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

from models.state import TrainState


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
        with _errors_not_logged():  # nor that it is read only
            options = ocp.CheckpointManagerOptions(
                max_to_keep=None if read_only else 1,
                create=not read_only,
                cleanup_tmp_directories=not read_only,  # what a kill has left
                enable_async_checkpointing=False,
                read_only=read_only,
            )
            self._manager = ocp.CheckpointManager(self.path, options=options)

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
        try:
            with _errors_not_logged():
                self._manager.save(epoch, args=kept)
        except ValueError as error:  # the words of the library below Orbax
            code = re.search(r"os_error_code='(\d+)'", str(error))
            number = int(code[1]) if code else errno.EIO
            raise OSError(number, os.strerror(number), str(self.path)) from error

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
            state=ocp.args.StandardRestore(
                jax.tree.map(ocp.utils.to_shape_dtype_struct, like._asdict())
            ),
            history=ocp.args.JsonRestore(),
        )
        try:
            with _errors_not_logged():
                kept = self._manager.restore(epoch, args=asked)
            return Checkpoint(TrainState(**kept["state"]), kept["history"]["rows"])
        except Exception as error:  # what is damaged can raise nearly anything
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"the checkpoint {self.path / str(epoch)} is damaged or of another "
                f"model ({reason})."
            ) from error

    def latest(self) -> int | None:
        """Epochs done at the last checkpoint, or None if there is none."""
        return self._manager.latest_step()

    def close(self) -> None:
        """Let go of the folder."""
        self._manager.close()


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
