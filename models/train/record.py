"""The record of a training run: what it was asked to do, and what came of it."""

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from models.errors import MEAN, Metrics
from models.runs.command import words_of
from models.runs.environment import version
from models.runs.flags import flag
from models.runs.folder import read_record
from models.train.folder import COMMAND
from models.train.options import (
    PLACES,
    SINCE_0_1_0,
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
_OURS = "stgnn-sensitivity"
TEST_COLUMNS = ("seed", "model", "horizon", *Metrics._fields)
EPOCH_COLUMNS = (
    *("epoch", "seed", "loss", "validation_mae", "learning_rate", "seconds"),
)
_NEEDED_ARGUMENTS = (
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
        complete: Whether it has come to its end.
        version: The version of this toolkit that made it; None if that is not written.
        parameters: Number of weights of one model; as those below once it has begun.
        seeds: The seeds, a model each.
        steps_per_epoch: Training steps in an epoch; None where it is not written.
        device: What it ran on; of a CPU also the model and the cores.
        seconds: How long it took in all.
    """

    folder: Path
    arguments: Mapping[str, Any]
    complete: bool
    version: str | None = None
    parameters: int = 0
    seeds: tuple[int, ...] = ()
    steps_per_epoch: int | None = None
    device: str = ""
    seconds: float = 0.0

    def options(self, data: Path | None = None) -> TrainOptions:
        """What it was asked to do, as the command takes it.

        Args:
            data: Where the files of its data set are now, if not where they were.

        Returns:
            The options, with ``out`` the folder.

        Raises:
            ValueError: If it is a run of another version: names what one of the two
                does not know.
        """
        left = {
            name: value
            for name, value in self.arguments.items()
            if not name.endswith("_sha256")
        }
        if data is not None:
            left |= self._moved(data)
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
                if name not in (*given, "devices", *SINCE_0_1_0)
                and fields[name].default is not None
            ]
            if absent:
                raise self._of_another_version(f"lacks {_flags(absent)}")
            try:
                groups[group] = kind(**given)
            except ValueError as error:
                raise self._of_another_version(words_of(error)) from None
        if left:
            words = f"has {_flags(list(left))}, which this version does not know"
            raise self._of_another_version(words)
        return TrainOptions(out=self.folder, **groups)

    def _moved(self, data: Path) -> dict[str, str]:
        """The argument that changes where its data are elsewhere now."""
        dataset = str(self.arguments.get("dataset"))
        if is_file(dataset):
            file = data / Path(dataset).name if data.is_dir() else data
            return {"dataset": str(file)}
        if self.arguments.get("data") is None:
            raise ValueError(
                f"--data ({data}) is of no use to {self.folder}, whose data set "
                f"{dataset} is no file."
            )
        return {"data": str(data)}

    def _of_another_version(self, difference: str) -> ValueError:
        return ValueError(
            f"{self.folder} is a run of another version (made with "
            f"{self.version or 'an unknown one'}, this is {version(_OURS)}): its "
            f"run.json {difference}."
        )

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
            A row per epoch and seed, with the columns ``epoch``, ``seed``, ``loss``
            (mph, and what a regularizer adds), ``validation_mae`` (mph),
            ``learning_rate``, ``seconds``.

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


def read_run(folder: Path, complete: bool = True) -> Run:
    """Read the record of a training run.

    Args:
        folder: The run's folder.
        complete: Whether it must have come to its end.

    Returns:
        The run.

    Raises:
        IncompleteRunError: If it must be finished and is not.
        ValueError: If the folder is not one of a training run, or its record is broken.
    """
    run = _run_of(folder, _read_record(folder))
    if not complete:
        return run
    if missing := [name for name in _NEEDED_ARGUMENTS if name not in run.arguments]:
        raise ValueError(
            f"{folder} is no training run: its run.json lacks {', '.join(missing)} "
            "among the arguments."
        )
    if not run.complete:
        raise IncompleteRunError(f"{folder} is not complete.")
    if not run.seeds:
        raise ValueError(
            f"{folder / 'run.json'} must hold parameters (a number), seeds (numbers), "
            "device (a text) and seconds (a number)."
        )
    return run


def _read_record(folder: Path) -> dict[str, Any]:
    """Its ``run.json``, whose arguments are of their types."""
    try:
        record = read_record(folder, COMMAND) if folder.is_dir() else None
    except ValueError:
        record = {}
    if record is None:
        raise ValueError(f"{folder} is no training run: it holds no run.json.")
    if not isinstance(record.get("complete"), bool):
        raise ValueError(
            f"{folder} is no training run: its run.json is not that of a training run, "
            "which must hold arguments and complete."
        )
    for name, value in record["arguments"].items():
        if not _is_of_type(value, _types().get(name, Any)):
            raise ValueError(
                f"{folder} is no training run: its run.json has {value!r} for "
                f"{flag(name)}."
            )
    return record


def _run_of(folder: Path, record: Mapping[str, Any]) -> Run:
    begun: dict[str, Any] = {}
    match record:
        case {
            "parameters": int(parameters),
            "seeds": [int(), *_] as seeds,
            "device": str(device),
            "seconds": int() | float() as seconds,
        } if all(isinstance(seed, int) for seed in seeds):
            begun = {"parameters": parameters, "seeds": tuple(seeds)}
            begun |= {"device": _device(device, record.get("environment"))}
            begun |= {"seconds": seconds}
    match record:
        case {"versions": {"stgnn-sensitivity": str(made_with)}}:
            begun["version"] = made_with
    match record:
        case {"steps_per_epoch": int(steps)}:
            begun["steps_per_epoch"] = steps
    arguments, complete = record["arguments"], record["complete"]
    return Run(folder=folder, arguments=arguments, complete=complete, **begun)


def _device(device: str, environment: Any) -> str:
    match environment:
        case {"cpu": str(model), "cores": int(cores)} if device == "cpu":
            return f"{cores} cores of {model}"
    return device


@functools.cache
def _types() -> dict[str, Any]:
    """The type of every option, by name."""
    found = {}
    for kind in _GROUPS.values():
        found |= typing.get_type_hints(kind)
    return found


def _is_of_type(value: Any, hint: Any) -> bool:
    """Whether JSON's value can be an option's; which names there are, versions tell."""
    match typing.get_origin(hint):
        case typing.Union | types.UnionType:
            return any(_is_of_type(value, one) for one in typing.get_args(hint))
        case origin if origin is Literal:
            hint = str
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return hint is Any or type(value) is (str if hint is Path else hint)


def is_file(dataset: str) -> bool:
    """Whether ``--dataset`` is the path of a file, and no name."""
    return dataset not in ("payne-whitham", "metr-la", "pems-bay")


def _flags(names: list[str]) -> str:
    return ", ".join(flag(name) for name in names)
