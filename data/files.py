"""Any file of traffic readings as a series, and the field's data sets by name.

Each file is untrusted input: none can run anything (`data._pickles`, `data._hdf`).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float64

from data._csv_file import read_csv_table
from data._hdf import read_hdf_frame
from data._numpy_file import read_npz
from data.adjacency import read_adjacency
from data.series import TrafficSeries

_KINDS = (".h5", ".hdf5", ".npz", ".csv")
_START = pd.Timestamp("2024-01-01")  # a Monday, so that row 0 is slot 0 of the week
_STEP = pd.Timedelta(minutes=5)


class _Benchmark(NamedTuple):
    """What the files of a data set are called as the community passes them around."""

    name: str
    readings: str
    graph: str


_METR_LA = _Benchmark("metr-la", "metr-la.h5", "adj_mx.pkl")
_PEMS_BAY = _Benchmark("pems-bay", "pems-bay.h5", "adj_mx_bay.pkl")


def load_metr_la(folder: str | Path) -> TrafficSeries:
    """Load METR-LA: speeds on the highways of Los Angeles County, from loop detectors.

    ============  ==================================================================
    Steps T       34,272, from 2012-03-01 00:00 to 2012-06-27 23:55, local time
    Nodes N       207 sensors; 1,722 non-zeros in the adjacency, self-loops included
    Rate          one reading per 5 minutes, mph
    Missing       stored as 0 (or NaN), about 8 % of the readings
    Adjacency     Gaussian kernel of road distance, thresholded; not symmetric
    Paper         Li et al. 2018 (the graph and the benchmark); Jagadish et al. 2014
                  (the readings)
    ============  ==================================================================

    A file with fewer sensors or steps in the same layout loads just as well.

    Args:
        folder: Folder with ``metr-la.h5``, in capitals or not (a pandas frame in fixed
            format under key ``df``: one column per sensor id, one row per step) and,
            optionally, ``adj_mx.pkl`` (see `read_adjacency`; reordered where its
            sensors come in another order). Or the path of the ``.h5`` file itself; the
            adjacency is then looked for beside it.

    Returns:
        The series. Missing readings are 0 in ``values``, never NaN.

    Raises:
        FileNotFoundError: If there is no ``.h5`` file.
        ValueError: If a file is truncated, of another layout, asks to run anything, or
            the adjacency is of other sensors; the message names the file.

    References:
        Li, Yu, Shahabi, Liu, `Diffusion convolutional recurrent neural network
        <https://arxiv.org/abs/1707.01926>`_, ICLR 2018. Jagadish et al., `Big data and
        its technical challenges <https://doi.org/10.1145/2611567>`_, Communications of
        the ACM, 2014.
    """
    return _load_benchmark(folder, _METR_LA)


def load_pems_bay(folder: str | Path) -> TrafficSeries:
    """Load PEMS-BAY: speeds on the highways of the San Francisco Bay Area.

    ============  ==================================================================
    Steps T       52,116, from 2017-01-01 00:00 to 2017-06-30 23:55, local time: 181
                  days of 288 steps, less the 12 of the hour that summer time skips
    Nodes N       325 sensors of Caltrans' performance measurement system
    Rate          one reading per 5 minutes, mph
    Missing       stored as 0 (or NaN); almost nothing
    Adjacency     Gaussian kernel of road distance, thresholded; not symmetric
    Paper         Li et al. 2018
    ============  ==================================================================

    A file with fewer sensors or steps in the same layout loads just as well. Nothing
    stands in for the hour skipped: the windows that reach across it hold 12 steps as
    any other, but span an hour more.

    Args:
        folder: Folder with ``pems-bay.h5``, in capitals or not (a pandas frame in fixed
            format under key ``speed``: one column per sensor id, one row per step)
            and, optionally, ``adj_mx_bay.pkl`` (see `read_adjacency`). Or the path of
            the ``.h5`` file itself; the adjacency is then looked for beside it.

    Returns:
        The series, sensor ids as strings. Missing readings are 0 in ``values``, never
        NaN.

    Raises:
        FileNotFoundError: If there is no ``.h5`` file.
        ValueError: If a file is truncated, of another layout, asks to run anything, or
            the adjacency is of other sensors; the message names the file.

    References:
        Li, Yu, Shahabi, Liu, `Diffusion convolutional recurrent neural network
        <https://arxiv.org/abs/1707.01926>`_, ICLR 2018.
    """
    return _load_benchmark(folder, _PEMS_BAY)


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
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: path must name a file.")
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
    return _series(
        path,
        values,
        time,
        columns,
        None if adjacency is None else read_adjacency(adjacency, columns),
        path.stem,
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
    for benchmark in (_METR_LA, _PEMS_BAY):
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
        return _load_benchmark(data, benchmark, adjacency)
    if Path(name).suffix.lower() not in _KINDS:
        raise ValueError(
            f"name must be {_METR_LA.name!r}, {_PEMS_BAY.name!r} or a file ending in "
            f"one of {_KINDS}, got {name!r}."
        )
    if data is not None:
        raise ValueError(
            f"data must be None: {name} is the file itself, got {str(data)!r}."
        )
    return load_file(name, adjacency, start)


def _load_benchmark(
    folder: str | Path, benchmark: _Benchmark, adjacency: str | Path | None = None
) -> TrafficSeries:
    """The series in a folder, or in the ``.h5`` file, and the graph beside it."""
    path = Path(folder)
    if path.is_dir():
        path = _in_any_case(path, benchmark.readings)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: folder must be a folder with "
            f"{benchmark.readings!r}, or the path of that file."
        )
    values, time, columns = read_hdf_frame(path)
    if adjacency is None:
        beside = _in_any_case(path.parent, benchmark.graph)
        adjacency = beside if beside.exists() else None
    weights = None if adjacency is None else read_adjacency(adjacency, columns)
    return _series(path, values, time, columns, weights, benchmark.name)


def _in_any_case(folder: Path, name: str) -> Path:
    """The file of that name, or else the one that is called so in other cases."""
    if (exact := folder / name).exists():
        return exact
    found = sorted(path.name for path in folder.iterdir() if path.name.lower() == name)
    if len(found) > 1:
        raise ValueError(f"{folder} must have one file called {name}, got {found}.")
    return folder / found[0] if found else exact


def _series(
    path: Path,
    values: Float64[np.ndarray, "T N"],
    time: pd.DatetimeIndex,
    sensor_ids: tuple[str, ...],
    adjacency: Float64[np.ndarray, "N N"] | None,
    name: str,
) -> TrafficSeries:
    """What a file holds as a series; 0 and NaN are missing, and stored as 0."""
    missing = np.isnan(values) | (values == 0)
    try:
        series = TrafficSeries(
            values=np.where(missing, 0.0, values),
            missing=missing,
            time=time,
            sensor_ids=sensor_ids,
            adjacency=adjacency,
            name=name,
        )
        if (values < 0).any():
            step, sensor = np.argwhere(values < 0)[0]
            raise ValueError(
                f"speeds must not be negative, got {values[step, sensor]} at step "
                f"{step} of sensor {sensor_ids[sensor]!r}; a missing one is 0 or NaN."
            )
        return series
    except ValueError as error:
        raise ValueError(f"{path} holds no valid series: {error}") from error


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
