"""Any file of traffic readings as a series, and data sets by name."""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64

from data.adjacency import read_adjacency
from data.community import METR_LA, PEMS_BAY, load_benchmark
from data.csv_file import read_csv_table
from data.hdf_file import read_hdf_frame
from data.numpy_file import read_npz
from data.readings import check_file, series_of_readings
from data.series import TrafficSeries

_KINDS = (".h5", ".hdf5", ".npz", ".csv")
_START = pd.Timestamp("2024-01-01")  # a Monday, so that row 0 is slot 0 of the week
_STEP = pd.Timedelta(minutes=5)


def load_file(
    path: str | Path,
    adjacency: str | Path | None = None,
    start: str | pd.Timestamp | None = None,
) -> TrafficSeries:
    """Load readings in mph from a file of any of the field's kinds, as untrusted input.

    ==========  ====================================================================
    ``.h5``     a pandas frame in fixed format under key ``df`` or ``speed``, with a
                time index and one column per sensor id
    ``.npz``    an array ``data`` of shape (T, N), or (T, N, F), whose first feature is
                the speed; no time stamps; sensors are called "0", "1", ...
    ``.csv``    a header and one column per sensor; the first may hold the time stamps
                (ISO 8601), named nothing, ``time``, ``timestamp``, ``date``,
                ``datetime`` or ``Unnamed: 0``
    ==========  ====================================================================

    Readings of 0 and NaN (in ``.csv`` also empty cells) are missing. A file without
    time stamps is taken to have a row every 5 minutes.

    Args:
        path: The file.
        adjacency: File of the sensor graph, see `read_adjacency`; none by default.
        start: Time of the first row of a file without time stamps; by default
            2024-01-01 00:00, a Monday. What is learnt about the time of the day or the
            week hangs on it.

    Returns:
        The series, named after the file.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a file is damaged, of another kind or layout, or asks to run
            anything; if the parts make no valid series; or ``start`` is no date or
            given for a file with time stamps. The message names the file and the place.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "city.csv")
        ...     _ = path.write_text("a,b" + chr(10) + "64.5,0" + chr(10) + "61.25,58")
        ...     series = load_file(path, start="2024-01-08 06:00")
        >>> series.values.tolist(), series.missing.tolist()
        ([[64.5, 0.0], [61.25, 58.0]], [[False, True], [False, False]])
        >>> str(series.time[1])
        '2024-01-08 06:05:00'
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in _KINDS:
        raise ValueError(f"{path} must be a file ending in one of {_KINDS}.")
    check_file(path, "path")
    if kind == ".npz":
        values, time = _read_speeds(path), None
        columns = tuple(str(column) for column in range(values.shape[1]))
    elif kind == ".csv":
        values, time, columns = read_csv_table(path)
    else:
        values, time, columns = read_hdf_frame(path)
    if time is None:
        time = _regular_time(start, len(values))
    elif start is not None:
        raise ValueError(
            f"start must be None: {path} has time stamps, from {time[0]} on."
        )
    return series_of_readings(
        path,
        values,
        time,
        columns,
        adjacency=None if adjacency is None else read_adjacency(adjacency, columns),
        name=path.stem,
    )


def load_dataset(
    name: str,
    data: str | Path | None = None,
    adjacency: str | Path | None = None,
    start: str | pd.Timestamp | None = None,
) -> TrafficSeries:
    """Load a data set by its name, or from the file that the name is the path of.

    Args:
        name: ``"metr-la"``, ``"pems-bay"``, or the path of a file, see `load_file`.
        data: For the first two, the folder with their files (or the ``.h5`` file).
        adjacency: File of the sensor graph, see `read_adjacency`; by default the one
            beside the ``.h5`` file of the first two, none for a file.
        start: Time of the first row of a file without time stamps.

    Returns:
        The series.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If ``name`` is neither, an argument is missing or has no use, or a
            file is refused.
    """
    for benchmark in (METR_LA, PEMS_BAY):
        if name != benchmark.name:
            continue
        if data is None:
            raise ValueError(
                f"data must name the folder with {benchmark.readings}, got None."
            )
        if start is not None:
            raise ValueError(
                f"start must be None: {benchmark.readings} has time stamps."
            )
        return load_benchmark(data, benchmark, adjacency)
    if Path(name).suffix.lower() not in _KINDS:
        raise ValueError(
            f"name must be {METR_LA.name!r}, {PEMS_BAY.name!r} or a file ending in one "
            f"of {_KINDS}, got {name!r}."
        )
    if data is not None:
        raise ValueError(
            f"data must be None: {name} is the file itself, got {str(data)!r}."
        )
    return load_file(name, adjacency, start)


def _read_speeds(path: Path) -> Float64[np.ndarray, "T N"]:
    """The speeds of an ``.npz`` file."""
    array = read_npz(path, "data")
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(
            f"{path}: data must be of shape (T, N) or (T, N, F), at least 1 of each, "
            f"got {array.shape}."
        )
    speeds = array if array.ndim == 2 else array[:, :, 0]
    return np.ascontiguousarray(speeds, dtype=np.float64)


def _regular_time(start: str | pd.Timestamp | None, steps: int) -> pd.DatetimeIndex:
    """Time stamps every 5 minutes."""
    try:
        first = _START if start is None else pd.Timestamp(start)
        time = pd.date_range(first, periods=steps, freq=_STEP)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"start must be a date, got {start!r}: {error}.") from error
    return time
