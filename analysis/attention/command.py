"""Run ``python -m analysis.attention``: measure what is missing, compare, draw."""

from collections.abc import Sequence

from analysis.attention.options import AttentionOptions
from models.runs.command import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m analysis.attention``; its status is that of `run_command`."""
    return run_command(AttentionOptions, run, argv, prog="python -m analysis.attention")


def run(options: AttentionOptions) -> int:
    """Measure every run, then write tables and pictures."""
    from analysis.attention._list import list_measures
    from analysis.attention._parts import (
        count_parts,
        delete_old_parts,
        measure_source,
    )
    from analysis.attention._results import write_results
    from analysis.attention._significance import QUANTITIES, check_lengths
    from analysis.attention._sources import read_sources
    from analysis.diagnostics.registry import CURVES, DIAGNOSTICS
    from models.runs.console import open_console, progress
    from models.runs.environment import environment
    from models.runs.folder import RunFolder

    console = open_console()
    if options.listed:
        list_measures(console)
        return 0
    sources, measures = read_sources(options), (*DIAGNOSTICS, *CURVES)
    check_lengths(options, sources)
    with RunFolder(
        *(options.out, "analysis.attention", options.settings()),
        overwrite=options.overwrite,
    ) as folder:
        folder.record.pop("settings", None)  # of version 0.1.0
        folder.record |= {
            "runs": [source.record() for source in sources],
            "environment": environment(),
            "precision": "float64, of layers as they run: inputs and weights rounded "
            "to bfloat16 where a run's products are in it, else float32",
            "quantities": {entry.name: entry.meaning for entry in measures},
            "sources": {entry.name: entry.source for entry in measures},
        }
        if options.resamples:
            folder.record["significance"] = {
                name: entry.meaning for name, entry in QUANTITIES.items()
            }
        folder.save()
        if old := delete_old_parts(folder):
            console.print(f"{old} parts of version 0.1.0 are measured again")
        console.print(
            f"{len(sources)} run(s), {options.weights} weights, {options.windows} test "
            f"windows, {options.nodes or 'all'} nodes, {options.norm} norm"
        )
        total = sum(count_parts(options, source) for source in sources)
        with progress(console, total) as done:
            measured = [measure_source(options, s, folder, done) for s in sources]
        write_results(options, folder, sources, measured, console)
    return 0
