"""Run ``python -m analysis.attention``: measure what is missing, compare, draw."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import tyro

from analysis.attention.options import AttentionOptions

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from analysis.attention._measure import Part
    from analysis.attention._results import Measured
    from analysis.attention._sources import Source
    from analysis.attention._store import AttentionFolder
    from models.train.restore import Restored, Snapshot

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m analysis.attention``.

    Args:
        argv: Arguments, by default the command line's.

    Returns:
        0 when all is measured; 1 where a file cannot be written, 2 for bad arguments
        or runs that cannot be used, 130 after an interrupt: finished parts stay, and
        the same command goes on.
    """
    prog = "python -m analysis.attention"
    try:
        options = tyro.cli(AttentionOptions, args=argv, prog=prog)
        return run(options)
    except ValueError as error:
        return _fail(str(error), 2)
    except OSError as error:
        return _fail(f"{error.strerror or error} ({error.filename}).", 1)
    except KeyboardInterrupt:
        return _fail(
            "interrupted; finished parts stay, and the same command goes on.",
            INTERRUPTED,
        )


def _fail(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


def run(options: AttentionOptions) -> int:
    """Measure every run, then write tables and pictures.

    Args:
        options: What to do.

    Returns:
        0.

    Raises:
        ValueError: If a run cannot be used, or the folder holds something else.
    """
    from rich.console import Console

    from analysis.attention._results import write_results
    from analysis.attention._sources import read_sources
    from analysis.attention._store import AttentionFolder
    from models.runs.environment import environment

    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    sources = read_sources(options)
    folder = AttentionFolder(options)
    folder.record["runs"] = [
        {"folder": str(source.run.folder), "variant": source.label, "T": source.T}
        | {"seeds": list(source.run.seeds)}
        for source in sources
    ]
    folder.record["environment"] = environment()
    folder.record["precision"] = "float64, at the float32 inputs that layers see"
    folder.save()
    console.print(
        f"{len(sources)} run(s), {options.weights} weights, {options.windows} test "
        f"windows, {options.nodes or 'all'} nodes, {options.norm} norm"
    )
    with _progress(console, sum(_count(options, source) for source in sources)) as done:
        measured = [_measure(options, source, folder, done) for source in sources]
    write_results(options, folder, sources, measured, console)
    return 0


def _count(options: AttentionOptions, source: "Source") -> int:
    """Number of parts of a run."""
    from models.train.restore import kept_epochs

    best = options.weights == "best"
    epochs = 1 if best else len(kept_epochs(source.run.folder))
    return epochs * len(source.run.seeds)


def _progress(console: "Console", total: int):
    """A bar on a terminal, else a line per part."""
    from analysis.sweep._console import progress

    return progress(console, total)


def _measure(options: AttentionOptions, source: "Source", folder, done) -> "Measured":
    """Every part of a run, from its file where it is finished."""
    from analysis.attention._results import Measured
    from models.runs.flags import in_flags
    from models.train.restore import restore, spread_nodes, spread_windows

    restored = restore(source.options)
    try:
        batch = spread_windows(restored.prepared, options.windows)
        total = len(restored.prepared.series.sensor_ids)
        nodes = spread_nodes(total, options.nodes)
    except ValueError as error:
        message = f"{in_flags(str(error))} ({source.run.folder})"
        raise ValueError(message) from error
    found = Measured({}, {}, len(nodes))
    for snapshot in _snapshots(options, restored):
        start, name = time.perf_counter(), f"T={source.T} {source.label}"
        key = (snapshot.seed, snapshot.step)
        part, certified, before = _part(options, snapshot, batch, nodes, folder)
        found.parts[key] = part
        if certified is not None:
            found.certified[key] = certified
        seconds = time.perf_counter() - start
        folder.record["seconds"] += seconds
        how = "finished before" if before else f"{seconds:.1f} s"
        done(f"{name} seed={key[0]} step={key[1]}: {how}")
    return found


def _snapshots(options: AttentionOptions, restored: "Restored") -> "Iterator[Snapshot]":
    from models.train.restore import best_models, kept_epochs, kept_models

    if options.weights == "best":
        yield from best_models(restored)
        return
    for epoch in kept_epochs(restored.options.out):
        yield from kept_models(restored, epoch)


def _part(
    options: AttentionOptions,
    snapshot: "Snapshot",
    batch,
    nodes: list[int],
    folder: "AttentionFolder",
) -> "tuple[Part, pd.DataFrame | None, bool]":
    """Measure one forecaster.

    Returns:
        Its part, its certificates where they are asked for, and whether all was
        finished before.
    """
    from analysis.attention._certificates import certify
    from analysis.attention._measure import layer_inputs, measure
    from analysis.attention._store import identity

    model, wanted = snapshot.model, options.samples
    digest = identity(model, batch, {"nodes": nodes, "norm": options.norm})
    part, layers = folder.part(digest), None
    if part is None:
        layers = layer_inputs(model, batch, nodes)
        part = measure(layers, options.norm)
        folder.add_part(digest, part)
    if not wanted:
        return part, None, layers is None
    digest = identity(model, batch, {"nodes": nodes, "certificates": wanted})
    table = folder.certified(digest)
    if table is None:
        layers = layers or layer_inputs(model, batch, nodes)
        table = folder.add_certified(digest, certify(layers, nodes, wanted))
    return part, table, layers is None
