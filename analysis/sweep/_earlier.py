"""For folders of 0.1.0, which kept its points in ``points/``, without digests."""

import contextlib
import io
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from analysis.sweep._points import Point
from analysis.sweep._verdicts import COLUMNS, OF_POINT
from analysis.sweep.options import SweepOptions
from models.runs.folder import Found
from sensitivity.equations import STATEMENTS

_FOLDER = "points"
_WORDS = {"source", "position", "regularizer", "norm", "dtype", "head", "statement"}
_PICTURES = ("bound-vs-T", "verdict-share", "verdicts-by-step")
_RESULTS = (
    *("sweep.csv", "verdicts.csv", "verdicts-by-layer.csv"),
    *(f"{name}.{suffix}" for name in _PICTURES for suffix in ("png", "pdf")),
)
# A path that looks like a number, or like nothing, is still a path.
TYPES: Any = {"head": str, "run": str}


def earlier_files(path: Path) -> list[str]:
    """What version 0.1.0 may have written to a folder."""
    points = (path / _FOLDER).glob("T=*.csv*")
    return [*_RESULTS, *(f"{_FOLDER}/{file.name}" for file in points)]


def earlier_point(path: Path, options: SweepOptions, point: Point) -> Found:
    """A point that version 0.1.0 finished there: damaged if it is not whole."""
    try:
        content = (path / _FOLDER / f"{point.name}.csv").read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return Found("missing", b"")
    try:
        table = pd.read_csv(io.StringIO(content.decode()), dtype=TYPES)
    except ValueError:  # no text, or nothing in it like a table
        return Found("damaged", b"")
    levels = options.measure.levels
    each = point.heads * ("head" in levels) + ("layer" in levels)
    sound = (
        content.endswith(b"\n")
        and tuple(table.columns) == COLUMNS
        and len(table) == options.samples * each * len(STATEMENTS)
        and all(is_numeric_dtype(table[n]) for n in {*COLUMNS} - _WORDS - {"run"})
        and all((table[name] == getattr(point, name)).all() for name in OF_POINT)
    )
    return Found("finished", content) if sound else Found("damaged", b"")


def drop_earlier_point(path: Path, point: Point) -> None:
    """It is kept as a part by now."""
    (path / _FOLDER / f"{point.name}.csv").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # others are in it, or it is not there
        (path / _FOLDER).rmdir()
