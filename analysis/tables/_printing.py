"""A table on a terminal: a block for each metric, since all together do not fit."""

import itertools

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.tables._formats import (
    column_label,
    difference_label,
    interval_text,
    value_text,
)
from analysis.tables._layout import Cell, ResultTable, number, shows_difference


def show(console: Console, table: ResultTable) -> None:
    """Print a table, its title above and its notes below.

    Args:
        console: Where to.
        table: The table.
    """
    console.print(f"\n{table.title}", style="bold", markup=False)
    numbered = enumerate(table.columns)
    for _, columns in itertools.groupby(numbered, lambda pair: pair[1].metric):
        console.print(_block(table, [k for k, _ in columns]))
    for note in table.notes:
        console.print(note, style="dim", markup=False)


def _block(table: ResultTable, columns: list[int]) -> Table:
    """The columns of one metric."""
    shown = Table(box=box.SIMPLE_HEAD)
    shown.add_column("variant", min_width=23)
    shown.add_column("seeds", justify="right", no_wrap=True)
    for k in columns:
        shown.add_column(column_label(table, k), justify="right", no_wrap=True)
    last = len(table.variants) - 1
    for position, row in enumerate(table.variants):
        cells = [row.cells[k] for k in columns]
        values = [
            f"[bold green]{value_text(cell)}[/]" if cell.best else value_text(cell)
            for cell in cells
        ]
        differs = shows_difference(row)
        closing = position == last and bool(table.baselines)
        shown.add_row(
            escape(row.label),
            str(row.seeds),
            *values,
            end_section=closing and not differs,
        )
        if differs:
            shown.add_row(
                f"  {escape(difference_label(row))}",
                str(row.paired_seeds),
                *(escape(_two_lines(cell)) for cell in cells),
                style="dim",
                end_section=closing,
            )
    for row in table.baselines:
        values = [value_text(row.cells[k]) for k in columns]
        shown.add_row(escape(row.label), "", *values)
    return shown


def _two_lines(cell: Cell) -> str:
    """A difference above its interval: three columns and a label fit 80 characters."""
    return f"{number(cell.difference, sign=True)}\n{interval_text(cell)}".rstrip()
