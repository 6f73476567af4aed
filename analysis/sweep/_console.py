"""What a sweep says on the console: its plan, its progress, its verdicts."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from analysis.sweep.options import SweepOptions

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from analysis.sweep._points import Layers
    from analysis.sweep._store import SweepFolder


def announce(
    console: "Console",
    options: SweepOptions,
    layers: "Layers",
    folder: "SweepFolder",
    size: int,
) -> None:
    """Say what will be done, on what, and with how much memory; keep it in run.json.

    Args:
        console: Where to.
        options: The sweep.
        layers: What is measured.
        folder: Its folder, which keeps the record.
        size: Bytes that the work arrays are estimated to take.
    """
    import platform
    from importlib.metadata import version

    import jax

    from sensitivity.memory import format_memory

    measure, notes = options.measure, layers.notes()
    console.print(
        f"{layers.headline()}; {measure.norm} norm, {measure.dtype}",
        soft_wrap=True,
        markup=False,
    )
    console.print(f"work arrays: at most about {format_memory(size)}")
    for note in notes:
        console.print(note, soft_wrap=True, markup=False)
    packages = ("stgnn-sensitivity", "jax", "jaxlib", "numpy", "pandas", "scipy")
    folder.record["notes"] = notes
    folder.record["versions"] = {name: version(name) for name in packages}
    folder.record["versions"]["python"] = platform.python_version()
    folder.record["device"] = f"{jax.default_backend()}: {jax.devices()[0].device_kind}"
    folder.record["precision"] = f"{measure.dtype}, matrix products at full precision"
    folder.record["seeds"] = sorted({point.seed for point in layers.points})


@contextlib.contextmanager
def progress(console: "Console", total: int) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal, else a line per point.

    Args:
        console: Where to.
        total: Number of points.

    Yields:
        A function to call with a message whenever a point is done.
    """
    if not console.is_terminal:
        count = iter(range(1, total + 1))
        yield lambda message: console.print(
            f"[{next(count)}/{total}] {message}", markup=False
        )
        return
    from rich.progress import Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:-1], TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("points", total=total)
        yield lambda message: bar.update(task, advance=1, description=message)


def show_verdicts(console: "Console", verdict: "pd.DataFrame", heads: int) -> None:
    """Print the verdicts as a table.

    Args:
        console: Where to.
        verdict: The rows of ``verdicts.csv``.
        heads: Number of heads; a layer of one is that head, and shown once.
    """
    if heads == 1 and "layer" in set(verdict["level"]):
        verdict = verdict[verdict["level"] == "layer"]
    from rich.table import Table

    table = Table(title="Verdicts: exact <= bound, ratio = exact / bound")
    table.add_column("statement", no_wrap=True)
    table.add_column("level", no_wrap=True)
    for name in (
        "holds in",
        "worst ratio",
        "median ratio",
        "exact ~ T^",
        "95 % interval",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for row in verdict.to_dict("records"):
        rows, holding, slope = row["rows"], row["rows_holding"], row["exponent"]
        if not rows:
            table.add_row(row["statement"], row["level"], "speaks of no row")
            continue
        fitted = slope == slope  # NaN below three lengths
        table.add_row(
            row["statement"],
            row["level"],
            f"{holding} of {rows}" + ("" if holding == rows else " FAILS"),
            f"{row['worst_ratio']:.3f}",
            f"{row['median_ratio']:.3f}",
            f"{slope:.2f}" if fitted else "",
            f"[{row['exponent_low']:.2f}, {row['exponent_high']:.2f}]"
            if fitted
            else "",
            style=None if holding == rows else "bold red",
        )
    console.print(table)
