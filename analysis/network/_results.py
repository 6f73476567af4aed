"""From finished parts to tables, pictures and what is printed."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.network._store import Part
from analysis.variants import COLUMNS, describe
from models.runs.whole_files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.table import Table

    from models.train.options import TrainOptions

TABLES = ("influence", "hops", "bounds", "estimate", "summary")
SHOWN_OF = ": means over seeds and windows"
PICTURES = (
    *("influence-by-lag.png", "influence-by-hop.png", "bounds-tightness.png"),
    "depth.png",
)


def collect(
    runs: "Sequence[TrainOptions]", parts: Sequence[dict[int, Part]]
) -> dict[str, pd.DataFrame]:
    """The parts of all runs as tables, with columns that say whose a row is.

    Args:
        runs: The runs.
        parts: For each its parts by seed.

    Returns:
        Tables by name, those of `TABLES` there are.
    """
    found: dict[str, list[pd.DataFrame]] = {}
    for words, of_run in zip(describe(runs), parts, strict=True):
        for seed, part in of_run.items():
            own = words | {"seed": seed}
            for name, table in part.tables.items():
                front = pd.DataFrame(
                    {column: [own[column]] * len(table) for column in COLUMNS}
                )
                found.setdefault(name, []).append(pd.concat([front, table], axis=1))
    return {
        name: pd.concat(found[name], ignore_index=True)
        for name in TABLES
        if name in found
    }


def write(folder: "Path", tables: dict[str, pd.DataFrame]) -> list[str]:
    """Write tables and pictures; those of earlier results that are not made now go.

    Args:
        folder: Where to.
        tables: As of `collect`.

    Returns:
        Names of the files written.
    """
    figures = _figures(tables)
    for name in (*(f"{table}.csv" for table in TABLES), *PICTURES):
        if name.removesuffix(".csv") not in tables and name not in figures:
            (folder / name).unlink(missing_ok=True)
    for name, table in tables.items():
        write_whole(folder / f"{name}.csv", table.to_csv(index=False))
    for name, figure in figures.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
        write_whole(folder / name, buffer.getvalue())
    return [*(f"{name}.csv" for name in tables), *figures]


def _figures(tables: dict[str, pd.DataFrame]) -> "dict[str, Figure]":
    import matplotlib

    matplotlib.use("Agg")
    from analysis import network_plots

    found = {
        "influence-by-lag.png": network_plots.influence_by_lag(tables["influence"])
    }
    if "hops" in tables:
        found["influence-by-hop.png"] = network_plots.influence_by_hop(tables["hops"])
    if "bounds" in tables:
        found["bounds-tightness.png"] = network_plots.bounds_tightness(tables["bounds"])
    if tables["summary"]["layers"].nunique() > 1:
        found["depth.png"] = network_plots.depth(tables["summary"])
    return found


def show(console: "Console", tables: dict[str, pd.DataFrame]) -> None:
    """Print the summary, a row per run label, and how tight its bounds are.

    Args:
        console: Where to.
        tables: As of `collect`.
    """
    from rich import box
    from rich.table import Table

    summary = tables["summary"]
    shown = Table(box=box.SIMPLE_HEAD, title=f"Influence{SHOWN_OF}")
    names = ["seeds", "newest quarter", "oldest quarter", "mean lag"]
    exact = "own_node_share" in summary
    power = "" if exact else "squared_"
    if not exact:
        shown.title = f"Squared influence{SHOWN_OF}"
    names += ["own node", "largest on another"] if exact else []
    shown.add_column("run")
    for name in names:
        shown.add_column(name, justify="right", no_wrap=True)
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
    console.print(shown)
    if "bounds" in tables:
        console.print(_bounds_table(tables["bounds"]))
        for line in remarks(tables["bounds"]):
            console.print(line, soft_wrap=True, markup=False)


def remarks(bounds: pd.DataFrame) -> list[str]:
    """What to say of forecasters in which rounding leaves nothing to compare.

    Args:
        bounds: The rows of ``bounds.csv``.

    Returns:
        A line for each run label that has such seeds.
    """
    silent: Any = bounds[bounds["pairs_above_rounding"] == 0].groupby(
        "label", sort=False
    )
    return [
        f"{label}, seeds {', '.join(map(str, dict.fromkeys(rows['seed'])))}: no pair "
        "is above rounding, so nothing is said of bounds there"
        for label, rows in silent
    ]


def _bounds_table(bounds: pd.DataFrame) -> "Table":
    """Of each bound the quantiles of exact / bound, and in how many pairs it holds."""
    from rich import box
    from rich.table import Table

    shown = Table(box=box.SIMPLE_HEAD, title="Exact over bound: means over seeds")
    shown.add_column("run")
    shown.add_column("bound", no_wrap=True)
    for name in ("median", "5 %", "95 %", "holds in"):
        shown.add_column(name, justify="right", no_wrap=True)
    last = None
    by_bound: Any = bounds.groupby(["label", "bound"], sort=False)
    for (label, name), rows in by_bound:
        if not (rows["pairs_above_rounding"] > 0).any():
            shown.add_row("" if label == last else label, name, *(["none"] * 4))
            last = label
            continue
        share = 100 * rows["holds_share"].mean()
        shown.add_row(
            "" if label == last else label,
            name + ("" if rows["is_bound"].all() else " (no bound)"),
            *(
                f"{rows[f'ratio_{quantile}'].mean():.1e}"
                for quantile in ("median", "05", "95")
            ),
            "all pairs" if share == 100 else f"{share:.3f} %",
        )
        last = label
    return shown
