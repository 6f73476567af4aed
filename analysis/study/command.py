"""Run ``python -m analysis.study``: train what is missing, then tables and pictures."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from analysis.study.grid import Cell, StudyOptions, all_finished, plan

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from models.train.options import TrainOptions
# As the tables call them.
LABELS = {
    "a": "(a) No residual",
    "b": "(b) No regularization",
    "c": "(c) Full diagonal mask",
    "d": "(d) Diagonal dropout",
    "e": "(e) Diagonal penalty",
    "b-diagonal": "(b) No regularization, graph diagonal",
}
MAP_WINDOWS = 256
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m analysis.study``.

    Args:
        argv: Arguments, by default the command line's.

    Returns:
        0 when the study is complete; else the status of the first run that failed, see
        `models.train`, or of the tables. What is finished stays, is compared, and the
        same command goes on; 2 for bad arguments or a folder of another study, and
        nothing is trained.
    """
    try:
        options = tyro.cli(StudyOptions, args=argv, prog="python -m analysis.study")
        return run(options)
    except ValueError as error:
        return _fail(str(error), 2)
    except OSError as error:
        return _fail(f"{error.strerror or error} ({error.filename}).", 1)


def _fail(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


def run(options: StudyOptions) -> int:
    """Train what is missing, then compare all that is finished.

    A run that fails, for its loss is no longer a number, does not keep the others from
    being trained and compared.

    Args:
        options: The study.

    Returns:
        The exit status, see `main`.
    """
    from rich.console import Console

    from models.train.command import train

    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    todo = [missing for cell in plan(options) for missing in cell.missing]
    console.print(
        f"{len(options.windows) * len(options.variants)} cells, {options.seeds} seeds; "
        f"{len(todo)} run(s) to train"
    )
    failed = {}
    for number, missing in enumerate(todo, 1):
        console.rule(f"{number} of {len(todo)}: {missing.out}")
        if status := train(missing, console):
            failed[str(missing.out)] = status
            if status == INTERRUPTED:
                return status
    status = compare(options, console) if all_finished(options) else 0
    for folder, code in failed.items():
        print(f"error: not complete: {folder} (status {code})", file=sys.stderr)
    return next(iter(failed.values()), status)


def compare(options: StudyOptions, console: "Console") -> int:
    """Write tables and pictures of all that is finished in the study's folder.

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

    cells = all_finished(options)
    runs = [str(run.out) for cell in cells for run in cell.finished]
    if status := tables([*runs, "--out", str(options.out / "tables")]):
        return status
    written = [
        _save(options.out / "training-curves.png", training_curves(_epochs(cells)))
    ]
    for window in sorted({cell.window for cell in cells}):
        maps = {
            LABELS[cell.variant]: last_block_map(cell.finished)
            for cell in cells
            if cell.window == window
        }
        title = (
            f"Attention of the last block, {window} -> {window} steps\nmean over "
            f"{MAP_WINDOWS} test windows, all nodes, heads and seeds, evaluation mode"
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


def last_block_map(runs: "list[TrainOptions]", windows: int = MAP_WINDOWS) -> Any:
    """Attention weights of the last block of trained models, on test windows.

    Args:
        runs: Finished runs of one variant.
        windows: Test windows the mean is over, evenly spaced from first to last.

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
        test = prepared.split.test
        starts = test[np.linspace(0, len(test) - 1, windows).round().astype(int)]
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
