"""A finished training run, read from its folder and checked.

A run is a folder with ``run.json`` (what was asked for, and what came of it),
``metrics.csv`` (a row per epoch and seed) and ``test.csv`` (the test errors).
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.metrics import MEAN
from models.errors import Metrics

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
