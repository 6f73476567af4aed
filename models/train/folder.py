"""A run's folder: what was asked for, how training went, what came of it."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from data import TrafficSeries
from models.runs.flags import flag
from models.runs.whole_files import write_whole
from models.train.options import PLACES, TrainOptions

KEPT = "kept"
_RESULTS = ("test.csv", "predictions.npz")
_COLUMNS = ("epoch", "seed", "loss", "validation_mae", "learning_rate", "seconds")


class RunFolder:
    """The folder of one training run.

    Attributes:
        path: The folder.
        record: What ``run.json`` holds.
    """

    def __init__(self, options: TrainOptions, series: TrafficSeries):
        """Make the folder, or go on with the same run in it.

        Args:
            options: The run.
            series: Its data, of which ``run.json`` keeps a fingerprint.

        Raises:
            ValueError: If it holds another run, something else, or the same run and
                neither ``--resume`` nor ``--overwrite`` is given.
        """
        self.path, self._epochs = options.out, options.fit.epochs
        arguments = options.identity() | fingerprints(options, series)
        self.record: dict[str, Any] = {"arguments": arguments, "complete": False}
        self.record["seconds"] = 0.0
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"--out ({self.path}) must be a folder, but it is a file.")
        self.path.mkdir(parents=True, exist_ok=True)
        old = read_record(self.path)
        if old is None:
            others = {file.name for file in self.path.iterdir()} - {"run.json.part"}
            if others:
                raise ValueError(
                    f"--out ({self.path}) must be empty or hold a run, but it holds "
                    f"{min(others)!r} and no run.json."
                )
        elif options.overwrite:
            self._clear(old)
        elif not options.resume:
            raise ValueError(
                f"--out ({self.path}) holds a run; add --resume to go on with it, or "
                "--overwrite to replace it."
            )
        else:
            if options.fit.epochs == 0:  # test what there is, train nothing
                arguments["epochs"] = old["arguments"].get("epochs", 0)
            if different := differences(old["arguments"], arguments):
                raise ValueError(
                    f"--out ({self.path}) holds a run with other arguments "
                    f"({different}); choose another folder or add --overwrite."
                )
            self.record |= old
            if not self.record["complete"]:  # of weights it has outgrown, if any
                self._delete_results()
        self.save()

    @property
    def is_to_end(self) -> bool:
        """Whether the run is at its end when this command has tested it."""
        whole = self._epochs == self.record["arguments"]["epochs"]
        return whole or self.record["complete"]

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / "checkpoints"

    @property
    def kept(self) -> Path:
        """Where the weights of chosen epochs are."""
        return self.path / KEPT

    def _clear(self, old: dict[str, Any]) -> None:
        """Delete an earlier run's files, and nothing else.

        Its ``run.json`` goes last, replaced by the new one: a kill in between leaves a
        run without results, and never the new run's name on the old run's weights.
        """
        self._write({"arguments": old["arguments"], "complete": False})
        self._delete_results()
        (self.path / "metrics.csv").unlink(missing_ok=True)
        for folder in (self.checkpoints, self.kept):
            for kept in folder.glob("[0-9]*"):
                shutil.rmtree(kept)

    def _delete_results(self) -> None:
        for name in _RESULTS:
            (self.path / name).unlink(missing_ok=True)

    def save(self) -> None:
        """Write ``run.json``."""
        self._write(self.record)

    def _write(self, record: dict[str, Any]) -> None:
        write_whole(self.path / "run.json", json.dumps(record, indent=2) + "\n")

    def save_history(self, history: list[dict[str, Any]]) -> None:
        """Write ``metrics.csv``, a row per epoch and seed."""
        table = pd.DataFrame(history, columns=list(_COLUMNS))
        write_whole(self.path / "metrics.csv", table.to_csv(index=False))

    def save_test(self, table: pd.DataFrame) -> None:
        """Write ``test.csv``, a row per seed or baseline and step of the horizon."""
        write_whole(self.path / "test.csv", table.to_csv(index=False))


def read_record(folder: Path) -> dict[str, Any] | None:
    """Read the ``run.json`` of a training run.

    Args:
        folder: Its folder.

    Returns:
        What it holds; None if there is none.

    Raises:
        ValueError: If it is not that of a training run, but somebody else's.
    """
    file = folder / "run.json"
    if not file.exists():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        record = None
    match record:
        case {"arguments": {"dataset": str()}}:
            return record
    raise ValueError(
        f"--out ({folder}) must be empty or hold a run, but its run.json is not that "
        "of a training run; choose another folder."
    )


def holds_checkpoint(options: TrainOptions) -> bool:
    """Whether a run's folder holds a checkpoint of that run, and not of another.

    Args:
        options: The run.

    Returns:
        Whether it does, as far as the options tell.
    """
    try:
        record = read_record(options.out)
    except ValueError:
        return False
    if record is None or differs(record["arguments"], options):
        return False
    kept = (options.out / "checkpoints").glob("*")
    return any(folder.name.isdecimal() for folder in kept)


def differs(arguments: dict[str, Any], options: TrainOptions) -> str:
    """Name the options in which a run differs from one on record.

    Args:
        arguments: Those of the run on record.
        options: The run.

    Returns:
        As `differences`, but whether the files hold the same is not looked at.
    """
    known = {name: arguments.get(name) for name in options.identity()}
    return differences(known, options.identity())


def fingerprints(options: TrainOptions, series: TrafficSeries) -> dict[str, str]:
    """SHA-256 of all that a run sees of a series, so that two are never mixed.

    Args:
        options: The run.
        series: Its series.

    Returns:
        Hexadecimal digits, as ``data_sha256`` and, of a run that uses the road graph,
        ``adjacency_sha256``.
    """
    digest = hashlib.sha256(repr(series.sensor_ids).encode())
    digest.update(series.values.tobytes())
    digest.update(series.missing.tobytes())
    digest.update(series.time.as_unit("ns").asi8.tobytes())
    found = {"data_sha256": digest.hexdigest()}
    if options.model.graph == "road" and series.adjacency is not None:
        road = hashlib.sha256(series.adjacency.tobytes())
        found["adjacency_sha256"] = road.hexdigest()
    return found


def differences(old: dict, new: dict) -> str:
    """Name the arguments in which two runs differ.

    Args:
        old: Arguments of the run that is there.
        new: Arguments of the run that is asked for.

    Returns:
        Each with both values, or nothing if there is none. Where files are does not
        count: ``data_sha256`` tells whether they hold the same.
    """
    return ", ".join(
        f"{flag(name)} {old.get(name)!r} there, {new.get(name)!r} asked for"
        for name in old | new
        if old.get(name) != new.get(name) and name not in PLACES
    )
