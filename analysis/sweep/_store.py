"""A sweep's folder: finished points stay, whatever happens, and are not done again."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pandas.api.types import is_numeric_dtype

from analysis.sweep._points import Point
from analysis.sweep._verdicts import COLUMNS, OF_POINT, WORDS, rows_of_point
from analysis.sweep.options import SweepOptions
from models.runs.whole_files import write_whole

PICTURES = ("bound-vs-T", "verdict-share", "verdicts-by-step")
RESULTS = (
    *("sweep.csv", "verdicts.csv", "verdicts-by-layer.csv"),
    *(f"{name}.{suffix}" for name in PICTURES for suffix in ("png", "pdf")),
)
# A path that looks like a number, or like nothing, is still a path.
_TYPES: Any = {"head": str, "run": str}


class SweepFolder:
    """The folder of one sweep.

    A point is written to a file of its own, in one step, when it is finished; at the
    end ``sweep.csv`` is these files in order, so that an interrupted sweep that went on
    has the same bytes as one that ran through.

    Attributes:
        path: The folder.
        record: What ``run.json`` holds.
    """

    def __init__(self, options: SweepOptions, fingerprints: dict[str, Any]):
        """Make the folder, or go on with the same sweep in it.

        Args:
            options: The sweep.
            fingerprints: Of all that it reads.

        Raises:
            ValueError: If it holds a sweep with other arguments, or something else that
                ``--overwrite`` may not delete.
        """
        self.path = options.out
        self.record: dict[str, Any] = {}
        self._points = self.path / "points"
        self._options = options
        self._open(options, options.identity() | fingerprints)

    def _open(self, options: SweepOptions, identity: dict[str, Any]) -> None:
        """Make the folder, or go on with the same sweep in it.

        Raises:
            ValueError: If it holds a sweep with other arguments, or something else that
                ``--overwrite`` may not delete.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"--out ({self.path}) must be a folder, but it is a file.")
        run = self.path / "run.json"
        self.record = {"arguments": identity, "complete": False, "seconds": 0.0}
        self.record["filled_share"] = {}
        self.path.mkdir(parents=True, exist_ok=True)
        if run.exists():
            old = self._read_record()
            differences = _differences(old["arguments"], identity)
            if not differences:
                self.record |= old | {"complete": False}
            elif options.overwrite or not any(self._points.glob("*.csv")):
                self._clear()
            else:
                raise ValueError(
                    f"--out ({self.path}) holds a sweep with other arguments "
                    f"({differences}); choose another folder or add --overwrite."
                )
        else:
            others = {file.name for file in self.path.iterdir()} - {"run.json.part"}
            if not any(self._points.glob("*")):
                others -= {"points"}
            if others:
                raise ValueError(
                    f"--out ({self.path}) must be empty or hold a sweep, but it holds "
                    f"{min(others)!r} and no run.json."
                )
        self.save_record()
        self._points.mkdir(exist_ok=True)

    def _read_record(self) -> dict[str, Any]:
        """Read the ``run.json`` of an earlier sweep.

        Returns:
            What it holds.

        Raises:
            ValueError: If it is not of a sweep; it may be anybody's then.
        """
        try:
            record = json.loads((self.path / "run.json").read_text())
        except ValueError:
            record = None
        match record:
            case {"arguments": dict()}:
                return record
        raise ValueError(
            f"--out ({self.path}) must be empty or hold a sweep, but its run.json is "
            "not that of a sweep; choose another folder."
        )

    def _clear(self) -> None:
        """Delete an earlier sweep's files, and nothing else."""
        for end in ("csv", "csv.part"):
            for file in self._points.glob(f"T=*.{end}"):
                file.unlink()
        for name in RESULTS:
            (self.path / name).unlink(missing_ok=True)

    def _point(self, point: Point) -> Path:
        return self._points / f"{point.name}.csv"

    def state(self, point: Point) -> Literal["missing", "damaged", "finished"]:
        """Whether a point is finished, or its file not what was once written.

        Args:
            point: The point.

        Returns:
            The state; what is damaged (other columns, rows missing, cut off) is to be
            computed again.
        """
        try:
            text = self._point(point).read_bytes().decode()
        except FileNotFoundError:
            return "missing"
        except UnicodeDecodeError:
            return "damaged"
        try:
            table = pd.read_csv(io.StringIO(text), dtype=_TYPES)
        except ValueError:  # nothing in it, or nothing like a table
            return "damaged"
        sound = (
            text.endswith("\n")
            and tuple(table.columns) == COLUMNS
            and len(table) == rows_of_point(self._options, point)
            and all(is_numeric_dtype(table[name]) for name in {*COLUMNS} - {*WORDS})
            and all((table[name] == getattr(point, name)).all() for name in OF_POINT)
        )
        return "finished" if sound else "damaged"

    def add(self, point: Point, table: pd.DataFrame) -> None:
        """Keep a finished point."""
        write_whole(self._point(point), table.to_csv(index=False))

    def collect(self, points: Sequence[Point]) -> pd.DataFrame:
        """Write ``sweep.csv`` from the finished points.

        Args:
            points: The points in order.

        Returns:
            The table.
        """
        texts = [self._point(point).read_text() for point in points]
        header = texts[0].splitlines(keepends=True)[0]
        body = "".join(text.removeprefix(header) for text in texts)
        write_whole(self.path / "sweep.csv", header + body)
        return pd.read_csv(self.path / "sweep.csv", dtype=_TYPES)

    def save_record(self) -> None:
        """Write ``run.json``."""
        write_whole(self.path / "run.json", json.dumps(self.record, indent=2) + "\n")


def _differences(old: dict, new: dict) -> str:
    names = [name for name in old | new if old.get(name) != new.get(name)]
    return ", ".join(
        f"{name}: {old.get(name)!r} there, {new.get(name)!r} here" for name in names
    )
