"""What a training run was asked to do, from the ``run.json`` of its folder."""

import dataclasses
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from models.errors import MEAN, Metrics
from models.runs.flags import flag
from models.train.folder import read_record
from models.train.options import (
    PLACES,
    DataOptions,
    FitOptions,
    ModelOptions,
    TrainOptions,
)

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


TEST_COLUMNS = ("seed", "model", "horizon", *Metrics._fields)
EPOCH_COLUMNS = (
    *("epoch", "seed", "loss", "validation_mae", "learning_rate", "seconds"),
)
NEEDED_ARGUMENTS = (
    *("dataset", "window", "horizon", "regularizer", "residual", "graph"),
)


class IncompleteRunError(ValueError):
    """A training run that has not come to its end."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What ``run.json`` says; the tables are read when asked for.

    Attributes:
        folder: Where the run is.
        arguments: What it was asked to do, by name.
        parameters: Number of weights of one model.
        seeds: The seeds, a model each.
        steps_per_epoch: Training steps in an epoch; None where it is not written.
        device: What it ran on; of a CPU also the model and the cores.
        seconds: How long it took in all.
    """

    folder: Path
    arguments: Mapping[str, Any]
    parameters: int
    seeds: tuple[int, ...]
    steps_per_epoch: int | None
    device: str
    seconds: float

    def test(self) -> pd.DataFrame:
        """The errors on the test split.

        Returns:
            A row per model and step, with the columns ``seed`` (missing for baselines,
            which have none), ``model``, ``horizon`` (``"1"`` to ``"H"``, and ``"mean"``
            over these), ``mae`` and ``rmse`` (mph), ``mape`` (percent).

        Raises:
            ValueError: If the file is not there, lacks a column, or does not hold each
                step once for each seed and baseline.
        """
        table = self._read("test.csv", TEST_COLUMNS)
        steps = [*map(str, range(1, self.arguments["horizon"] + 1)), MEAN]
        names = table["model"].where(
            table["seed"].isna(), "seed " + table["seed"].astype(str)
        )
        for whose, rows in table.groupby(names):
            if sorted(rows["horizon"]) != sorted(steps):
                raise ValueError(
                    f"{self.folder / 'test.csv'} must hold the steps 1 to "
                    f"{len(steps) - 1} and their {MEAN} once for {whose}, got "
                    f"{', '.join(rows['horizon'])}."
                )
        found = sorted(set(table["seed"].dropna()))
        if found != sorted(self.seeds):
            raise ValueError(
                f"{self.folder / 'test.csv'} must hold the seeds "
                f"{sorted(self.seeds)} that run.json names, got {found}."
            )
        return table

    def epochs(self) -> pd.DataFrame:
        """How training went.

        Returns:
            A row per epoch and seed, with the columns ``epoch``, ``seed``, ``loss`` and
            ``validation_mae`` (mph), ``learning_rate``, ``seconds``.

        Raises:
            ValueError: If the file is not there or lacks a column.
        """
        return self._read("metrics.csv", EPOCH_COLUMNS)

    def _read(self, name: str, columns: tuple[str, ...]) -> pd.DataFrame:
        path = self.folder / name
        types: Any = {"horizon": str, "seed": "Int64", "model": str}
        try:
            table = pd.read_csv(path, dtype=types)
        except FileNotFoundError:
            raise ValueError(
                f"{self.folder} must hold {name}, but it is not there."
            ) from None
        except ValueError as error:  # pandas' own errors are ValueErrors too
            raise ValueError(f"{path} cannot be read: {error}") from None
        missing = [column for column in columns if column not in table]
        if missing:
            raise ValueError(f"{path} must have the columns {missing}, but lacks them.")
        return table


def read_run(folder: Path) -> Run:
    """Read the record of a finished training run.

    Args:
        folder: The run's folder.

    Returns:
        The run.

    Raises:
        IncompleteRunError: If the run has not come to its end.
        ValueError: If the folder is not one of a training run, or its record is broken.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise ValueError(f"{folder} is no training run: it holds no run.json.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}.") from None
    arguments = record.get("arguments") if isinstance(record, dict) else None
    if not isinstance(arguments, dict) or not isinstance(record.get("complete"), bool):
        raise ValueError(
            f"{folder} is no training run: its run.json must hold arguments and "
            "complete."
        )
    missing = [name for name in NEEDED_ARGUMENTS if name not in arguments]
    if missing:
        raise ValueError(
            f"{folder} is no training run: its run.json lacks {', '.join(missing)} "
            "among the arguments."
        )
    if not record["complete"]:
        raise IncompleteRunError(f"{folder} is not complete.")
    match record:
        case {
            "parameters": int(parameters),
            "seeds": [int(), *_] as seeds,
            "device": str(device),
            "seconds": int() | float() as seconds,
        }:
            return Run(
                folder=folder,
                arguments=arguments,
                parameters=parameters,
                seeds=tuple(seeds),
                steps_per_epoch=record.get("steps_per_epoch"),
                device=_device(device, record.get("environment")),
                seconds=seconds,
            )
    raise ValueError(
        f"{path} must hold parameters (a number), seeds (numbers), device (a text) and "
        "seconds (a number)."
    )


def _device(device: str, environment: Any) -> str:
    match environment:
        case {"cpu": str(model), "cores": int(cores)} if device == "cpu":
            return f"{cores} cores of {model}"
    return device
