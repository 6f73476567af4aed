"""From finished parts to tables, pictures and what is printed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.network._parts import Part
from analysis.variants import COLUMNS, describe
from models.runs.console import empty_table
from models.runs.folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from models.train.options import TrainOptions

TABLES = ("influence", "hops", "bounds", "estimate", "summary")
PICTURES = ("influence-by-lag", "influence-by-hop", "bounds-tightness", "depth")
FILES = (*(f"{name}.csv" for name in TABLES), *(f"{name}.png" for name in PICTURES))


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
        figures["influence-by-hop"] = plots.influence_by_hop(tables["hops"])
    if "bounds" in tables:
        figures["bounds-tightness"] = plots.bounds_tightness(tables["bounds"])
    if tables["summary"]["layers"].nunique() > 1:
        figures["depth"] = plots.depth(tables["summary"])
    for name, figure in figures.items():
        folder.write_figure(name, figure)


def show(console: "Console", tables: dict[str, pd.DataFrame]) -> None:
    """Print the summary, a row per run label, and how tight its bounds are."""
    console.print(_summary_table(tables["summary"]), soft_wrap=False)
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


def _bounds_table(bounds: pd.DataFrame) -> "Table":
    """Of each bound the quantiles of exact / bound, and in how many pairs it holds."""
    numbers = ("median", "5 %", "95 %", "holds in")
    title = "Exact over bound: means over seeds"
    shown, last = empty_table(title, ["run", "bound"], numbers, wraps=["run"]), None
    by_bound: Any = bounds.groupby(["label", "bound"], sort=False)
    for (label, name), rows in by_bound:
        cells = ["none"] * len(numbers)
        if (rows["pairs_above_rounding"] > 0).any():
            means = (rows[f"ratio_{q}"].mean() for q in ("median", "05", "95"))
            share = 100 * rows["holds_share"].mean()
            cells = [f"{mean:.1e}" for mean in means]
            cells.append("all pairs" if share == 100 else f"{share:.3f} %")
            name += "" if rows["is_bound"].all() else " (no bound)"
        shown.add_row("" if label == last else label, name, *cells)
        last = label
    return shown
