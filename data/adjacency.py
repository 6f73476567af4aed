"""The weights of a sensor graph, from a pickle, an ``.npy`` or a ``.csv`` file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from data.adjacency_csv import read_csv_graph
from data.numpy_file import read_npy
from data.readings import check_file
from data.safe_pickle import PickledArray, load_plain_pickle
from data.sensor_graph import SensorGraph


def read_adjacency(
    path: str | Path, sensors: Sequence[str]
) -> Float64[np.ndarray, "N N"]:
    r"""Read the adjacency of N sensors, in their order; a file is untrusted input.

    ===========  ===================================================================
    ``.pkl``     DCRNN's list of sensor ids, id-to-index dict and adjacency
    ``.npy``     a square array, its rows and columns in the order of the series
    ``.csv``     a square table, with ids in the first row or the first column, or in
                 both, or in neither (then in the order of the series); or an edge list
                 with the columns ``from``, ``to`` and ``weight``: entry [from, to],
                 and 0 where there is no edge
    ===========  ===================================================================

    Args:
        path: The file.
        sensors: Ids of the N sensors of the series.

    Returns:
        Weights, shape (N, N), finite and not negative.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is of another kind, damaged, asks to run anything, or is
            of other sensors; the message names it.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "edges.csv")
        ...     _ = path.write_text("from,to,weight\na,b,0.5\n")
        ...     read_adjacency(path, ["a", "b"]).tolist()
        [[0.0, 0.5], [0.0, 0.0]]

    References:
        Li et al., `Diffusion convolutional recurrent neural network
        <https://arxiv.org/abs/1707.01926>`_, ICLR 2018 (the pickle).
    """
    path = Path(path)
    check_file(path, "adjacency")
    kind = path.suffix.lower()
    if kind in (".pkl", ".pickle"):
        content = load_plain_pickle(path)
    elif kind == ".npy":
        content = SensorGraph(sensors, read_npy(path))
    elif kind == ".csv":
        content = read_csv_graph(path, sensors)
    else:
        raise ValueError(
            f"{path}: adjacency must be a .pkl, .npy or .csv file, got {kind!r}."
        )
    try:
        if isinstance(content, SensorGraph):
            return content.in_order_of(sensors)
        return _of_pickle(content, sensors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _of_pickle(content: object, sensors: Sequence[str]) -> np.ndarray:
    """The adjacency of DCRNN's list, in the order of ``sensors``."""
    match content:
        case [list(ids), dict(index), PickledArray(values=np.ndarray() as weights)]:
            pass
        case _:
            raise ValueError(
                "it must hold [sensor_ids, id_to_index, adjacency], a list, a dict and "
                f"an array, got {_describe(content)}."
            )
    for sensor in ids:
        if not isinstance(sensor, str):
            raise ValueError(f"sensor ids must be strings, got {_describe(sensor)}.")
    if weights.dtype.kind != "f":
        raise ValueError(f"adjacency must be floats, got {weights.dtype}.")
    ordered = SensorGraph(ids, weights).in_order_of(sensors)
    if index != {sensor: position for position, sensor in enumerate(ids)}:
        raise ValueError("id_to_index must give each id its place in the list.")
    return ordered


def _describe(content: object) -> str:
    """What a pickle held, in a few words however large it is."""
    if isinstance(content, list):
        return f"a list of {[type(part).__name__ for part in content[:5]]}"
    return f"a {type(content).__name__}"
