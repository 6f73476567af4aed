"""How results read as a table: its columns, its lines, and what is said below it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis.tables._results import Results
from analysis.variants import PAPER_ROWS
from models.errors import MEAN, Metrics

DECIMALS = 3


class Column(NamedTuple):
    """One column of numbers.

    Attributes:
        metric: ``"mae"``, ``"rmse"`` or ``"mape"``.
        horizon: The step, or ``"mean"`` over all steps.
    """

    metric: str
    horizon: str


class Cell(NamedTuple):
    """What a row says in a column; what it cannot say is NaN.

    Attributes:
        mean: Over seeds.
        std: Sample standard deviation over seeds.
        best: Whether no trained variant of the column is better as shown.
        difference: Paired difference to the reference; shown from two seeds up.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    mean: float
    std: float
    best: bool
    difference: float
    low: float
    high: float


class Row(NamedTuple):
    """One row.

    Attributes:
        label: Its name.
        seeds: Number of seeds; 0 for a baseline.
        reference: Letter or label of what it is compared with; empty if nothing.
        paired_seeds: Number of seeds that both have.
        cells: One per column.
    """

    label: str
    seeds: int
    reference: str
    paired_seeds: int
    cells: tuple[Cell, ...]


class ResultTable(NamedTuple):
    """A table, ready to be written in any format.

    Attributes:
        title: One line.
        H: Number of steps that are forecast.
        columns: The columns of numbers, metric by metric.
        variants: Trained variants.
        baselines: Rows under the line.
        notes: Sentences to stand below.
    """

    title: str
    H: int
    columns: tuple[Column, ...]
    variants: tuple[Row, ...]
    baselines: tuple[Row, ...]
    notes: tuple[str, ...]


def default_horizons(H: int) -> tuple[int, ...]:
    """The steps that the paper shows of 12 and 36, else a quarter, half and all.

    Args:
        H: Number of steps of the horizon.

    Returns:
        Steps, counted from 1.

    Example:
        >>> default_horizons(12), default_horizons(36), default_horizons(2)
        ((3, 6, 12), (24, 36), (1, 2))
    """
    if H == 36:
        return (24, 36)
    return tuple(sorted({max(1, H // 4), max(1, H // 2), H}))


def lay_out(
    results: Results, title: str, horizons: Sequence[str], notes: Sequence[str]
) -> ResultTable:
    """Choose columns, order rows, mark the best.

    Args:
        results: What the table shows.
        title: Its title.
        horizons: Steps, and ``"mean"`` where the mean over steps is wanted.
        notes: Sentences to stand below.

    Returns:
        The table.
    """
    columns = tuple(Column(m, h) for m in Metrics._fields for h in horizons)
    found = {
        (str(row["variant"]), str(row["metric"]), str(row["horizon"])): row
        for row in results.rows.to_dict("records")
    }
    trained = [label for label in results.seeds if len(results.seeds) > 1]

    def cell(label: str, column: Column) -> Cell:
        here = found[label, *column]
        means = [round(found[name, *column]["mean"], DECIMALS) for name in trained]
        best = min((mean for mean in means if not np.isnan(mean)), default=np.nan)
        return Cell(
            mean=here["mean"],
            std=here["std"],
            best=label in trained and round(here["mean"], DECIMALS) == best,
            difference=here["difference"],
            low=here["low"],
            high=here["high"],
        )

    def row(label: str) -> Row:
        first = found[label, *columns[0]]
        return Row(
            label=label,
            seeds=first["seeds"],
            reference=_short(first["reference"]),
            paired_seeds=first["paired_seeds"],
            cells=tuple(cell(label, column) for column in columns),
        )

    names = dict.fromkeys(label for label, *_ in found)
    return ResultTable(
        title=title,
        H=results.runs[0].arguments["horizon"],
        columns=columns,
        variants=tuple(row(name) for name in names if name in results.seeds),
        baselines=tuple(row(name) for name in names if name not in results.seeds),
        notes=tuple(notes),
    )


def _short(label: str) -> str:
    """Only the letter of a label that is nothing more than the paper's."""
    return label[:3] if label == PAPER_ROWS[True, "none"] else label


def shows_difference(row: Row) -> bool:
    """Whether a row's difference is shown: one seed has nothing but the mean."""
    return row.paired_seeds > 1


def horizon_label(horizon: str, H: int) -> str:
    """A step by its number, a mean by its steps.

    Args:
        horizon: The step, or ``"mean"``.
        H: Number of steps.

    Returns:
        The label.

    Example:
        >>> horizon_label("3", 12), horizon_label("mean", 12)
        ('3', 'mean 1-12')
    """
    return f"mean 1-{H}" if horizon == MEAN else horizon


def number(x: float, sign: bool = False) -> str:
    """A number as tables show it, ``n/a`` where there is none.

    Args:
        x: The number.
        sign: Whether a plus is shown.

    Returns:
        The text.

    Example:
        >>> number(2.9664), number(0.02, sign=True), number(float("nan"))
        ('2.966', '+0.020', 'n/a')
    """
    if np.isnan(x):
        return "n/a"
    rounded = round(x, DECIMALS) + 0.0  # no minus before zeros
    return f"{rounded:{'+' if sign else ''}.{DECIMALS}f}"
