"""From finished parts to tables, pictures and what is printed."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.markdown import markdown_table
from analysis.network._bounds import BOUNDS
from analysis.network._parts import Part
from analysis.variants import COLUMNS, describe
from models.runs.console import empty_table
from models.runs.folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from models.train.options import TrainOptions

TABLES = ("influence", "hops", "resistance", "bounds", "estimate", "summary")
PICTURES = ("influence-by-lag", "influence-by-hop", "bounds-tightness", "depth")
PAGE = "bounds.md"
FILES = (
    *(f"{name}.csv" for name in TABLES),
    *(f"{name}.png" for name in PICTURES),
    PAGE,
)


_ROAD = {
    "hops": "hops_rank_correlation",
    "resistance": "resistance_rank_correlation",
    "commute time": "commute_time_rank_correlation",
}
_NUMBERS = (
    *("exact_median", "bound_median"),
    *("ratio_median", "ratio_05", "ratio_95"),
)
_COLUMNS = (
    *("exact", "bound", "exact / bound", "5 %", "95 %"),
    *("holds in", "rank corr."),
)


def collect(
    runs: "Sequence[TrainOptions]", parts: Sequence[dict[int, Part]]
) -> dict[str, pd.DataFrame]:
    """The tables of all runs, with columns that say whose a row is."""
    found: dict[str, list[pd.DataFrame]] = {}
    for words, of_run in zip(describe(runs), parts, strict=True):
        for seed, part in of_run.items():
            own = words | {"seed": seed}
            for name, table in part.tables.items():
                front = {column: [own[column]] * len(table) for column in COLUMNS}
                rows = pd.concat([pd.DataFrame(front), table], axis=1)
                found.setdefault(name, []).append(rows)
    return {
        name: pd.concat(found[name], ignore_index=True)
        for name in TABLES
        if name in found
    }


def write(folder: RunFolder, tables: dict[str, pd.DataFrame]) -> None:
    """Write tables and pictures."""
    from analysis.plots import network as plots

    for name, table in tables.items():
        folder.write(f"{name}.csv", table.to_csv(index=False))
    figures = {"influence-by-lag": plots.influence_by_lag(tables["influence"])}
    if "hops" in tables:
        figures["influence-by-hop"] = plots.influence_by_hop(
            tables["hops"], tables.get("resistance")
        )
    if "bounds" in tables:
        folder.write(PAGE, bounds_page(tables["bounds"]))
        figures["bounds-tightness"] = plots.bounds_tightness(tables["bounds"])
    if tables["summary"]["layers"].nunique() > 1:
        figures["depth"] = plots.depth(tables["summary"])
    for name, figure in figures.items():
        folder.write_figure(name, figure)


def show(console: "Console", tables: dict[str, pd.DataFrame]) -> None:
    """Print the summary, a row per run label, and how tight its bounds are."""
    summary = tables["summary"]
    console.print(_summary_table(summary), soft_wrap=False)
    if _ROAD["hops"] in summary:
        console.print(_road_table(summary), soft_wrap=False)
    if "bounds" in tables:
        console.print(_bounds_table(tables["bounds"]), soft_wrap=False)
        for line in remarks(tables["bounds"]):
            console.print(line)


def remarks(bounds: pd.DataFrame) -> list[str]:
    """What to say of forecasters in which rounding leaves nothing to compare."""
    silent: Any = bounds[bounds["pairs_above_rounding"] == 0]
    return [
        f"{label}, seeds {', '.join(map(str, dict.fromkeys(rows['seed'])))}: no pair "
        "is above rounding, so nothing is said of bounds there"
        for label, rows in silent.groupby("label", sort=False)
    ]


def _summary_table(summary: pd.DataFrame) -> "Table":
    exact = "own_node_share" in summary
    what, power = ("Influence", "") if exact else ("Squared influence", "squared_")
    names = ["seeds", "newest quarter", "oldest quarter", "mean lag"]
    names += ["own node", "largest on another"] if exact else []
    title = f"{what}: means over seeds and windows"
    shown = empty_table(title, ["run"], names, wraps=["run"])
    by_label: Any = summary.groupby("label", sort=False)
    for label, rows in by_label:
        cells = [str(label), str(len(rows))]
        for name in ("newest_quarter", "oldest_quarter"):
            cells.append(f"{100 * rows[power + name].mean():.1f} %")
        cells.append(f"{rows[power + 'mean_lag'].mean():.2f} steps")
        if exact:
            cells.append(f"{100 * rows['own_node_share'].mean():.1f} %")
            cells.append(f"{rows['largest_between_nodes'].max():.3g}")
        shown.add_row(*cells)
    return shown


def _road_table(summary: pd.DataFrame) -> "Table":
    """How influence between nodes goes with their distance in the road graph."""
    names = [*_ROAD, "pairs", "without a path"]
    title = "Rank correlation of influence with distance (none: all pairs alike): means"
    shown = empty_table(title, ["run"], names, wraps=["run"])
    by_label: Any = summary.dropna(subset=["pairs_with_path"]).groupby(
        "label", sort=False
    )
    for label, rows in by_label:
        cells = [_correlation(rows[column].mean()) for column in _ROAD.values()]
        counts = (rows[f"pairs_{which}_path"].iloc[0] for which in ("with", "without"))
        shown.add_row(str(label), *cells, *(f"{count:.0f}" for count in counts))
    return shown


def _bounds_table(bounds: pd.DataFrame) -> "Table":
    """Of each bound its row in the table of bounds."""
    title = "Exact norms and their bounds: means over seeds"
    shown, last = empty_table(title, ["run", "bound"], _COLUMNS, wraps=["run"]), None
    for label, name, cells in _rows_of(bounds):
        shown.add_row("" if label == last else label, name, *cells)
        last = label
    return shown


def _rows_of(bounds: pd.DataFrame) -> Iterator[tuple[str, str, list[str]]]:
    """Run, bound, and the cells of `_COLUMNS`: means over seeds that have a value."""
    by_bound: Any = bounds.groupby(["label", "bound"], sort=False)
    for (label, name), rows in by_bound:
        cells = ["none"] * len(_COLUMNS)
        if (rows["pairs_above_rounding"] > 0).any():
            cells = [f"{rows[column].mean():.1e}" for column in _NUMBERS]
            share = 100 * rows["holds_share"].mean()
            cells.append("all pairs" if share == 100 else f"{share:.3f} %")
            cells.append(_correlation(rows["rank_correlation"].mean()))
        yield (
            str(label),
            name if rows["is_bound"].all() else f"{name} (no bound)",
            cells,
        )


def _correlation(value: float) -> str:
    return "none" if np.isnan(value) else f"{value:.2f}"


def bounds_page(bounds: pd.DataFrame) -> str:
    """Every bound beside the exact norm, what it is and where it comes from."""
    rows = ([label, name, *cells] for label, name, cells in _rows_of(bounds))
    about = [BOUNDS[name] for name in BOUNDS if name in {*bounds["bound"]}]
    said = ([each.name, each.meaning, each.holds_for, each.source] for each in about)
    lines = [
        "# Bounds on influence through whole forecasters",
        "",
        "Exact: the norm of d output / d input of a pair, both z-scored speeds. Means "
        "over seeds, over the pairs whose exact norm is above rounding. A bound holds "
        "where exact <= bound up to rounding. Rank correlation: Spearman's, of bound "
        "and exact norm over the pairs of a window, mean over windows; it says which "
        "bound predicts influence, even where it is loose. *none*: no pair is above "
        "rounding, or a bound ranks all alike.",
        "",
        *markdown_table(["run", "bound", *_COLUMNS], rows),
        "",
        *markdown_table(["bound", "what it is", "holds for", "source"], said),
    ]
    return "\n".join(lines) + "\n"
