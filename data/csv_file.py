"""Comma-separated files of unknown origin, each fault reported with its line."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float64

from data.safe_pickle import MAX_BYTES

_TIME_COLUMNS = ("", "time", "timestamp", "date", "datetime", "unnamed: 0")
_MISSING = ("", "na", "n/a", "null", "none")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_FRACTION = re.compile(r"[+-]?\d*\.\d+")


class CsvRow(NamedTuple):
    """One row of a file.

    Attributes:
        line: Number of the line, from 1.
        cells: Its cells, without the blanks around them.
    """

    line: int
    cells: list[str]


class CsvTable(NamedTuple):
    """Readings with a column per sensor.

    Attributes:
        values: Readings, shape (T, N); NaN where a cell is empty.
        time: Time stamps of the T steps, or None if the file has none.
        columns: Names of the N sensors.
    """

    values: Float64[np.ndarray, "T N"]
    time: pd.DatetimeIndex | None
    columns: tuple[str, ...]


def read_csv_rows(path: Path) -> Iterator[CsvRow]:
    """Read a comma-separated file, row by row.

    Args:
        path: The file, in UTF-8.

    Yields:
        Its rows; empty lines at the end are left out.

    Raises:
        ValueError: If the file is too large, not text, or its quotes are wrong. The
            message does not name the file.
    """
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"it must have at most {MAX_BYTES} bytes, got {size}.")
    empty: list[CsvRow] = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        try:
            for cells in reader:
                row = CsvRow(reader.line_num, [cell.strip() for cell in cells])
                if not cells:
                    empty.append(row)
                    continue
                yield from empty
                empty.clear()
                yield row
        except csv.Error as error:
            raise ValueError(f"line {reader.line_num}: {error}.") from error


def read_csv_table(path: Path) -> CsvTable:
    """Read a file with a header and one column of readings per sensor.

    Args:
        path: The file. Its first column holds the time (ISO 8601) if it has no name or
            is named ``time``, ``timestamp``, ``date``, ``datetime`` or ``Unnamed: 0``.
            An empty cell, or NaN, NA or null in one, is a missing reading.

    Returns:
        The readings.

    Raises:
        ValueError: If the file is empty or not text, a row has more or fewer cells than
            the header, or a cell is no number, or no date; the message names the file,
            the line and the column.
    """
    try:
        rows = read_csv_rows(path)
        header = next(rows, CsvRow(1, [])).cells
        timed = bool(header) and header[0].lower() in _TIME_COLUMNS
        columns = tuple(header[timed:])
        _check_header(columns)
        values, stamps = [], []
        for row in rows:
            if len(row.cells) != len(header):
                raise ValueError(
                    f"line {row.line} must have the {len(header)} cells of the header, "
                    f"got {len(row.cells)}."
                )
            values.append(read_csv_numbers(row.line, row.cells[timed:], columns))
            stamps.append(CsvRow(row.line, row.cells[:timed]))
        if not values:
            raise ValueError("it must have a line of readings below the header.")
        return CsvTable(
            np.stack(values), _read_dates(stamps) if timed else None, columns
        )
    except ValueError as error:
        raise ValueError(f"{path} is refused as .csv: {error}") from error


def read_csv_numbers(
    line: int, cells: list[str], columns: tuple[str, ...]
) -> Float64[np.ndarray, " N"]:
    """The numbers in some cells of a row; NaN where a cell is empty.

    Args:
        line: Number of the line, for the message.
        cells: The cells.
        columns: Names of their columns, for the message.

    Returns:
        The numbers.

    Raises:
        ValueError: If a cell holds text, naming its line and column.
    """
    numbers = np.empty(len(cells))
    for position, cell in enumerate(cells):
        try:
            numbers[position] = float(cell)
            text = "_" in cell  # which Python takes for a number in 1_000
        except ValueError:
            numbers[position] = np.nan
            text = cell.lower() not in _MISSING
        if text:
            raise ValueError(
                f"line {line}, column {columns[position]!r}: {cell[:40]!r} is no "
                "number."
            )
    return numbers


def _check_header(columns: tuple[str, ...]) -> None:
    if not columns:
        raise ValueError("line 1 must name at least one sensor.")
    for position, name in enumerate(columns):
        if not name or _FRACTION.fullmatch(name):
            raise ValueError(
                f"line 1 must name the sensors, but sensor {position} is {name!r}."
            )


def _read_dates(rows: list[CsvRow]) -> pd.DatetimeIndex:
    texts = [row.cells[0] for row in rows]
    try:
        dates = pd.to_datetime(texts, format="ISO8601", errors="coerce")
    except ValueError as error:
        raise ValueError(
            "time stamps must all have the same offset from UTC, or none."
        ) from error
    for row, text, missing in zip(rows, texts, dates.isna(), strict=True):
        if missing or not _DATE.match(text):
            raise ValueError(
                f"line {row.line} must begin with a time stamp such as "
                f"'2012-03-01 00:05' (ISO 8601), got {text[:40]!r}."
            )
    return dates
