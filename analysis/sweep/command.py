"""Run a sweep: measure every point, keep what is finished, write what comes of it."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from analysis.sweep.options import SweepOptions
from models.runs.command import run_command
from models.runs.console import open_console, progress, still_at
from models.runs.environment import environment
from models.runs.folder import RunFolder, differing, digest, read_record
from sensitivity.equations import STATEMENTS

if TYPE_CHECKING:
    from rich.console import Console

    from analysis.sweep._crew import Shared
    from analysis.sweep._points import Layers, Point
    from models.runs.crew import Crew

_COMMAND = "sensitivity.sweep"
_AGAIN = {
    "damaged": ", computed again: its file was damaged",
    "of other settings": ", computed again: an earlier version judged fewer statements",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m sensitivity.sweep``.

    Args:
        argv: Arguments, by default the command line's.

    Returns:
        0 when the sweep is complete, 1 when the folder could not be written, 2 for bad
        arguments or data, 130 after an interrupt; what was finished stays, and the same
        command goes on.
    """
    return run_command(
        SweepOptions, run, argv, prog=f"python -m {_COMMAND}", stays=_stays
    )


def _stays(options: SweepOptions) -> str:
    if options.out.is_dir():
        return (
            f"what was finished stays in {options.out}, and the same command goes on."
        )
    return f"nothing was written to --out ({options.out})."


def run(options: SweepOptions) -> int:
    """Do a sweep."""
    from analysis.sweep._crew import Shared, met
    from analysis.sweep._results import write_results

    console = open_console()
    with met(options) as crew:
        layers = _open_layers(options)
        size = layers.size()  # refused before anything is written
        identity = options.identity() | layers.identity()
        first = crew is None or crew.process == 0
        folder = _open_folder(options, identity, crew) if first else None
    with folder or _open_folder(options, identity, crew) as folder:
        _announce(console, options, layers, folder, size)
        shared = Shared(folder, crew, identity)
        texts = _texts(console, options, layers, folder, shared, identity)
        shared.close()
        if shared.leads:
            write_results(console, options, layers, folder, texts)
        else:
            console.print("these points are finished; process 0 writes the results")
    return 0


def _texts(
    console: "Console",
    options: SweepOptions,
    layers: "Layers",
    folder: RunFolder,
    shared: "Shared",
    identity: dict[str, Any],
) -> list[bytes]:
    """The tables of all points; of some where another process writes the results."""
    texts: dict[int, bytes] = {}
    points = dict(enumerate(layers.points))
    mine = {n: point for n, point in points.items() if shared.mine(n)}
    with progress(console, len(points if shared.leads else mine)) as done:
        for n, point in mine.items():
            key = digest(identity, point, STATEMENTS)
            with still_at(console, point.words):
                texts[n], words = _finished(options, layers, folder, shared, point, key)
            done(f"{point.words}: {words}")
        for n, point in points.items() if shared.leads else ():
            if n not in mine:
                texts[n] = shared.wait_for(
                    n, point.name, digest(identity, point, STATEMENTS)
                )
                done(f"{point.words}: by another process")
    return [texts[n] for n in sorted(texts)]


def _open_layers(options: SweepOptions) -> "Layers":
    if options.checkpoint:
        from analysis.sweep._trained import TrainedLayers

        return TrainedLayers(options)
    if options.layers:
        from analysis.sweep._read import ReadLayers

        return ReadLayers(options)
    from analysis.sweep._drawn import RandomLayers

    return RandomLayers(options)


def _open_folder(
    options: SweepOptions, identity: dict[str, Any], crew: "Crew | None"
) -> RunFolder:
    """The folder; of the same sweep ``--overwrite`` replaces nothing."""
    from analysis.sweep._earlier import earlier_files

    old = read_record(options.out, _COMMAND)
    other = old is not None and differing(old["arguments"], identity) != []
    return RunFolder(
        options.out,
        _COMMAND,
        identity,
        overwrite=options.overwrite and other,
        results=earlier_files(options.out),
        crew=crew,
    )


def _announce(
    console: "Console",
    options: SweepOptions,
    layers: "Layers",
    folder: RunFolder,
    size: int,
) -> None:
    """Say what will be done, on what, and with how much memory; record it."""
    import jax

    from sensitivity.memory import format_memory

    measure, notes = options.measure, layers.notes()
    console.print(f"{layers.headline()}; {measure.norm} norm, {measure.dtype}")
    console.print(f"work arrays: at most about {format_memory(size)}")
    for note in notes:
        console.print(note)
    packages = ("stgnn-sensitivity", "jax", "jaxlib", "numpy", "pandas", "scipy")
    here = environment(packages)
    shares = folder.record.get("filled_share")  # of a record that may be edited
    shares = shares if isinstance(shares, dict) else {}
    shares = {k: share for k, share in shares.items() if isinstance(share, float)}
    folder.record |= {
        "filled_share": shares,
        "notes": notes,
        "versions": here["versions"] | {"python": here["python"]},
        "device": f"{jax.default_backend()}: {here['device']}",
        "precision": f"{measure.dtype}, matrix products at full precision",
        "seeds": sorted({point.seed for point in layers.points}),
    }


def _finished(
    options: SweepOptions,
    layers: "Layers",
    folder: RunFolder,
    shared: "Shared",
    point: "Point",
    key: str,
) -> tuple[bytes, str]:
    """The table of a point, measured unless it is finished; and how that went."""
    from analysis.sweep._earlier import drop_earlier_point

    found = folder.part(point.name, key)
    content, words = found.content, "finished before"
    if found.state != "finished" or point.name not in folder.record["filled_share"]:
        start = time.perf_counter()
        content, filled_share = _measured(options, layers, point)
        seconds = time.perf_counter() - start
        folder.record["seconds"] += seconds
        folder.record["filled_share"][point.name] = filled_share
        shared.save()  # first: a point that is there is in the record
        folder.keep(point.name, key, content, ".csv")
        words = f"{seconds:.1f} s{_AGAIN.get(found.state, '')}"
    if drop_earlier_point(folder.path, point) and found.state == "missing":
        words += _AGAIN["of other settings"]
    return content, words


def _measured(
    options: SweepOptions, layers: "Layers", point: "Point"
) -> tuple[bytes, float]:
    """The table of a point, and the share of its readings that was filled."""
    from analysis.sweep._verdicts import point_table
    from sensitivity import bounds

    layer, filled_share = layers.inputs(point)
    measured = bounds.measure(
        layer.x,
        layer.weights,
        score_bias=layer.score_bias,
        residual=layer.residual,
        norm=options.measure.norm,
        levels=options.measure.levels,
        engine=options.measure.engine,
        max_memory=layers.max_memory,
        rows=layer.rows,
    )
    table = point_table(options, point, measured)
    return table.to_csv(index=False).encode(), filled_share
