"""Run a sweep: measure every point, judge it, write tables and the picture."""

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import tyro

from sensitivity.sweep.console import announce, progress, show_verdicts
from sensitivity.sweep.options import SweepOptions

if TYPE_CHECKING:
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
        kept = "what was finished stays, and the same command goes on"
        if not os.path.isdir(options.out):
            kept = f"--out ({options.out}) could not be made, and nothing was written"
        why = f"{error.strerror or error} ({error.filename or options.out})"
        return _fail(f"{why}; {kept}.", 1)
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
    if options.source == "gaussian":
        return None
    if options.data is None:
        from data.freeway import simulate_traffic

        series = simulate_traffic()
    else:
        from data import load_metr_la

        try:
            series = load_metr_la(options.data)
        except (ValueError, FileNotFoundError) as error:
            raise ValueError(f"--data: {error}") from error
    steps = len(series.values)
    if max(options.T) > steps:
        raise ValueError(
            f"--T ({max(options.T)}) must not exceed the {steps} steps of "
            f"{options.data or series.name}."
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
    announce(console, options, folder, size)
    points = [(T, seed) for T in options.T for seed in range(options.seeds)]
    with progress(console, len(points)) as done:
        for T, seed in points:
            if (state := folder.state(T, seed)) != "finished":
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
                again = ", computed again: its file was damaged"
                done(
                    f"T={T} seed={seed}: {seconds:.1f} s" + again * (state == "damaged")
                )
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


def _finish(console: "Console", options: SweepOptions, folder: "SweepFolder") -> int:
    """Write the tables and the picture, print the verdicts."""
    import io

    import matplotlib

    from data.whole_files import write_whole
    from sensitivity.sweep.store import RESULTS
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
    if options.source != "gaussian":
        console.print(f"missing readings filled: {100 * max(shares):.1f} % at most")
    names = ", ".join((*RESULTS, "run.json"))
    console.print(f"wrote {names} in {folder.path}", soft_wrap=True, markup=False)
    return 0
