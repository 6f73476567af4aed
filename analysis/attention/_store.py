"""The folder of results: finished parts stay, whatever happens, and are not redone."""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from analysis.attention._measure import Part
from analysis.attention.options import AttentionOptions
from data import Batch
from models.forecaster import Forecaster
from models.runs.whole_files import write_whole
from models.train.restore import weights_sha256

COMMAND = "analysis.attention"
_FORMAT = 2  # one more whenever what is measured changes
_COLUMNS = ("layer", "head", "quantity", "value")


class AttentionFolder:
    """The folder of one command.

    A part is a file of its own, named after the SHA-256 of all it depends on and
    written in one step, so that no part is ever taken for another's.

    Attributes:
        path: The folder.
        record: What ``run.json`` holds.
    """

    def __init__(self, options: AttentionOptions):
        """Make the folder, or go on with the results in it.

        Args:
            options: What is done.

        Raises:
            ValueError: If it holds results of other settings and there is no
                ``--overwrite``, or something else.
        """
        self.path, self._parts = options.out, options.out / "parts"
        self._written: list[str] = []
        settings = options.settings()
        self.record: dict[str, Any] = {
            "command": COMMAND,
            "settings": settings,
            "complete": False,
            "seconds": 0.0,
        }
        self.path.mkdir(parents=True, exist_ok=True)
        old = self._read()
        empty = not any(self._parts.glob("*"))
        if old is not None and (options.overwrite or empty):
            self._clear(old)
        elif old is not None:
            if old["settings"] != settings:
                raise ValueError(
                    f"--out ({self.path}) holds results of other settings "
                    f"({_differences(old['settings'], settings)}); choose another "
                    "folder or add --overwrite."
                )
            self.record |= {"seconds": old.get("seconds", 0.0)}
            self.record["files"] = [Path(name).name for name in old.get("files", [])]
        else:
            others = {file.name for file in self.path.iterdir()} - {"run.json.part"}
            if others:
                raise ValueError(
                    f"--out ({self.path}) must be empty or hold results of {COMMAND}, "
                    f"but it holds {min(others)!r} and no run.json."
                )
        self.save()
        self._parts.mkdir(exist_ok=True)

    def _read(self) -> dict[str, Any] | None:
        file = self.path / "run.json"
        if not file.exists():
            return None
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            record = None
        match record:
            case {"command": "analysis.attention", "settings": dict()}:
                return record
        raise ValueError(
            f"--out ({self.path}) must be empty or hold results of {COMMAND}, but its "
            "run.json is something else's; choose another folder."
        )

    def _clear(self, old: dict[str, Any]) -> None:
        """Delete what this command wrote, and nothing else."""
        for file in self._parts.glob("*-*.*"):
            if file.suffix in (".npz", ".csv", ".part"):
                file.unlink()
        for name in old.get("files", []):
            (self.path / Path(name).name).unlink(missing_ok=True)

    def save(self) -> None:
        """Write ``run.json``."""
        write_whole(self.path / "run.json", json.dumps(self.record, indent=2) + "\n")

    def write(self, name: str, content: str | bytes) -> None:
        """Write a result and note its name.

        Args:
            name: Of the file.
            content: What it holds.
        """
        files = self.record.setdefault("files", [])
        if name not in files:
            files.append(name)
        self._written.append(name)
        self.save()
        write_whole(self.path / name, content)

    def finish(self) -> list[str]:
        """Delete files of earlier calls that this one did not write; all is done.

        Returns:
            The files there are now, in the order in which they were written.
        """
        for name in self.record.get("files", []):
            if name not in self._written:
                (self.path / name).unlink(missing_ok=True)
        self.record |= {"files": self._written, "complete": True}
        self.save()
        return self._written

    def part(self, digest: str) -> Part | None:
        """A finished part.

        Args:
            digest: What it is of, see `identity`.

        Returns:
            The part; None where there is none, or its file is damaged.
        """
        file = self._parts / f"measured-{digest}.npz"
        try:
            whole = io.BytesIO(file.read_bytes())
            with np.load(whole, allow_pickle=False) as held:
                table = pd.DataFrame({name: held[name] for name in _COLUMNS})
                return Part(table, held["maps"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def add_part(self, digest: str, part: Part) -> None:
        """Keep a finished part.

        Args:
            digest: What it is of.
            part: The part.
        """
        columns = {name: part.table[name].to_numpy() for name in _COLUMNS}
        columns |= {name: columns[name].astype(str) for name in ("head", "quantity")}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, maps=part.maps, **columns)
        write_whole(self._parts / f"measured-{digest}.npz", buffer.getvalue())

    def certified(self, digest: str) -> pd.DataFrame | None:
        """Finished certificates of a forecaster.

        Args:
            digest: What they are of.

        Returns:
            The table; None where there is none, or its file is damaged.
        """
        file = self._parts / f"certificates-{digest}.csv"
        try:
            table = pd.read_csv(file)
        except (OSError, ValueError):
            return None
        return table if "certificate" in table and len(table) else None

    def add_certified(self, digest: str, table: pd.DataFrame) -> pd.DataFrame:
        """Keep finished certificates.

        Args:
            digest: What they are of.
            table: The rows.

        Returns:
            The rows as they are read back, so that an interrupt changes no digit.
        """
        text = table.to_csv(index=False)
        write_whole(self._parts / f"certificates-{digest}.csv", text)
        return pd.read_csv(io.StringIO(text))


def identity(model: Forecaster, batch: Batch, settings: dict[str, Any]) -> str:
    """SHA-256 of all that a part depends on.

    Args:
        model: The forecaster: what it is made of, and its weights.
        batch: The windows.
        settings: What else counts.

    Returns:
        Hexadecimal digits, the first 32.
    """
    digest = hashlib.sha256(repr(model.config).encode())
    digest.update(f"format {_FORMAT} ".encode())
    digest.update(json.dumps(settings, sort_keys=True).encode())
    digest.update(weights_sha256(model).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} ".encode())
        digest.update(f"{array.shape}".encode() + array.tobytes())
    return digest.hexdigest()[:32]


def _differences(old: dict, new: dict) -> str:
    names = [name for name in old | new if old.get(name) != new.get(name)]
    return ", ".join(
        f"--{name} {old.get(name)!r} there, {new.get(name)!r} here" for name in names
    )
