"""A sensor graph in a ``.csv`` file: a square table, or a list of edges."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.csv_file import CsvRow, read_csv_numbers, read_csv_rows
from data.sensor_graph import SensorGraph


def read_csv_graph(path: Path, sensors: Sequence[str]) -> SensorGraph:
    """Read a square table of weights, or a list of edges.

    A table has N rows and columns of weights; one row more, and the first holds ids;
    one column more, and it is the first column that does. An edge list is known by its
    header, which has ``from`` and ``to``.

    Args:
        path: The file.
        sensors: Ids of the N sensors of the series.

    Returns:
        The graph.

    Raises:
        ValueError: If the file is neither, or not text, or a cell is no number; the
            message names the file and the place.
    """
    try:
        rows = list(read_csv_rows(path))
        if not rows:
            raise ValueError("it must not be empty.")
        header = [cell.lower() for cell in rows[0].cells]
        if {"from", "to"} <= set(header):
            return _of_edges(header, rows[1:], sensors)
        return _of_table(rows, sensors)
    except ValueError as error:
        raise ValueError(f"{path} is refused as .csv: {error}") from error


def _of_table(rows: list[CsvRow], sensors: Sequence[str]) -> SensorGraph:
    """The graph of a square table, its columns in the order of its rows."""
    nodes, width = len(sensors), len(rows[0].cells)
    for row in rows:
        if len(row.cells) != width:
            raise ValueError(
                f"line {row.line} must have {width} cells like the first row, got "
                f"{len(row.cells)}."
            )
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
        return SensorGraph(names, weights)
    if sorted(columns) != sorted(ids):
        raise ValueError("the ids of its rows and of its columns must be the same.")
    return SensorGraph(ids, weights[:, [columns.index(sensor) for sensor in ids]])


def _of_edges(
    header: list[str], rows: list[CsvRow], sensors: Sequence[str]
) -> SensorGraph:
    """The graph of a list of edges; a sensor without any is in it all the same."""
    if "weight" not in header:
        raise ValueError(
            f"a list of edges must have a column 'weight', got {header}; a distance or "
            "a cost must be made a weight first, for instance by a Gaussian kernel."
        )
    origin, goal, weight = (header.index(name) for name in ("from", "to", "weight"))
    edges: dict[tuple[str, str], float] = {}
    for row in rows:
        if len(row.cells) != len(header):
            raise ValueError(
                f"line {row.line} must have the {len(header)} cells of the header, "
                f"got {len(row.cells)}."
            )
        edge = (row.cells[origin], row.cells[goal])
        if edge in edges:
            raise ValueError(f"line {row.line} repeats the edge {edge}.")
        [edges[edge]] = read_csv_numbers(row.line, [row.cells[weight]], ("weight",))
    named = dict.fromkeys([*sensors, *(sensor for edge in edges for sensor in edge)])
    place = {sensor: position for position, sensor in enumerate(named)}
    if len(place) > len(sensors):  # of other sensors: nothing worth filling in
        return SensorGraph(list(place), np.zeros(0))
    weights = np.zeros((len(place), len(place)))
    for (start, end), value in edges.items():
        weights[place[start], place[end]] = value
    return SensorGraph(list(place), weights)
