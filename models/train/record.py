"""What a training run was asked to do, from the ``run.json`` of its folder."""

import dataclasses
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models.runs.flags import flag
from models.train.folder import read_record
from models.train.groups import DataOptions, FitOptions, ModelOptions
from models.train.options import PLACES, TrainOptions

_GROUPS: dict[str, Any] = {
    "series": DataOptions,
    "model": ModelOptions,
    "fit": FitOptions,
}


def read_options(folder: Path, data: Path | None = None) -> TrainOptions:
    """What a run was asked to do, from its ``run.json``.

    Args:
        folder: The run.
        data: Where the files of its data set are now, if not where they were.

    Returns:
        The options, with ``out`` the folder.

    Raises:
        ValueError: If the folder holds no run, or one of another version: names what
            one of the two does not know.
    """
    record = run_record(folder)
    left = {
        name: value
        for name, value in record["arguments"].items()
        if not name.endswith("_sha256")
    }
    if data is not None:
        left |= _moved(folder, left, data)
    groups = {}
    for group, kind in _GROUPS.items():
        fields = {field.name: field for field in dataclasses.fields(kind)}
        given = {name: left.pop(name) for name in fields if name in left}
        for name in PLACES:
            if given.get(name) is not None:
                given[name] = Path(given[name])
        absent = [
            name
            for name in fields
            if name not in (*given, "devices") and fields[name].default is not None
        ]
        if absent:
            raise ValueError(_other_version(folder, record, f"lacks {_flags(absent)}"))
        try:
            groups[group] = kind(**given)
        except (TypeError, ValueError) as error:
            raise ValueError(_other_version(folder, record, str(error))) from None
    if left:
        words = f"has {_flags(list(left))}, which this version does not know"
        raise ValueError(_other_version(folder, record, words))
    return TrainOptions(out=folder, **groups)


def run_record(folder: Path) -> dict[str, Any]:
    """The ``run.json`` of a training run.

    Args:
        folder: The run.

    Returns:
        What it holds.

    Raises:
        ValueError: If the folder holds none.
    """
    try:
        record = read_record(folder) if folder.is_dir() else None
    except ValueError:
        raise ValueError(
            f"{folder} is no training run: its run.json is not that of a training run."
        ) from None
    if record is None:
        raise ValueError(f"{folder} is no training run: it holds no run.json.")
    return record


def is_file(dataset: str) -> bool:
    """Whether ``--dataset`` is the path of a file, and no name."""
    return dataset not in ("payne-whitham", "metr-la", "pems-bay")


def _moved(folder: Path, arguments: dict[str, Any], data: Path) -> dict[str, str]:
    """The arguments of a run whose data are elsewhere now.

    Returns:
        Those that change.

    Raises:
        ValueError: If the run has no data to be elsewhere.
    """
    dataset = str(arguments.get("dataset"))
    if is_file(dataset):
        return {"dataset": str(data / Path(dataset).name if data.is_dir() else data)}
    if arguments.get("data") is None:
        raise ValueError(
            f"--data ({data}) is of no use to {folder}, whose data set {dataset} is no "
            "file."
        )
    return {"data": str(data)}


def _flags(names: list[str]) -> str:
    return ", ".join(flag(name) for name in names)


def _other_version(folder: Path, record: dict[str, Any], difference: str) -> str:
    here, there = version("stgnn-sensitivity"), record.get("versions", {})
    return (
        f"{folder} is a run of another version (made with "
        f"{there.get('stgnn-sensitivity', 'an unknown one')}, this is {here}): its "
        f"run.json {difference}."
    )
