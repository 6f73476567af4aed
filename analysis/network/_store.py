"""The folder of the results: finished parts stay and are not measured again."""

import dataclasses
import hashlib
import io
import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd

from analysis.network.options import NetworkOptions
from models.forecaster import Forecaster
from models.runs.whole_files import write_whole
from models.train.folder import fingerprints
from models.train.options import PLACES
from models.train.restore import Restored, weights_sha256

_COMMAND = "analysis.network"
_FORMAT = 2  # one more whenever what is measured changes
State = Literal["missing", "damaged", "other weights", "other settings", "finished"]


class Part(NamedTuple):
    """What was measured of one seed of a run.

    Attributes:
        tables: By name.
        seconds: How long it took.
    """

    tables: dict[str, pd.DataFrame]
    seconds: float


def identity_of(run: Restored, model: Forecaster, options: NetworkOptions) -> dict:
    """All that the numbers of one seed depend on, as JSON holds it.

    Args:
        run: The run.
        model: The forecaster of the seed.
        options: What is asked for.

    Returns:
        ``weights_sha256`` and ``settings``.
    """
    made = dataclasses.asdict(run.options.series) | dataclasses.asdict(
        run.options.model
    )
    made = {name: value for name, value in made.items() if name not in PLACES}
    series = run.prepared.series
    made |= fingerprints(run.options, series)
    if series.adjacency is not None:
        made["road_sha256"] = hashlib.sha256(series.adjacency.tobytes()).hexdigest()
    settings = {"format": _FORMAT, "forecaster": made, **options.settings()}
    return {
        "weights_sha256": weights_sha256(model),
        "settings": json.loads(json.dumps(settings, default=str)),
    }


class NetworkFolder:
    """The folder of the results.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path):
        """Make the folder, or go on in it.

        Args:
            path: The folder.

        Raises:
            ValueError: If it holds something else.
        """
        self.path, self._parts = path, path / "parts"
        path.mkdir(parents=True, exist_ok=True)
        run = path / "run.json"
        if run.exists():
            try:
                record = json.loads(run.read_text(encoding="utf-8"))
            except ValueError:
                record = None
            if not isinstance(record, dict) or record.get("command") != _COMMAND:
                raise ValueError(
                    f"--out ({path}) must be empty or hold results of {_COMMAND}, but "
                    "its run.json is another's; choose another folder."
                )
        elif others := {file.name for file in path.iterdir()} - {"run.json.part"}:
            raise ValueError(
                f"--out ({path}) must be empty or hold results of {_COMMAND}, but it "
                f"holds {min(others)!r} and no run.json."
            )

    def save_record(self, record: dict[str, Any]) -> None:
        """Write ``run.json``, and with it the place of the parts."""
        text = json.dumps({"command": _COMMAND, **record}, indent=2, default=str)
        write_whole(self.path / "run.json", text + "\n")
        self._parts.mkdir(exist_ok=True)

    def _file(self, run: Path, seed: int) -> Path:
        whole = run.resolve()
        place = hashlib.sha256(str(whole).encode()).hexdigest()[:10]
        return self._parts / f"{whole.parent.name}-{place}-seed-{seed}.json"

    def look(self, run: Path, seed: int, identity: dict) -> tuple[State, Part | None]:
        """Whether a part is there, of these weights and settings.

        Args:
            run: The folder of the run.
            seed: The seed.
            identity: As of `identity_of`.

        Returns:
            The state, and a finished part.
        """
        try:
            held = json.loads(self._file(run, seed).read_text(encoding="utf-8"))
            tables = {name: _read(text) for name, text in held["tables"].items()}
            part, there = Part(tables, float(held["seconds"])), held["identity"]
            if there["weights_sha256"] != identity["weights_sha256"]:
                return "other weights", None
            if there["settings"] != identity["settings"]:
                return "other settings", None
        except FileNotFoundError:
            return "missing", None
        except (ValueError, KeyError, TypeError, AttributeError):
            return "damaged", None
        return "finished", part

    def add(self, run: Path, seed: int, identity: dict, part: Part) -> Part:
        """Keep a finished part.

        Args:
            run: The folder of the run.
            seed: The seed.
            identity: As of `identity_of`.
            part: What was measured.

        Returns:
            The part as it is read back, so that it is the same now and later.
        """
        texts = {name: table.to_csv(index=False) for name, table in part.tables.items()}
        held = {"identity": identity, "seconds": part.seconds, "tables": texts}
        write_whole(self._file(run, seed), json.dumps(held, indent=1) + "\n")
        return Part({name: _read(text) for name, text in texts.items()}, part.seconds)


def _read(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text), dtype={"hop": str})
