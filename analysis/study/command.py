"""Run ``python -m analysis.study``: train what is missing, then tables and pictures."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from analysis.study.grid import Cell, StudyOptions, plan

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from models.train.options import TrainOptions

LABELS = {
    "a": "(a) without residual",
    "b": "(b) baseline",
    "c": "(c) diagonal mask",
    "d": "(d) diagonal dropout",
    "e": "(e) diagonal penalty",
    "b-diagonal": "(b) diagonal graph",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m analysis.study``.

    Args:
        argv: Arguments, by default the command line's.

    Returns:
        0 when the study is complete; else the status of the run that failed, see
        `models.train`. What is finished stays, and the same command goes on.
    """
    try:
        options = tyro.cli(StudyOptions, args=argv, prog="python -m analysis.study")
    except ValueError as error:  # raised by the options' own checks
        print(f"error: {error}", file=sys.stderr)
        return 2
    return run(options)


def run(options: StudyOptions) -> int:
    """Train what is missing, then compare.

    Args:
        options: The study.

    Returns:
        The exit status, see `main`.
    """
    from rich.console import Console

    from models.train.command import train

    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    todo = [cell.missing for cell in plan(options) if cell.missing is not None]
    console.print(
        f"{len(options.windows) * len(options.variants)} cells, {options.seeds} seeds; "
        f"{len(todo)} to train"
    )
    for number, missing in enumerate(todo, 1):
        console.rule(f"{number} of {len(todo)}: {missing.out}")
        if status := train(missing, console):
            return status
    return compare(options, console)


def compare(options: StudyOptions, console: "Console") -> int:
    """Write tables and pictures of a complete study.

    Args:
        options: The study.
        console: Where to print.

    Returns:
        The exit status of the tables.
    """
    import matplotlib

    matplotlib.use("Agg")
    from analysis.tables.command import main as tables
    from analysis.training_plots import attention_maps, training_curves

    cells = plan(options)
    runs = [str(run.out) for cell in cells for run in cell.finished]
    if status := tables([*runs, "--out", str(options.out / "tables")]):
        return status
    written = [
        _save(options.out / "training-curves.png", training_curves(_epochs(cells)))
    ]
    for window in sorted(options.windows):
        maps = {
            LABELS[cell.variant]: last_block_map(cell.finished)
            for cell in cells
            if cell.window == window
        }
        title = (
            f"Attention of the last block, {window} -> {window} steps: mean over "
            "windows, nodes, heads and seeds, evaluation mode"
        )
        path = options.out / f"attention-{window}-{window}.png"
        written.append(_save(path, attention_maps(maps, title)))
    console.print(
        f"wrote tables, {', '.join(written)} in {options.out}", soft_wrap=True
    )
    return 0


def _epochs(cells: list[Cell]) -> "pd.DataFrame":
    """The rows of ``metrics.csv`` of every run, with its variant and window."""
    import pandas as pd

    tables = []
    for cell in cells:
        for run in cell.finished:
            table = pd.read_csv(run.out / "metrics.csv")
            table["variant"], table["window"] = LABELS[cell.variant], cell.window
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def last_block_map(runs: "list[TrainOptions]", windows: int = 256) -> Any:
    """Attention weights of the last block of trained models, on test windows.

    Args:
        runs: Finished runs of one variant.
        windows: Test windows the mean is over, evenly spaced.

    Returns:
        Mean over windows, nodes, heads and seeds, shape (T, T), in evaluation mode.
    """
    import jax
    import numpy as np

    from data import gather
    from models.train.restore import restore

    maps = []
    for run in runs:
        trainer, prepared, state = restore(run)
        every = max(len(prepared.split.test) // windows, 1)
        starts = prepared.split.test[::every][:windows]
        batch = gather(prepared.arrays, starts, prepared.window, prepared.horizon)
        for seed in range(len(state.best_mae)):
            params = jax.tree.map(lambda part, s=seed: part[s], state.best)
            model = trainer.model(params)
            seen = model.attention_maps(batch.speeds, batch.time_of_day, batch.average)
            maps.append(np.asarray(seen[-1]))
    return np.mean(maps, axis=0)


def _save(path: Path, figure: Any) -> str:
    from data.whole_files import write_whole

    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:], dpi=150)
    write_whole(path, buffer.getvalue())
    return path.name
