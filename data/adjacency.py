"""The weights of a sensor graph, from a pickle, an ``.npy`` or a ``.csv`` file."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Num

from data._csv_file import CsvRow, check_width, read_csv_numbers, read_csv_rows
from data._numpy_file import read_npy
from data._pickles import PickledArray, read_pickle


def read_adjacency(
    path: str | Path, sensors: Sequence[str]
) -> Float64[np.ndarray, "N N"]:
    r"""Read the adjacency of N sensors, in their order; a file is untrusted input.

    ===========  ===================================================================
    ``.pkl``     DCRNN's list of sensor ids (strings or integers), id-to-index dict and
                 adjacency; or the adjacency alone, in the order of the series
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
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: adjacency must name a file.")
    kind = path.suffix.lower()
    if kind in (".pkl", ".pickle"):
        content = read_pickle(path)
    elif kind == ".npy":
        content = _Graph(sensors, read_npy(path))
    elif kind == ".csv":
        content = _of_csv(path, sensors)
    else:
        raise ValueError(
            f"{path}: adjacency must be a .pkl, .npy or .csv file, got {kind!r}."
        )
    try:
        graph = content if isinstance(content, _Graph) else _of_pickle(content, sensors)
        return graph.in_order_of(sensors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


class _Graph(NamedTuple):
    """Weights from the row's sensor to the column's, as a file has them."""

    ids: Sequence[str]
    weights: Num[np.ndarray, "..."]

    def in_order_of(self, sensors: Sequence[str]) -> Float64[np.ndarray, "N N"]:
        """The weights, all checked, with rows and columns in the order of a series."""
        place = {sensor: position for position, sensor in enumerate(self.ids)}
        if len(place) < len(self.ids):
            raise ValueError("sensor ids must differ, but one occurs twice.")
        if place.keys() != set(sensors):
            raise ValueError(
                "the adjacency must be of the sensors of the series; only the "
                f"adjacency has {_some(place.keys() - set(sensors))}, only the series "
                f"has {_some(set(sensors) - place.keys())}."
            )
        shape = (len(place), len(place))
        if self.weights.shape != shape:
            raise ValueError(
                f"adjacency must be of shape {shape}, got {self.weights.dtype} of "
                f"shape {self.weights.shape}."
            )
        weights = self.weights.astype(np.float64)
        sound = np.isfinite(weights) & (weights >= 0)
        if not sound.all():
            row, column = np.argwhere(~sound)[0]
            raise ValueError(
                f"adjacency must be finite and not negative, got "
                f"{weights[row, column]} from {self.ids[row]!r} to "
                f"{self.ids[column]!r}."
            )
        order = [place[sensor] for sensor in sensors]
        return weights[np.ix_(order, order)]


def _some(ids: set[str]) -> str:
    """A few of the ids, or a word that there are none."""
    if not ids:
        return "none"
    shown = ", ".join(repr(sensor[:40]) for sensor in sorted(ids)[:5])
    return shown if len(ids) <= 5 else f"{shown} and {len(ids) - 5} more"


def _of_pickle(content: object, sensors: Sequence[str]) -> _Graph:
    """DCRNN's list; a bare array is in the order of the series."""
    match content:
        case PickledArray(values=np.ndarray() as weights):
            return _Graph(sensors, _numbers(weights))
        case [list(ids), dict(index), PickledArray(values=np.ndarray() as weights)]:
            pass
        case _:
            raise ValueError(
                "it must hold [sensor_ids, id_to_index, adjacency], a list, a dict and "
                f"an array, or the array alone, got {_describe(content)}."
            )
    names = _names(ids)
    places = dict(zip(_names(index), index.values(), strict=True))
    if places != {name: place for place, name in enumerate(names)}:
        raise ValueError("id_to_index must give each id its place in the list.")
    return _Graph(names, _numbers(weights))


def _names(ids: Iterable[object]) -> list[str]:
    """Sensor ids as text."""
    for sensor in (ids := list(ids)):
        if not isinstance(sensor, str | int) or isinstance(sensor, bool):
            raise ValueError(
                f"sensor ids must be strings or integers, got {_describe(sensor)}."
            )
    return [str(sensor) for sensor in ids]


def _numbers(weights: np.ndarray) -> np.ndarray:
    """The weights, but for true and false."""
    if weights.dtype.kind not in "fiu":
        raise ValueError(f"adjacency must be of numbers, got {weights.dtype}.")
    return weights


def _describe(content: object) -> str:
    """What a pickle held, in a few words however large it is."""
    if isinstance(content, list):
        return f"a list of {[type(part).__name__ for part in content[:5]]}"
    return f"a {type(content).__name__}"


def _of_csv(path: Path, sensors: Sequence[str]) -> _Graph:
    """A square table, or a list of edges if its header has ``from`` and ``to``."""
    try:
        rows = list(read_csv_rows(path))
        if not rows:
            raise ValueError("it must not be empty.")
        for row in rows:
            check_width(row, len(rows[0].cells))
        header = [cell.lower() for cell in rows[0].cells]
        if {"from", "to"} <= set(header):
            return _of_edges(header, rows[1:], sensors)
        return _of_table(rows, sensors)
    except ValueError as error:
        raise ValueError(f"{path} is refused as .csv: {error}") from error


def _of_table(rows: list[CsvRow], sensors: Sequence[str]) -> _Graph:
    """A row more than there are sensors, or a column more, holds ids."""
    nodes, width = len(sensors), len(rows[0].cells)
    above, before = len(rows) - nodes, width - nodes
    if not (above in (0, 1) and before in (0, 1)):
        raise ValueError(
            f"it must be a table of {nodes} rows and columns, one per sensor of the "
            f"series, with or without ids above and before them, got {len(rows)} "
            f"rows and {width} columns."
        )
    columns = rows[0].cells[before:] if above else None
    ids = [row.cells[0] for row in rows[above:]] if before else None
    names = tuple(columns or ids or sensors)
    weights = np.stack(
        [read_csv_numbers(row.line, row.cells[before:], names) for row in rows[above:]]
    )
    if columns is None or ids is None:
        return _Graph(names, weights)
    if sorted(columns) != sorted(ids):
        raise ValueError("the ids of its rows and of its columns must be the same.")
    return _Graph(ids, weights[:, [columns.index(sensor) for sensor in ids]])


def _of_edges(header: list[str], rows: list[CsvRow], sensors: Sequence[str]) -> _Graph:
    """A list of edges; a sensor without any is in the graph all the same."""
    if "weight" not in header:
        raise ValueError(
            f"a list of edges must have a column 'weight', got {header}; a distance or "
            "a cost must be made a weight first, for instance by a Gaussian kernel."
        )
    origin, goal, weight = (header.index(name) for name in ("from", "to", "weight"))
    edges: dict[tuple[str, str], float] = {}
    for row in rows:
        edge = (row.cells[origin], row.cells[goal])
        if edge in edges:
            raise ValueError(f"line {row.line} repeats the edge {edge}.")
        [edges[edge]] = read_csv_numbers(row.line, [row.cells[weight]], ("weight",))
    named = dict.fromkeys([*sensors, *(sensor for edge in edges for sensor in edge)])
    place = {sensor: position for position, sensor in enumerate(named)}
    if len(place) > len(sensors):  # of other sensors: nothing worth filling in
        return _Graph(list(place), np.zeros(0))
    weights = np.zeros((len(place), len(place)))
    for (start, end), value in edges.items():
        weights[place[start], place[end]] = value
    return _Graph(list(place), weights)
