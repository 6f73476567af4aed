"""What comes of a sweep: tables, pictures, and the verdicts on the console."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.sweep._points import Layers
from analysis.sweep._verdicts import last_steps, verdicts, verdicts_by
from analysis.sweep.options import SweepOptions
from models.runs.console import empty_table
from models.runs.folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

# A path that looks like a number, or like nothing, is still a path.
_TYPES: Any = {"head": str, "run": str}


def write_results(
    console: "Console",
    options: SweepOptions,
    layers: Layers,
    folder: RunFolder,
    texts: Sequence[bytes],
) -> None:
    """Write the tables, of every point in order, and the pictures; print verdicts."""
    header = texts[0].splitlines(keepends=True)[0]
    whole = header + b"".join(text.removeprefix(header) for text in texts)
    folder.write("sweep.csv", whole)
    table = pd.read_csv(io.BytesIO(whole), dtype=_TYPES)
    verdict = verdicts(table)
    folder.write("verdicts.csv", verdict.to_csv(index=False))
    if not options.are_random:
        parts = verdicts_by(table, ("run", "T", "seed", "step", "layer", "head"))
        folder.write("verdicts-by-layer.csv", parts.to_csv(index=False))
    for name, figure in _pictures(options, table).items():
        folder.write_figure(name, figure, "png", "pdf")
    shares = folder.record["filled_share"]
    shares = {point.name: shares[point.name] for point in layers.points}
    folder.record["filled_share"] = shares  # in order, whatever was measured first
    written = folder.finish()
    _show(console, verdict, max(point.heads for point in layers.points))
    if layers.points[0].source != "gaussian" and not options.layers:
        console.print(
            f"missing readings filled: {100 * max(shares.values()):.1f} % at most"
        )
    console.print(f"wrote {', '.join((*written, 'run.json'))} in {folder.path}")


def _pictures(options: SweepOptions, table: pd.DataFrame) -> "dict[str, Figure]":
    from analysis.plots.bounds import bound_against_length
    from analysis.plots.verdicts import verdict_share, verdicts_by_step

    if options.are_random:
        return {"bound-vs-T": bound_against_length(table)}
    last = last_steps(table)
    pictures = {"verdict-share": verdict_share(last)}
    if table["T"].nunique() > 1:
        pictures["bound-vs-T"] = bound_against_length(last)
    if options.weights == "kept":
        pictures["verdicts-by-step"] = verdicts_by_step(table)
    return pictures


def _show(console: "Console", verdict: pd.DataFrame, heads: int) -> None:
    """Print the verdicts; a layer of one head is that head, and shown once."""
    from rich.box import HEAVY_HEAD

    if heads == 1 and "layer" in set(verdict["level"]):
        verdict = verdict[verdict["level"] == "layer"]
    title = "Verdicts: exact <= bound, ratio = exact / bound"
    numbers = ("holds in", "worst ratio", "median ratio", "exact ~ T^", "95 % interval")
    table = empty_table(title, ("statement", "level"), numbers, box=HEAVY_HEAD)
    for row in verdict.to_dict("records"):
        rows, holding, slope = row["rows"], row["rows_holding"], row["exponent"]
        if not rows:
            table.add_row(row["statement"], row["level"], "speaks of no row")
            continue
        fitted = slope == slope  # NaN below three lengths
        interval = f"[{row['exponent_low']:.2f}, {row['exponent_high']:.2f}]"
        table.add_row(
            row["statement"],
            row["level"],
            f"{holding} of {rows}" + ("" if holding == rows else " FAILS"),
            f"{row['worst_ratio']:.3f}",
            f"{row['median_ratio']:.3f}",
            f"{slope:.2f}" if fitted else "",
            interval if fitted else "",
            style=None if holding == rows else "bold red",
        )
    console.print(table, soft_wrap=False)
