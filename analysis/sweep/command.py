"""Run a sweep: measure every point, judge it, write tables and the picture."""

import io
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import tyro

from analysis.sweep._console import announce, progress, show_verdicts
from analysis.sweep.options import SweepOptions

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from rich.console import Console

    from analysis.sweep._points import Layers
    from analysis.sweep._store import SweepFolder


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
        from analysis.sweep._store import SweepFolder

        layers = open_layers(options)
        size = layers.size()
        folder = SweepFolder(options, layers.identity())
        return run_sweep(options, layers, folder, size)
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


def open_layers(options: SweepOptions) -> "Layers":
    """The layers a sweep looks at.

    Args:
        options: The sweep.

    Returns:
        Drawn ones, or those of trained models.

    Raises:
        ValueError: If what they need cannot be read.
    """
    if options.checkpoint:
        from analysis.sweep._trained import TrainedLayers

        return TrainedLayers(options)
    from analysis.sweep._sources import RandomLayers

    return RandomLayers(options)


def run_sweep(
    options: SweepOptions, layers: "Layers", folder: "SweepFolder", size: int
) -> int:
    """Measure what is not finished, then write and show the results.

    Args:
        options: The sweep.
        layers: What is measured.
        folder: Where finished points are kept.
        size: Bytes that the work arrays are estimated to take.

    Returns:
        0.
    """
    from rich.console import Console

    from analysis.sweep._verdicts import point_table
    from sensitivity.bounds import measure

    console = Console(width=None if sys.stdout.isatty() else 130)
    announce(console, options, layers, folder, size)
    with progress(console, len(layers.points)) as done:
        for point in layers.points:
            if (state := folder.state(point)) != "finished":
                start = time.perf_counter()
                x, weights, score_bias, filled_share = layers.inputs(point)
                measured = measure(
                    x,
                    weights,
                    score_bias=score_bias,
                    norm=options.measure.norm,
                    residual=point.residual,
                    levels=options.measure.levels,
                    engine=options.measure.engine,
                    max_memory=layers.max_memory,
                )
                table = point_table(options, point, measured)
                seconds = time.perf_counter() - start
                folder.record["seconds"] += seconds
                folder.record["filled_share"][point.name] = filled_share
                folder.save_record()  # first: a point that is there is in the record
                folder.add(point, table)
                again = ", computed again: its file was damaged"
                done(f"{point.words}: {seconds:.1f} s" + again * (state == "damaged"))
            else:
                done(f"{point.words}: finished before")
    return _finish(console, options, layers, folder)


def _finish(
    console: "Console", options: SweepOptions, layers: "Layers", folder: "SweepFolder"
) -> int:
    """Write the tables and the pictures, print the verdicts."""
    from analysis.sweep._verdicts import verdicts, verdicts_by
    from models.runs.whole_files import write_whole

    table = folder.collect(layers.points)
    written, verdict = ["sweep.csv", "verdicts.csv"], verdicts(table)
    write_whole(folder.path / "verdicts.csv", verdict.to_csv(index=False))
    trained = bool(options.checkpoint)
    if trained:
        parts = verdicts_by(table, ("run", "T", "seed", "step", "layer", "head"))
        written.append("verdicts-by-layer.csv")
        write_whole(folder.path / written[-1], parts.to_csv(index=False))
    for name, figure in _pictures(options, table).items():
        for suffix in ("png", "pdf"):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix, dpi=200)
            written.append(f"{name}.{suffix}")
            write_whole(folder.path / written[-1], buffer.getvalue())
    folder.record["complete"] = True
    folder.save_record()
    show_verdicts(console, verdict, max(point.heads for point in layers.points))
    shares = folder.record["filled_share"].values()
    if layers.points[0].source != "gaussian":
        console.print(f"missing readings filled: {100 * max(shares):.1f} % at most")
    names = ", ".join((*written, "run.json"))
    console.print(f"wrote {names} in {folder.path}", soft_wrap=True, markup=False)
    return 0


def _pictures(options: SweepOptions, table: "pd.DataFrame") -> "dict[str, Figure]":
    """The pictures of a sweep, by the name of their file."""
    import matplotlib

    matplotlib.use("Agg")
    from analysis.plots.bounds import bound_against_length
    from analysis.sweep._verdicts import last_steps

    if not options.checkpoint:
        return {"bound-vs-T": bound_against_length(table)}
    from analysis.plots.verdicts import verdict_share, verdicts_by_step

    last = last_steps(table)
    pictures = {"verdict-share": verdict_share(last)}
    if table["T"].nunique() > 1:
        pictures["bound-vs-T"] = bound_against_length(last)
    if options.weights == "kept":
        pictures["verdicts-by-step"] = verdicts_by_step(table)
    return pictures
