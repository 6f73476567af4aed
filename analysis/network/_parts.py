"""What was measured of one seed of a run, as the folder of the results keeps it."""

import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis.network.options import NetworkOptions
from models.forecaster import Forecaster
from models.runs.folder import RunFolder, digest
from models.train.folder import fingerprints
from models.train.options import PLACES
from models.train.restore import Restored, weights_sha256

_FORMAT = 3  # one more whenever what is measured changes
_OLD = re.compile(r".+-[0-9a-f]{10}-seed-\d+\.json")  # of version 0.1.0


class Part(NamedTuple):
    """One seed of a run."""

    tables: dict[str, pd.DataFrame]
    seconds: float  # that it took


def label_of(run: Path, seed: int) -> str:
    """What a part is called: the same wherever the command is typed."""
    whole = run.resolve()
    place = digest(str(whole).encode())[:10]
    return f"{whole.parent.name}-{place}-seed-{seed}"


def key_of(run: Restored, model: Forecaster, options: NetworkOptions) -> str:
    """Digest of all that the numbers of one seed depend on."""
    series, asked = run.prepared.series, run.options
    made = dataclasses.asdict(asked.series) | dataclasses.asdict(asked.model)
    made = {name: value for name, value in made.items() if name not in PLACES}
    made |= fingerprints(asked, series)
    if series.adjacency is not None:
        made["road_sha256"] = digest(series.adjacency.tobytes())
    settings: dict[str, Any] = {"format": _FORMAT, "forecaster": made}
    settings |= options.settings()
    identity = {"weights_sha256": weights_sha256(model), "settings": settings}
    return digest(json.loads(json.dumps(identity, default=str)))


def pack(part: Part) -> str:
    """A part as it is kept."""
    texts = {name: table.to_csv(index=False) for name, table in part.tables.items()}
    return json.dumps({"seconds": part.seconds, "tables": texts}, indent=1) + "\n"


def unpack(content: str | bytes) -> Part:
    """A part as it was kept: what is shown is the same now and later."""
    held = json.loads(content)
    tables = {
        name: pd.read_csv(io.StringIO(text), dtype={"hop": str})
        for name, text in held["tables"].items()
    }
    return Part(tables, held["seconds"])


def clear_old(folder: RunFolder) -> None:
    """Delete the parts of 0.1.0, which hold less than is measured today."""
    for file in (folder.path / "parts").glob("*-seed-*.json"):
        if _OLD.fullmatch(file.name):
            file.unlink()
