"""Run ``python -m analysis.study``: train what is missing, then tables and pictures."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.study._grid import Cell, StudyOptions, all_finished, plan
from analysis.variants import depth_in_words, name_of
from models.runs.command import one_line, run_command
from models.runs.console import open_console
from models.runs.entry import INTERRUPTED

if TYPE_CHECKING:
    import pandas as pd

    from models.runs.folder import RunFolder
    from models.train.options import TrainOptions

MAP_WINDOWS = 256
# What a study of version 0.1.0 left, which had no ``run.json`` of its own.
_THERE = ("[0-9]*-[0-9]*", "tables", "training-curves.png", "attention-*.png")


def _allowed(out: Path) -> tuple[str, ...]:
    """What may lie in a study's folder without a record: of 0.1.0, anything."""
    return ("*",) if any(out.glob(_THERE[0])) else _THERE


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m analysis.study``.

    Args:
        argv: Arguments, by default the command line's.

    Returns:
        0 when the study is complete; else the status of the first run that failed, or
        of the tables, or that of `run_command`.
    """
    return run_command(
        StudyOptions,
        run,
        argv,
        prog="python -m analysis.study",
        stays=lambda options: (
            f"what is trained in {options.out} stays, and the same command goes on."
        ),
    )


def run(options: StudyOptions) -> int:
    """Train what is missing, whatever fails, then compare all that is finished."""
    from models.runs.folder import RunFolder
    from models.train.command import train

    _plan(options)  # refused before anything is written
    console, failed = open_console(), {}
    asked = {name: getattr(options, name) for name in options.__slots__}
    with RunFolder(
        options.out,
        "analysis.study",
        asked,
        same=lambda *_: [],  # runs know of which settings they are
        allows=_allowed(options.out),
    ) as folder:
        folder.record["arguments"] = asked
        folder.save()
        cells = _plan(options)
        todo = [missing for cell in cells for missing in cell.missing]
        console.print(
            f"{len(cells)} cells, {options.seeds} seeds; {len(todo)} run(s) to train"
        )
        for number, missing in enumerate(todo, 1):
            console.rule(f"{number} of {len(todo)}: {missing.out}")
            if status := train(missing, console):
                failed[str(missing.out)] = status
                if status == INTERRUPTED:
                    return status
        status = 0
        if there := all_finished(options):
            status, names = compare(options, there, folder)
            console.print(f"wrote {', '.join(names)} in {options.out}")
        folder.record["complete"] = not (failed or status)
        folder.save()
    for name, code in failed.items():
        print(f"error: not complete: {name} (status {code})", file=sys.stderr)
    return next(iter(failed.values()), status)


def _plan(options: StudyOptions) -> list[Cell]:
    """The plan, where no finished run lacks the weights that are to be kept."""
    cells = plan(options)
    if not options.keep_epochs:
        return cells
    from models.train.restore import kept_epochs

    for done in (run for cell in cells for run in cell.finished):
        if gone := {*options.keep_epochs} - {*kept_epochs(done.out)}:
            raise ValueError(
                f"--keep-epochs {min(gone)} is over for {done.out}, which is finished "
                "and did not keep it; leave it out, or choose another --out."
            )
    return cells


def compare(
    options: StudyOptions, cells: list[Cell], folder: "RunFolder"
) -> tuple[int, list[str]]:
    """Write tables and pictures; returns the status of the tables, and names."""
    from analysis.plots.training import attention_maps, training_curves
    from analysis.tables.command import TableOptions
    from analysis.tables.command import run as tables

    runs = tuple(run.out for cell in cells for run in cell.finished)
    if status := one_line(tables, TableOptions(runs=runs, out=options.out / "tables")):
        return status, []
    names = ["tables", "training-curves.png"]
    folder.write_figure("training-curves", training_curves(_epochs(cells)))
    attention = [cell for cell in cells if cell.finished[0].model.heads is not None]
    for window in sorted({cell.key.window for cell in attention}):
        maps = {
            label_of(cell, cells): last_block_map(cell.finished)
            for cell in attention
            if cell.key.window == window
        }
        name = options.folder(window).name
        title = (
            f"Attention of the last block, {name.replace('-', ' -> ')} steps\nmean "
            f"over at most {MAP_WINDOWS} test windows, all nodes, heads and seeds, "
            "evaluation mode"
        )
        folder.write_figure(f"attention-{name}", attention_maps(maps, title))
        names.append(f"attention-{name}.png")
    return 0, names


def label_of(cell: Cell, cells: list[Cell]) -> str:
    """A cell as the tables call it, its depth in words where depths differ."""
    name, depth = name_of(cell.finished[0].model), depth_in_words(cell.key.layers)
    several = len({other.key.layers for other in cells}) > 1
    return f"{name}, {depth}" if several else name


def _epochs(cells: list[Cell]) -> "pd.DataFrame":
    """The rows of ``metrics.csv`` of every run, with its variant and window."""
    import pandas as pd

    tables = []
    for cell in cells:
        for run in cell.finished:
            table = pd.read_csv(run.out / "metrics.csv")
            table["variant"] = label_of(cell, cells)
            table["window"] = cell.key.window
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def last_block_map(runs: "list[TrainOptions]") -> Any:
    """Mean attention weights over windows, nodes, heads and seeds, shape (T, T)."""
    import numpy as np

    from models.train.restore import best_models, restore, spread_windows

    maps = []
    for options in runs:
        run = restore(options)
        count = min(MAP_WINDOWS, len(run.prepared.split.test))
        batch = spread_windows(run.prepared, count)
        for _, _, model in best_models(run):
            seen = model.attention_maps(batch.speeds, batch.time_of_day, batch.average)
            maps.append(np.asarray(seen[-1]))
    return np.mean(maps, axis=0)
