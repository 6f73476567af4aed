"""How a run of the training benchmark reads on a terminal or in a log."""

import pandas as pd
from rich import box
from rich.table import Table

from analysis.benchmark._printing import duration


def step_table(table: pd.DataFrame) -> Table:
    """Every method.

    Args:
        table: The rows of ``training.csv``.

    Returns:
        The table to print.
    """
    shown = Table(box=box.SIMPLE_HEAD, title_justify="left")
    shown.title = "Cost of training (a step of 4 seeds is one of each)"
    for name in ("part", "method", "nodes"):
        shown.add_column(name, no_wrap=True)
    for name in ("a step", "timed steps", "in an epoch", "compiling", "products"):
        shown.add_column(name, justify="right", no_wrap=True)
    for row in table.to_dict("records"):
        compiling, share = row["compile_seconds"], row["matmul_share"]
        shown.add_row(
            *(str(row[name]) for name in ("part", "method", "nodes")),
            duration(row["seconds_per_step"]),
            f"{row['rounds']} x {row['steps']}",
            str(row["steps_per_epoch"]),
            "" if pd.isna(compiling) else f"{compiling:.1f} s",
            "" if pd.isna(share) else f"{share:.0%}",
        )
    return shown


def part_lines(rows: pd.DataFrame) -> list[str]:
    """A part that has just been measured, a line per method.

    Args:
        rows: Its rows.

    Returns:
        The lines.
    """
    return [
        f"{row['part']}, {row['method']}: {duration(row['seconds_per_step'])} a step "
        f"({row['size']}, {row['nodes']} nodes, batch {row['batch']})"
        for row in rows.to_dict("records")
    ]
