"""How results read as a table: its columns, its lines, and every cell in words."""

from collections.abc import Sequence
from math import isnan, nan
from typing import Any, NamedTuple

from analysis.tables._results import Results
from analysis.variants import PAPER_ROWS
from models.errors import MEAN, Metrics

_DECIMALS = 3


class Column(NamedTuple):
    """One column of numbers."""

    metric: str  # "MAE"
    step: str  # "3", or "mean 1-12"


class Cell(NamedTuple):
    """What a row says in a column; empty where it says nothing."""

    value: str  # "2.966 ± 0.022"
    best: bool  # no trained variant of the column is better as shown
    difference: str  # paired, to (b): "-0.010"
    interval: str  # its 95 %: "[-0.031, +0.011]"


class Row(NamedTuple):
    """A trained variant or a baseline."""

    label: str
    seeds: str  # their number; empty for a baseline
    minus: str  # "minus (b)"; empty where no difference is shown
    paired_seeds: str
    cells: tuple[Cell, ...]  # one per column


class ResultTable(NamedTuple):
    """A table, ready to be written in any format."""

    title: str
    columns: tuple[Column, ...]  # metric by metric
    variants: tuple[Row, ...]
    baselines: tuple[Row, ...]
    notes: tuple[str, ...]  # sentences to stand below


def default_horizons(H: int) -> tuple[int, ...]:
    """The steps that the paper shows of 12 and 36, else a quarter, half and all."""
    return (24, 36) if H == 36 else tuple(sorted({max(1, H // 4), max(1, H // 2), H}))


def lay_out(
    results: Results, title: str, horizons: Sequence[str], notes: Sequence[str]
) -> ResultTable:
    """Choose columns, order rows, mark the best; horizons are steps, and ``"mean"``."""
    H = results.runs[0].arguments["horizon"]
    said = [f"mean 1-{H}" if horizon == MEAN else horizon for horizon in horizons]
    keys = [(metric, horizon) for metric in Metrics._fields for horizon in horizons]
    columns = [Column(m.upper(), step) for m in Metrics._fields for step in said]
    found: dict[str, dict[tuple[str, str], dict[Any, Any]]] = {}
    for entry in results.rows.to_dict("records"):
        key = (str(entry["metric"]), str(entry["horizon"]))
        found.setdefault(str(entry["variant"]), {})[key] = dict(entry)
    trained = [*results.seeds] if len(results.seeds) > 1 else []

    def lowest(key: tuple[str, str]) -> float:
        means = [round(found[label][key]["mean"], _DECIMALS) for label in trained]
        return min((mean for mean in means if not isnan(mean)), default=nan)

    def cell(label: str, key: tuple[str, str]) -> Cell:
        here = found[label][key]
        mean, std, difference, low, high = (
            here[name] for name in ("mean", "std", "difference", "low", "high")
        )
        return Cell(
            value=_number(mean) + ("" if isnan(std) else f" ± {_number(std)}"),
            best=label in trained and round(mean, _DECIMALS) == lowest(key),
            difference=_number(difference, "+"),
            interval=""
            if isnan(low)
            else f"[{_number(low, '+')}, {_number(high, '+')}]",
        )

    def row(label: str) -> Row:
        first = found[label][keys[0]]
        minus, paired = f"minus {_short(first['reference'])}", first["paired_seeds"]
        return Row(
            label=label,
            seeds=str(first["seeds"] or ""),
            minus=minus if paired > 1 else "",  # one seed has nothing but its mean
            paired_seeds=str(paired),
            cells=tuple(cell(label, key) for key in keys),
        )

    return ResultTable(
        title=title,
        columns=tuple(columns),
        variants=tuple(row(label) for label in results.seeds),
        baselines=tuple(row(label) for label in found if label not in results.seeds),
        notes=tuple(notes),
    )


def _short(label: str) -> str:
    """Only the letter of a label that is nothing more than the paper's."""
    return label[:3] if label == PAPER_ROWS[True, "none"] else label


def _number(x: float, sign: str = "") -> str:
    """As tables show it: 2.966, +0.020, never -0.000, n/a where there is none."""
    return "n/a" if isnan(x) else f"{round(x, _DECIMALS) + 0.0:{sign}.{_DECIMALS}f}"
