"""For folders of 0.1.0, which kept its points in ``points/``, without digests.

Its points lack statements of today: they are measured again.
"""

import contextlib
from pathlib import Path

from analysis.sweep._points import Point

_FOLDER = "points"
_PICTURES = ("bound-vs-T", "verdict-share", "verdicts-by-step")
_RESULTS = (
    *("sweep.csv", "verdicts.csv", "verdicts-by-layer.csv"),
    *(f"{name}.{suffix}" for name in _PICTURES for suffix in ("png", "pdf")),
)


def earlier_files(path: Path) -> list[str]:
    """What version 0.1.0 may have written to a folder."""
    points = (path / _FOLDER).glob("T=*.csv*")
    return [*_RESULTS, *(f"{_FOLDER}/{file.name}" for file in points)]


def drop_earlier_point(path: Path, point: Point) -> bool:
    """Delete a point of 0.1.0, measured again by now; whether there was one."""
    file = path / _FOLDER / f"{point.name}.csv"
    there = file.is_file()
    file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # others are in it, or it is not there
        (path / _FOLDER).rmdir()
    return there
