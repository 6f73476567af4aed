"""How a run of the benchmark reads on a terminal or in a log."""

import pandas as pd
from rich import box
from rich.table import Table

from analysis.benchmark._measure import Measurement
from analysis.benchmark._targets import Target


def cost_line(measured: Measurement) -> str:
    """One cell in one line.

    Args:
        measured: What it cost.

    Returns:
        Its time and memory, or why there is none.
    """
    if measured.status != "ok":
        return measured.status
    return (
        f"{duration(measured.seconds)}, compiling {measured.compile_seconds:.1f} s, "
        f"peak {measured.peak_mib:.0f} MiB"
    )


def cost_table(table: pd.DataFrame) -> Table:
    """Every cell.

    Args:
        table: The rows of ``benchmark.csv``.

    Returns:
        The table to print.
    """
    shown = Table(box=box.SIMPLE_HEAD, title_justify="left")
    shown.title = "Cost of one call (passes: in forward passes of the same layer)"
    for name in ("layer", "norm", "T", "method"):
        shown.add_column(name, no_wrap=True)
    for name in ("time", "compiling", "peak", "passes"):
        shown.add_column(name, justify="right", no_wrap=True)
    order = table.sort_values(
        ["layer", "norm", "T"], kind="stable", ascending=[False, True, True]
    )
    for row in order.to_dict("records"):
        passes = row["forward_passes"]
        cost = (
            duration(row["seconds"]),
            f"{row['compile_seconds']:.1f} s",
            f"{row['peak_mib']:.0f} MiB",
            "" if pd.isna(passes) else f"{passes:,.1f}",
        )
        shown.add_row(
            *(str(row[name]) for name in ("layer", "norm", "T", "method")),
            *(cost if row["status"] == "ok" else (row["status"], "", "", "")),
        )
    return shown


def target_table(judged: list[Target]) -> Table:
    """What had to be reached, and whether it was.

    Args:
        judged: The targets.

    Returns:
        The table to print.
    """
    shown = Table(box=box.SIMPLE_HEAD, title="Had to be reached", title_justify="left")
    shown.add_column("target")
    for name in ("wanted", "measured", "reached"):
        shown.add_column(name, no_wrap=True)
    for row in judged:
        number = "" if row.measured is None else f"{row.measured:.3g} {row.unit}"
        style = {"yes": "green", "no": "red"}.get(row.reached, "dim")
        shown.add_row(row.target, row.wanted, number, f"[{style}]{row.reached}[/]")
    return shown


def duration(seconds: float) -> str:
    """A time as one reads it.

    Args:
        seconds: The time.

    Returns:
        Milliseconds below a second.

    Example:
        >>> duration(0.0123), duration(2)
        ('12.3 ms', '2.00 s')
    """
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
