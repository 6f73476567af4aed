"""METR-LA as the community passes it around, read as untrusted input.

Both files can carry code. ``metr-la.h5`` is first walked by ``data.safe_hdf``, with
h5py and its attributes only; what passes is read by ``data.fixed_frame``, with
PyTables. ``adj_mx.pkl`` goes through ``data.safe_pickle``, which can build lists,
dicts, strings, numbers and numeric arrays only.
"""

from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import tables

from data.fixed_frame import FixedFrame, read_fixed_frame
from data.safe_hdf import check_hdf
from data.safe_pickle import PickledArray, load_plain_pickle
from data.series import TrafficSeries


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
        folder: Folder with ``metr-la.h5`` (a pandas frame in fixed format under key
            ``df``: one column per sensor id, one row per step) and, optionally,
            ``adj_mx.pkl`` (DCRNN's list of sensor ids, id-to-index dict and adjacency;
            reordered where its sensors come in another order). Or the path of the
            ``.h5`` file itself; the adjacency is then looked for beside it.

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
    path = Path(folder)
    if path.is_dir():
        path = path / "metr-la.h5"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: folder must be a folder with 'metr-la.h5', or the "
            "path of that file."
        )
    frame = _read_speeds(path)
    graph = path.with_name("adj_mx.pkl")
    adjacency = _read_adjacency(graph, frame.columns) if graph.exists() else None
    missing = np.isnan(frame.values) | (frame.values == 0)
    try:
        return TrafficSeries(
            values=np.where(missing, 0.0, frame.values),
            missing=missing,
            time=frame.time,
            sensor_ids=frame.columns,
            adjacency=adjacency,
            name="metr-la",
        )
    except ValueError as error:
        raise ValueError(f"{path} holds no valid series: {error}") from error


def _read_speeds(path: Path) -> FixedFrame:
    """The frame of the ``.h5`` file, which is checked first."""
    try:
        with h5py.File(path, "r") as file:
            check_hdf(file)
        with closing(tables.open_file(str(path), "r")) as file:
            return read_fixed_frame(file, "df")
    except (ValueError, OSError, RuntimeError, KeyError, TypeError) as error:
        message = f"{path} is refused as a METR-LA file: {error}"
        raise ValueError(message) from error


def _read_adjacency(path: Path, sensors: tuple[str, ...]) -> np.ndarray:
    """The adjacency of ``adj_mx.pkl``, in the order of ``sensors``."""
    match load_plain_pickle(path):
        case [list(ids), dict(index), PickledArray(values=np.ndarray() as weights)]:
            pass
        case content:
            raise ValueError(
                f"{path} must hold [sensor_ids, id_to_index, adjacency], a list, a "
                f"dict and an array, got {_describe(content)}."
            )
    for sensor in ids:
        if not isinstance(sensor, str):
            raise ValueError(
                f"{path}: sensor ids must be strings, got {_describe(sensor)}."
            )
    if len(set(ids)) < len(ids):
        raise ValueError(f"{path}: sensor ids must differ, but one occurs twice.")
    if set(ids) != set(sensors):
        raise ValueError(
            f"{path}: the adjacency must be of the sensors of the series; only the "
            f"adjacency has {_some(set(ids) - set(sensors))}, only the series has "
            f"{_some(set(sensors) - set(ids))}."
        )
    if index != {sensor: position for position, sensor in enumerate(ids)}:
        raise ValueError(
            f"{path}: id_to_index must give each id its place in the list."
        )
    if weights.dtype.kind != "f" or weights.shape != (len(ids), len(ids)):
        raise ValueError(
            f"{path}: adjacency must be floats of shape {(len(ids), len(ids))}, got "
            f"{weights.dtype} of shape {weights.shape}."
        )
    weights = weights.astype(np.float64)
    sound = np.isfinite(weights) & (weights >= 0)
    if not sound.all():
        raise ValueError(
            f"{path}: adjacency must be finite and not negative, got "
            f"{weights[~sound][0]}."
        )
    order = [index[sensor] for sensor in sensors]
    return weights[np.ix_(order, order)]


def _describe(content: object) -> str:
    """What a pickle held, in a few words however large it is."""
    if isinstance(content, list):
        return f"a list of {[type(part).__name__ for part in content[:5]]}"
    return f"a {type(content).__name__}"


def _some(ids: set[str]) -> str:
    """A few of the ids, or a word that there are none."""
    if not ids:
        return "none"
    shown = ", ".join(repr(sensor[:40]) for sensor in sorted(ids)[:5])
    return shown if len(ids) <= 5 else f"{shown} and {len(ids) - 5} more"
