"""Run a sweep: measure every point, judge it, write tables and the picture."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import tyro

from sensitivity.sweep.options import SweepOptions

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from data import TrafficSeries
    from sensitivity.sweep.store import SweepFolder


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m sensitivity.sweep``.

    Args:
        argv: Arguments, by default the command line's.

    Returns:
        0 when the sweep is complete, 1 when the folder could not be written, 2 for bad
        arguments or data, 130 after an interrupt; what was finished stays, and the same
        command goes on.
    """
    try:
        options = tyro.cli(
            SweepOptions,
            args=argv,
            prog="python -m sensitivity.sweep",
            config=(tyro.conf.OmitArgPrefixes,),
        )
    except ValueError as error:  # raised by the options' own checks
        return _fail(str(error), 2)
    try:
        from sensitivity.sweep.store import SweepFolder

        series, size = _load(options), _plan(options)
        folder = SweepFolder(options)
        return run_sweep(options, series, folder, size)
    except ValueError as error:
        return _fail(str(error).replace("max_memory", "--max-memory"), 2)
    except OSError as error:
        return _fail(
            f"{error.strerror or error} ({error.filename or options.out}); what was "
            "finished stays, and the same command goes on.",
            1,
        )
    except KeyboardInterrupt:
        return _fail(
            f"interrupted; the points finished in {options.out} stay, and the same "
            "command goes on.",
            130,
        )


def _fail(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


def _load(options: SweepOptions) -> "TrafficSeries | None":
    """Read the data a source needs.

    Returns:
        The series, or None.

    Raises:
        ValueError: If it cannot be read, or a length exceeds the series.
    """
    if options.data is None:
        return None
    from data import load_metr_la

    try:
        series = load_metr_la(options.data)
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"--data: {error}") from error
    steps = len(series.values)
    if max(options.T) > steps:
        raise ValueError(
            f"--T ({max(options.T)}) must not exceed the {steps} steps of "
            f"{options.data}."
        )
    return series


def run_sweep(
    options: SweepOptions,
    series: "TrafficSeries | None",
    folder: "SweepFolder",
    size: int,
) -> int:
    """Measure what is not finished, then write and show the results.

    Args:
        options: The sweep.
        series: Real traffic, for the source that needs it.
        folder: Where finished points are kept.
        size: Bytes that the work arrays are estimated to take.

    Returns:
        0.
    """
    from rich.console import Console

    from sensitivity.bounds import measure
    from sensitivity.sweep.sources import draw_point
    from sensitivity.sweep.table import point_table

    console = Console(width=None if sys.stdout.isatty() else 130)
    _announce(console, options, folder, size)
    points = [(T, seed) for T in options.T for seed in range(options.seeds)]
    with _progress(console, len(points)) as done:
        for T, seed in points:
            if not folder.has(T, seed):
                start = time.perf_counter()
                point = draw_point(options, series, T, seed)
                measured = measure(
                    point.x,
                    point.weights,
                    score_bias=point.score_bias,
                    norm=options.measure.norm,
                    engine=options.measure.engine,
                    max_memory=options.measure.max_memory,
                )
                table = point_table(options, T, seed, measured)
                seconds = time.perf_counter() - start
                folder.record["seconds"] += seconds
                folder.record["filled_share"][f"T={T}-seed={seed}"] = point.filled_share
                folder.save_record()  # first: a point that is there is in the record
                folder.add(T, seed, table)
                done(f"T={T} seed={seed}: {seconds:.1f} s")
            else:
                done(f"T={T} seed={seed}: finished before")
    return _finish(console, options, folder)


def _plan(options: SweepOptions) -> int:
    """Check that the layers can be drawn and the longest length fits the budget.

    Returns:
        Bytes that the work arrays are estimated to take.
    """
    import jax
    import numpy as np

    from sensitivity.autodiff import plan_autodiff
    from sensitivity.closed_form import plan_heads, plan_layer
    from sensitivity.sweep.sources import draw_weights

    layer, measure = options.layer, options.measure
    weights = draw_weights(layer, 0, measure.dtype)
    shape = jax.ShapeDtypeStruct(
        (options.samples, max(options.T), layer.d_model), np.dtype(measure.dtype)
    )
    plans = [plan_heads(shape, weights, measure.norm, measure.max_memory)]
    if measure.engine == "autodiff":
        plans.append(plan_autodiff(shape, weights, True, measure.max_memory))
    elif layer.heads > 1:
        plans.append(plan_layer(shape, weights, measure.norm, measure.max_memory))
    return max(plan.size for plan in plans)


def _announce(
    console: "Console", options: SweepOptions, folder: "SweepFolder", size: int
) -> None:
    """Say what will be done, on what, and with how much memory; keep it in run.json."""
    import platform
    from importlib.metadata import version

    import jax

    from sensitivity.bounds import identity_note
    from sensitivity.memory import format_memory
    from sensitivity.sweep.sources import draw_weights

    layer, measure = options.layer, options.measure
    console.print(
        f"{len(options.T)} lengths, {options.seeds} seeds, {options.samples} samples; "
        f"source {options.source}, {layer.heads} head(s) at D = {layer.d_model}, "
        f"regularizer {layer.regularizer}, {measure.norm} norm, {measure.dtype}"
    )
    console.print(f"work arrays: at most about {format_memory(size)}")
    weights = draw_weights(layer, 0, measure.dtype)
    notes = sorted({identity_note(weights, level) for level in ("head", "layer")})
    for note in notes:
        console.print(note)
    packages = ("stgnn-sensitivity", "jax", "jaxlib", "numpy", "pandas", "scipy")
    folder.record["notes"] = notes
    folder.record["versions"] = {name: version(name) for name in packages}
    folder.record["versions"]["python"] = platform.python_version()
    folder.record["device"] = f"{jax.default_backend()}: {jax.devices()[0].device_kind}"
    folder.record["precision"] = f"{measure.dtype}, matrix products at full precision"
    folder.record["seeds"] = list(range(options.seeds))


@contextlib.contextmanager
def _progress(console: "Console", total: int) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal, else a line per point.

    Yields:
        A function to call with a message whenever a point is done.
    """
    if not console.is_terminal:
        count = iter(range(1, total + 1))
        yield lambda message: console.print(f"[{next(count)}/{total}] {message}")
        return
    from rich.progress import Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:-1], TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("points", total=total)
        yield lambda message: progress.update(task, advance=1, description=message)


def _finish(console: "Console", options: SweepOptions, folder: "SweepFolder") -> int:
    """Write the tables and the picture, print the verdicts."""
    import io

    import matplotlib

    from sensitivity.sweep.store import RESULTS, write_whole
    from sensitivity.sweep.table import verdicts

    matplotlib.use("Agg")
    from analysis.bound_plots import bound_against_length

    table = folder.collect(options)
    verdict = verdicts(table)
    write_whole(folder.path / "verdicts.csv", verdict.to_csv(index=False))
    figure = bound_against_length(table)
    for suffix in ("png", "pdf"):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, dpi=200)
        write_whole(folder.path / f"bound-vs-T.{suffix}", buffer.getvalue())
    folder.record["complete"] = True
    folder.save_record()
    show_verdicts(console, verdict, options.layer.heads)
    shares = folder.record["filled_share"].values()
    if options.source == "metr-la":
        console.print(f"missing readings filled: {100 * max(shares):.1f} % at most")
    names = ", ".join((*RESULTS, "run.json"))
    console.print(f"wrote {names} in {folder.path}", soft_wrap=True, markup=False)
    return 0


def show_verdicts(console: "Console", verdict: "pd.DataFrame", heads: int) -> None:
    """Print the verdicts as a table.

    Args:
        console: Where to.
        verdict: The rows of ``verdicts.csv``.
        heads: Number of heads; a layer of one is that head, and shown once.
    """
    if heads == 1:
        verdict = verdict[verdict["level"] == "layer"]
    from rich.table import Table

    table = Table(title="Verdicts: exact <= bound, ratio = exact / bound")
    table.add_column("statement", no_wrap=True)
    table.add_column("level")
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
