"""A run's folder: when it is the same run, and what it keeps there."""

from collections.abc import Mapping
from typing import Any

from data import TrafficSeries
from models.runs.folder import RunFolder, differing, digest, in_words, read_record
from models.train.options import PLACES, SINCE_0_1_0, TrainOptions

COMMAND = "models.train"
CHECKPOINTS, KEPT = "checkpoints", "kept"
_TESTED = ("test.csv", "predictions.npz")  # of the weights a run has reached


def open_folder(options: TrainOptions, series: TrafficSeries) -> RunFolder:
    """The folder of a run, without test errors of weights that it will outgrow."""

    def same(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
        tested_only = {"epochs"} if options.fit.epochs == 0 else set()
        return [name for name in _differing(old, new) if name not in tested_only]

    folder = RunFolder(
        options.out,
        COMMAND,
        options.identity() | fingerprints(options, series),
        overwrite=options.overwrite,
        resume=options.resume,
        same=same,
        results=("metrics.csv", *_TESTED),
        keeps=(CHECKPOINTS, KEPT),
    )
    folder.record["complete"] = folder.was_complete
    if not folder.was_complete:
        for name in _TESTED:
            (folder.path / name).unlink(missing_ok=True)
    return folder


def keep_on(folder: RunFolder, options: TrainOptions) -> tuple[int, ...]:
    """Epochs whose weights are kept: a run that goes on keeps those it was to keep."""
    keep = options.keep_epochs
    match folder.record.get("keep_epochs"):
        case [*epochs] if not keep and all(isinstance(one, int) for one in epochs):
            keep = tuple(epochs)
    folder.record["keep_epochs"] = list(keep)
    return keep


def holds_checkpoint(options: TrainOptions) -> bool:
    """Whether its folder holds a checkpoint of a run, as far as the options tell."""
    try:
        record = read_record(options.out, COMMAND)
    except (ValueError, OSError):
        return False
    if record is None or differs(record["arguments"], options):
        return False
    kept = (options.out / CHECKPOINTS).glob("*")
    return any(folder.name.isdecimal() for folder in kept)


def differs(arguments: Mapping[str, Any], options: TrainOptions) -> str:
    """Name the options in which a run differs from one on record.

    Args:
        arguments: Those of the run on record.
        options: The run.

    Returns:
        Each with both values, or nothing if there is none. Neither where files are nor
        whether they hold the same is looked at.
    """
    asked = options.identity()
    later = [name for name in SINCE_0_1_0 if name in arguments]
    known = {name: arguments.get(name) for name in (*asked, *later)}
    return differences(known, asked)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The arguments in which two runs differ, but for where files are, in words."""
    return in_words(_differing(old, new), old, new)


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [name for name in differing(old, new) if name not in PLACES]


def fingerprints(options: TrainOptions, series: TrafficSeries) -> dict[str, str]:
    """SHA-256 of all that a run sees of a series, so that two are never mixed.

    Args:
        options: The run.
        series: Its series.

    Returns:
        Hexadecimal digits, as ``data_sha256`` and, of a run that uses the road graph,
        ``adjacency_sha256``.
    """
    # Of bytes without types and shapes: runs of version 0.1.0 have these on record.
    parts = series.values, series.missing, series.time.as_unit("ns").asi8
    seen = digest(repr(series.sensor_ids).encode(), *(p.tobytes() for p in parts))
    found = {"data_sha256": seen}
    if options.model.needs_adjacency and series.adjacency is not None:
        found["adjacency_sha256"] = digest(series.adjacency.tobytes())
    return found
