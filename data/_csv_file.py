"""Comma-separated files of unknown origin, each fault reported with its line."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float64

from data._pickles import MAX_BYTES

_TIME_COLUMNS = ("", "time", "timestamp", "date", "datetime", "unnamed: 0")
_MISSING = ("", "na", "n/a", "null", "none")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_FRACTION = re.compile(r"[+-]?\d*\.\d+")


class CsvRow(NamedTuple):
    """One row of a file."""

    line: int  # from 1
    cells: list[str]  # without the blanks around them


class CsvTable(NamedTuple):
    """Readings with a column per sensor."""

    values: Float64[np.ndarray, "T N"]  # NaN where a cell is empty
    time: pd.DatetimeIndex | None  # None if the file has none
    columns: tuple[str, ...]


def read_csv_rows(path: Path) -> Iterator[CsvRow]:
    """The rows but for empty ones at the end; a ValueError does not name the file."""
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
    """Readings below a header; a ValueError names the file, the line and the column."""
    try:
        rows = read_csv_rows(path)
        header = next(rows, CsvRow(1, [])).cells
        timed = bool(header) and header[0].lower() in _TIME_COLUMNS
        columns = tuple(header[timed:])
        _check_header(columns)
        values, stamps = [], []
        for row in rows:
            check_width(row, len(header))
            values.append(read_csv_numbers(row.line, row.cells[timed:], columns))
            stamps.append(CsvRow(row.line, row.cells[:timed]))
        if not values:
            raise ValueError("it must have a line of readings below the header.")
        time = _read_dates(stamps) if timed else None
        return CsvTable(np.stack(values), time, columns)
    except ValueError as error:
        raise ValueError(f"{path} is refused as .csv: {error}") from error


def check_width(row: CsvRow, width: int) -> None:
    """Refuse a row that has more or fewer cells than the first one."""
    if len(row.cells) != width:
        raise ValueError(
            f"line {row.line} must have the {width} cells of the first row, got "
            f"{len(row.cells)}."
        )


def read_csv_numbers(
    line: int, cells: list[str], columns: tuple[str, ...]
) -> Float64[np.ndarray, " N"]:
    """The numbers in some cells of a row; NaN where a cell is empty."""
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
