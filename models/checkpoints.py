"""What training leaves on disk: folders of arrays, each there as a whole or not at all.

A checkpoint is everything that training goes on from; the last one is there. Kept
weights are those of chosen epochs; all of them stay.

The arrays lie in one OCDBT store of zarr arrays, as Orbax lays them out, so that those
of version 0.1.0 are read too. TensorStore writes and reads them one after another, and
waits for each: Orbax has many under way, closes its event loop at the first that fails,
and what the others then have to say is printed by threads of the library.
"""

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore

from models.early_stopping import TrainState
from models.runs.folder import delete, digest
from models.runs.whole_files import PART, write_whole

_IS_ARRAY = "/.zarray"  # the key that every array has
_TORN = re.compile(r"\d+\.(part|orbax-checkpoint-tmp.*)")
_DIGEST = ".sha256"  # of the arrays, in a file beside their folder
_READS = 5  # of the last checkpoint, while a training replaces it


class Checkpoint(NamedTuple):
    """What a killed run goes on from.

    Attributes:
        state: Weights, optimiser, early stopping and keys of all seeds.
        history: The rows of ``metrics.csv`` so far.
    """

    state: TrainState
    history: list[dict[str, Any]]


class _Epochs:
    """A folder that holds a folder for each epoch that is kept."""

    def __init__(self, path: Path, *, read_only: bool = False):
        """Open the folder.

        Args:
            path: The folder; it is made if it is not there.
            read_only: Whether to leave it as it is, for another process may write.
        """
        self.path = path.resolve()
        if not read_only:
            self.path.mkdir(parents=True, exist_ok=True)
            for folder in self.path.iterdir():
                if _TORN.fullmatch(folder.name):  # by a kill
                    delete(folder)

    def epochs(self) -> list[int]:
        """The epochs that are there, in order."""
        if not self.path.is_dir():
            return []
        there = [folder.name for folder in self.path.iterdir() if folder.is_dir()]
        return sorted(int(name) for name in there if name.isdecimal())

    @contextlib.contextmanager
    def _writing(self, epoch: int) -> Iterator[Path]:
        """A folder to fill, which becomes that of the epoch once it is whole."""
        part, whole = self.path / f"{epoch}{PART}", self.path / str(epoch)
        try:
            part.mkdir()
            yield part
            if whole.exists():  # of a run that was killed and has come here again
                delete(whole)
            part.rename(whole)
        except (OSError, ValueError) as error:
            shutil.rmtree(part, ignore_errors=True)
            number = _error_number(error)
            raise OSError(number, os.strerror(number), str(self.path)) from error

    @contextlib.contextmanager
    def _reading(self, epoch: int) -> Iterator[Path]:
        """The folder of an epoch, for somebody who finds it damaged or not."""
        kept = self.path / str(epoch)
        try:
            yield kept
        except Exception as error:  # what is damaged can raise nearly anything
            reason = " ".join(str(error).split())[:400]
            raise ValueError(
                f"the checkpoint {kept} is damaged or of another model ({reason})."
            ) from error


class CheckpointFolder(_Epochs):
    """The checkpoints of one run; the last one written is kept.

    A kill at any moment leaves the one before.

    Attributes:
        path: The folder.
    """

    def save(self, epoch: int, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, and delete those before it.

        Args:
            epoch: Epochs done.
            checkpoint: What to keep.

        Raises:
            OSError: If it cannot be written, for example because the disk is full.
        """
        with self._writing(epoch) as folder:
            _write_arrays(folder / "state", checkpoint.state._asdict())
            (folder / "history").mkdir()
            rows = json.dumps({"rows": checkpoint.history})
            write_whole(folder / "history" / "metadata", rows)
        for other in self.epochs():
            if other != epoch:
                delete(self.path / str(other))

    def load(self, like: TrainState) -> Checkpoint | None:
        """Read the last checkpoint.

        Args:
            like: A state of the same model, whose values do not matter.

        Returns:
            The checkpoint, or None if there is none.

        Raises:
            ValueError: If it is damaged, or of another model.
        """
        for left in reversed(range(_READS)):
            epoch = self.latest()
            if epoch is None:
                return None
            try:
                return self._load(epoch, like)
            except ValueError:  # a training at work may have replaced it meanwhile
                if not left or self.latest() == epoch:
                    raise
        return None

    def _load(self, epoch: int, like: TrainState) -> Checkpoint:
        with self._reading(epoch) as folder:
            text = (folder / "history" / "metadata").read_text(encoding="utf-8")
            rows = json.loads(text)["rows"]
            if not all(isinstance(row, dict) for row in rows):
                raise ValueError("its history is no list of rows")
            state = TrainState(**_read_arrays(folder / "state", like._asdict()))
            return Checkpoint(state, rows)

    def latest(self) -> int | None:
        """Epochs done at the last checkpoint, or None if there is none."""
        return max(self.epochs(), default=None)


class KeptWeights(_Epochs):
    """The weights of chosen epochs of one run, as they were then.

    Attributes:
        path: The folder.
    """

    def save(self, epoch: int, params: Any) -> None:
        """Keep the weights of all seeds after an epoch.

        Args:
            epoch: Epochs done; 0 is before training.
            params: The weights, seeds in front.

        Raises:
            OSError: If they cannot be written.
        """
        with self._writing(epoch) as folder:
            _write_arrays(folder / "params", params)

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
        with self._reading(epoch) as folder:
            return _read_arrays(folder / "params", like)


def _store(folder: Path) -> dict[str, Any]:
    return {"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder}/"}}


def _array(folder: Path, name: str) -> dict[str, Any]:
    return {"driver": "zarr", "kvstore": _store(folder) | {"path": f"{name}/"}}


def _named(tree: Any) -> dict[str, Any]:
    """Leaves by name: ``params.lift.kernel.value``."""
    leaves, keystr = jax.tree_util.tree_leaves_with_path(tree), jax.tree_util.keystr
    return {keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _digest(named: dict[str, Any]) -> str:
    return digest(*(part for name, leaf in named.items() for part in (name, leaf)))


def _write_arrays(folder: Path, tree: Any) -> None:
    named = _named(tree)
    shared = tensorstore.Context()  # else every array has a store of its own to commit
    with tensorstore.Transaction(atomic=True) as together:
        for name, leaf in named.items():
            array = np.asarray(leaf)
            opened = tensorstore.open(
                _array(folder, name),
                create=True,
                dtype=array.dtype,
                shape=array.shape,
                transaction=together,
                context=shared,
            )
            opened.result().write(array).result()
    write_whole(folder.with_suffix(_DIGEST), _digest(named))


def _read_arrays(folder: Path, like: Any) -> Any:
    shared, wanted = tensorstore.Context(), _named(like)
    store = tensorstore.KvStore.open(_store(folder), context=shared).result()
    keys = [key.decode() for key in store.list().result()]
    there = {key.removesuffix(_IS_ARRAY) for key in keys if key.endswith(_IS_ARRAY)}
    if other := there ^ set(wanted):
        which = "it" if min(other) in there else "the model"
        raise ValueError(f"only {which} has {min(other)}")
    found = []
    for name, leaf in wanted.items():
        opened = tensorstore.open(_array(folder, name), context=shared).result()
        kept, asked = (opened.shape, opened.dtype.numpy_dtype), (leaf.shape, leaf.dtype)
        if kept != asked:
            raise ValueError(f"{name} is {_words(*kept)}, the model's {_words(*asked)}")
        found.append(jnp.asarray(opened.read().result()))
    kept = folder.with_suffix(_DIGEST)  # 0.1.0 kept none
    if kept.exists() and kept.read_text() != _digest(
        dict(zip(wanted, found, strict=True))
    ):
        raise ValueError("its arrays are not those that were written")
    return jax.tree.unflatten(jax.tree.structure(like), found)


def _words(shape: tuple[int, ...], dtype: np.dtype) -> str:
    return f"{dtype}{list(shape)}"


def _error_number(error: OSError | ValueError) -> int:
    """The system's number of an error, which TensorStore has among its words."""
    if isinstance(error, OSError):
        return error.errno or errno.EIO
    code = re.search(r"os_error_code='(\d+)'", str(error))
    return int(code[1]) if code else errno.EIO
