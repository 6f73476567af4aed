"""Run ``python -m analysis.network``: measure what is not measured yet, then show."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import tyro

from analysis.network.options import NetworkOptions

if TYPE_CHECKING:
    from rich.console import Console

    from analysis.network._measure import Windows
    from analysis.network._store import NetworkFolder, Part
    from models.train.options import TrainOptions
    from models.train.restore import Restored

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m analysis.network``.

    Args:
        argv: Arguments, by default the command line's.

    Returns:
        0; 1 where no file can be written, 2 for bad arguments or a run that cannot be
        used, 130 after an interrupt. What is finished stays, and the same command goes
        on.

    Raises:
        SystemExit: With 2, naming the argument, where one cannot be read.
    """
    try:
        options = tyro.cli(NetworkOptions, args=argv, prog="python -m analysis.network")
    except ValueError as error:
        return _fail(str(error), 2)
    try:
        return run(options)
    except ValueError as error:
        return _fail(str(error), 2)
    except OSError as error:
        return _fail(f"{error.strerror or error} ({error.filename or options.out}).", 1)
    except KeyboardInterrupt:
        return _fail(
            f"interrupted; what is finished in {options.out} stays, and the same "
            "command goes on.",
            INTERRUPTED,
        )


def _fail(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


def run(options: NetworkOptions) -> int:
    """Measure what is not finished, then write and show the results.

    Args:
        options: What is asked for.

    Returns:
        0.

    Raises:
        ValueError: If a run cannot be used, or the budget does not suffice.
    """
    from rich.console import Console

    from analysis.network._results import collect, show, write
    from analysis.network._store import NetworkFolder
    from analysis.sweep._console import progress
    from analysis.variants import check_seeds
    from models.runs.environment import environment
    from models.train.record import read_options

    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    runs = [read_options(folder, options.data) for folder in options.runs]
    check_seeds(runs)
    folder = NetworkFolder(options.out)
    record = {
        "arguments": {k: getattr(options, k) for k in options.__slots__}
        | {"runs": [str(run) for run in options.runs]}
        | {"probe_seed": options.seed_of_probes},
        "complete": False,
        **environment(),
    }
    folder.save_record(record)
    parts = []
    with progress(console, sum(run.fit.seeds for run in runs)) as done:
        for one in runs:
            parts.append(_measure_run(one, options, folder, console, done))
    tables = collect(runs, parts)
    names = write(options.out, tables)
    seconds = [part.seconds for of_run in parts for part in of_run.values()]
    folder.save_record(record | {"complete": True, "seconds": sum(seconds)})
    show(console, tables)
    console.print(
        f"wrote {', '.join(names)} and run.json to {options.out}",
        soft_wrap=True,
        markup=False,
    )
    return 0


def _measure_run(
    asked: "TrainOptions",
    options: NetworkOptions,
    folder: "NetworkFolder",
    console: "Console",
    done: Callable[[str], None],
) -> "dict[int, Part]":
    """Measure every seed of a run that is not finished, and keep each at once."""
    from analysis.network._measure import measure
    from analysis.network._store import Part, identity_of
    from models.train.restore import best_models

    try:
        restored, windows = _open(asked, options)
        parts, announced = {}, False
        for seed, _, model in best_models(restored):
            identity = identity_of(restored, model, options)
            state, part = folder.look(asked.out, seed, identity)
            said = "finished before"
            if part is None or options.overwrite:
                if not announced:
                    _announce(console, asked, model, windows, options)
                    announced = True
                start = time.perf_counter()
                tables = measure(model, windows, options)
                seconds = time.perf_counter() - start
                part = folder.add(asked.out, seed, identity, Part(tables, seconds))
                why = {"missing": "", "finished": ", again: --overwrite"}
                said = f"{seconds:.1f} s" + why.get(state, f", again: {state}")
            parts[seed] = part
            done(f"{asked.out} seed {seed}: {said}")
    except ValueError as error:
        message = str(error)
        name = str(asked.out)
        raise ValueError(
            message if name in message else f"{name}: {message}"
        ) from error
    return parts


def _open(asked: "TrainOptions", options: NetworkOptions) -> "tuple[Restored, Windows]":
    """A run read back, and what it is looked at on."""
    import numpy as np

    from analysis.network._measure import Windows
    from models.runs.flags import in_flags
    from models.train.restore import restore, spread_nodes, spread_windows

    try:
        restored = restore(asked)
    except ValueError as error:
        given = asked.series.data
        if given is None or given.is_dir():
            raise
        raise ValueError(
            f"{error} It wants the files of {asked.series.dataset} in {given}; name "
            "the folder they are in now with --data."
        ) from error
    try:
        batch = spread_windows(restored.prepared, options.windows)
        series = restored.prepared.series
        nodes = np.array(spread_nodes(len(series.sensor_ids), options.nodes))
    except ValueError as error:
        raise ValueError(in_flags(str(error))) from error
    return restored, Windows(batch, nodes, series.adjacency)


def _announce(
    console: "Console",
    asked: "TrainOptions",
    model: object,
    windows: "Windows",
    options: NetworkOptions,
) -> None:
    """Say what is measured, on what, and what it will take."""
    from typing import cast

    from analysis.network._measure import plan
    from models.forecaster import Forecaster
    from models.train.folder import read_record
    from sensitivity.memory import format_memory

    cost = plan(cast(Forecaster, model), windows, options)
    W, T, N = windows.batch.speeds.shape
    kind = "exact"
    if options.estimate is not None:
        kind = (
            f"estimated with {options.estimate} probes (seed {options.seed_of_probes}) "
            "for each output step"
        )
    lines = [
        f"{asked.out}: {kind}, {W} test windows, {len(windows.nodes)} of {N} output "
        f"nodes x {asked.series.horizon} steps by {N} nodes x {T} steps"
    ]
    if options.estimate is None:
        lines.append(
            f"work arrays: {format_memory(cost.network)}, {cost.outputs} outputs at "
            f"once; tables: about {format_memory(cost.tables)}; each of at most "
            f"{options.max_memory}"
        )
        if windows.adjacency is None:
            lines.append("the data set brings no road graph: no hops")
        elif asked.model.graph == "full":
            lines.append(
                "hops are the road graph's; in the learned graph all are one hop apart"
            )
    if asked.model.precision != "float32":
        lines.append(
            f"trained with products in {asked.model.precision}: its weights are "
            "measured with products in float32, without that rounding"
        )
    record = read_record(asked.out) or {}
    if not record.get("complete"):
        lines.append("this run is not complete: its best weights so far")
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
