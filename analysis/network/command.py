"""Run ``python -m analysis.network``: measure what is not measured yet, then show."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from analysis.network.options import NetworkOptions
from models.runs.command import run_command, words_of
from models.runs.console import open_console, progress

if TYPE_CHECKING:
    from rich.console import Console

    from analysis.network._measure import Windows
    from analysis.network._parts import Part
    from models.forecaster import Forecaster
    from models.runs.folder import RunFolder
    from models.train.options import TrainOptions
    from models.train.restore import Restored


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m analysis.network``; the status is that of `run_command`."""
    return run_command(
        NetworkOptions,
        run,
        argv,
        prog="python -m analysis.network",
        stays=lambda options: (
            f"what is finished in {options.out} stays, and the same command goes on."
        ),
    )


def run(options: NetworkOptions) -> int:
    """Measure what is not finished, then write and show the results."""
    from analysis.network._measure import precision_in_words
    from analysis.network._parts import clear_old
    from analysis.network._results import FILES, collect, show, write
    from analysis.variants import check_each_folder_once, check_each_seed_once, describe
    from models.runs.environment import environment
    from models.runs.folder import RunFolder
    from models.train.record import read_run

    check_each_folder_once(options.runs)
    console = open_console()
    found = [read_run(folder, complete=False) for folder in options.runs]
    runs = [run.options(options.data) for run in found]
    check_each_seed_once(
        (words["label"], words["label"], run.fit.seed_list(), run.out)
        for run, words in zip(runs, describe(runs), strict=True)
    )
    asked = {name: getattr(options, name) for name in options.__slots__}
    asked |= {"runs": [str(run) for run in options.runs]}
    asked |= {"probe_seed": options.seed_of_probes}
    with RunFolder(
        options.out,
        "analysis.network",
        asked,
        same=lambda *_: [],  # a part knows of which settings it is
        results=FILES,
    ) as folder:
        folder.record |= {"arguments": asked, **environment()}
        folder.record["precision"] = {
            str(run.out): precision_in_words(run.model.precision) for run in runs
        }
        folder.save()
        clear_old(folder)
        parts = []
        with progress(console, sum(run.fit.seeds for run in runs)) as done:
            for one in runs:
                parts.append(_measure_run(one, options, folder, console, done))
        tables = collect(runs, parts)
        write(folder, tables)
        seconds = [part.seconds for of_run in parts for part in of_run.values()]
        folder.record["seconds"] = sum(seconds)
        names = folder.finish()
    show(console, tables)
    console.print(f"wrote {', '.join(names)} and run.json to {options.out}")
    return 0


def _measure_run(
    asked: "TrainOptions",
    options: NetworkOptions,
    folder: "RunFolder",
    console: "Console",
    done: Callable[[str], None],
) -> "dict[int, Part]":
    """Measure every seed of a run that is not finished, and keep each at once."""
    from analysis.network._measure import measure
    from analysis.network._parts import Part, key_of, label_of, pack, unpack
    from models.train.restore import best_models

    restored = _restored(asked)
    try:
        windows = _windows(restored, options)
        parts, announced = {}, False
        for seed, _, model in best_models(restored):
            label, key = label_of(asked.out, seed), key_of(restored, model, options)
            state, content = folder.part(label, key)
            said = "finished before"
            if state != "finished" or options.overwrite:
                if not announced:
                    _announce(console, asked, model, windows, options)
                    announced = True
                start = time.perf_counter()
                tables = measure(model, windows, options)
                seconds = time.perf_counter() - start
                content = pack(Part(tables, seconds))
                folder.keep(label, key, content, ".json")
                said = f"{seconds:.1f} s{_why(state)}"
            parts[seed] = unpack(content)
            done(f"{asked.out} seed {seed}: {said}")
    except ValueError as error:
        raise ValueError(f"{asked.out}: {words_of(error)}") from error
    return parts


def _why(state: str) -> str:
    """Why a part is measured though there is one."""
    words = {"of other settings": "of other weights or settings"}
    words |= {"finished": "--overwrite", "missing": ""}
    why = words.get(state, state)
    return f", again: {why}" if why else ""


def _restored(asked: "TrainOptions") -> "Restored":
    """A run read back; what is wrong with it names its folder."""
    from models.train.restore import restore

    try:
        return restore(asked)
    except ValueError as error:
        given = asked.series.data
        if given is None or given.is_dir():
            raise
        raise ValueError(
            f"{error} It wants the files of {asked.series.dataset} in {given}; name "
            "the folder they are in now with --data."
        ) from error


def _windows(restored: "Restored", options: NetworkOptions) -> "Windows":
    """What a run is looked at on."""
    import numpy as np

    from analysis.network._measure import Windows
    from models.train.restore import spread_nodes, spread_windows

    series = restored.prepared.series
    batch = spread_windows(restored.prepared, options.windows)
    nodes = np.array(spread_nodes(len(series.sensor_ids), options.nodes))
    return Windows(batch, nodes, series.adjacency)


def _announce(
    console: "Console",
    asked: "TrainOptions",
    model: "Forecaster",
    windows: "Windows",
    options: NetworkOptions,
) -> None:
    """Say what is measured, on what, and what it will take."""
    from analysis.network._measure import plan, precision_in_words
    from models.train.record import read_run
    from sensitivity.memory import format_memory

    cost = plan(model, windows, options)
    W, T, N = windows.batch.speeds.shape
    kind, lines = "exact", []
    if options.estimate is not None:
        kind = (
            f"estimated with {options.estimate} probes (seed {options.seed_of_probes}) "
            "for each output step"
        )
    else:
        lines.append(
            f"work arrays: {format_memory(cost.network)}, {cost.outputs} outputs at "
            f"once; tables: about {format_memory(cost.tables)}; each of at most "
            f"{options.max_memory}"
        )
        if windows.adjacency is None:
            lines.append("the data set brings no road graph: no hops, no resistance")
        else:
            lines.append(
                "resistance is of the road's weights, the mean of both directions"
            )
        if windows.adjacency is not None and asked.model.graph == "full":
            lines.append(
                "hops are the road graph's; in the learned graph all are one hop apart"
            )
    console.print(
        f"{asked.out}: {kind}, {W} test windows, {len(windows.nodes)} of {N} output "
        f"nodes x {asked.series.horizon} steps by {N} nodes x {T} steps"
    )
    if asked.model.precision != "float32":
        words = precision_in_words(asked.model.precision)
        lines.append(f"measured with {words}, whose rounding would pass for influence")
    if not read_run(asked.out, complete=False).complete:
        lines.append("this run is not complete: its best weights so far")
    for line in lines:
        console.print(line)
