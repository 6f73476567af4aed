"""Run ``python -m analysis.study``: train what is missing, then tables and pictures."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from analysis.study._grid import Cell, StudyOptions, all_finished, plan

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
    "b-tts": "(b) No regularization, time then space",
    "convolution": "Convolution",
    "convolution-tts": "Convolution, time then space",
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
    cells = plan(options)
    _check_kept(options, cells)
    todo = [missing for cell in cells for missing in cell.missing]
    console.print(
        f"{len(cells)} cells, {options.seeds} seeds; {len(todo)} run(s) to train"
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


def _check_kept(options: StudyOptions, cells: list[Cell]) -> None:
    """Refuse to pass over finished runs that did not keep what is asked for.

    Raises:
        ValueError: Naming the run and the epochs.
    """
    if not options.keep_epochs:
        return
    from models.train.restore import kept_epochs

    for done in (run for cell in cells for run in cell.finished):
        gone = {*options.keep_epochs} - {*kept_epochs(done.out)}
        if gone:
            raise ValueError(
                f"--keep-epochs {min(gone)} is over for {done.out}, which is finished "
                "and did not keep it; leave it out, or choose another --out."
            )


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
    from analysis.plots.training import attention_maps, training_curves
    from analysis.tables.command import main as tables

    cells = all_finished(options)
    runs = [str(run.out) for cell in cells for run in cell.finished]
    if status := tables([*runs, "--out", str(options.out / "tables")]):
        return status
    written = [
        _save(options.out / "training-curves.png", training_curves(_epochs(cells)))
    ]
    attention = [cell for cell in cells if cell.finished[0].model.heads is not None]
    for window in sorted({cell.key.window for cell in attention}):
        maps = {
            _label(cell, cells): last_block_map(cell.finished)
            for cell in attention
            if cell.key.window == window
        }
        name = options.folder(window).name
        title = (
            f"Attention of the last block, {name.replace('-', ' -> ')} steps\nmean "
            f"over {MAP_WINDOWS} test windows, all nodes, heads and seeds, evaluation "
            "mode"
        )
        path = options.out / f"attention-{name}.png"
        written.append(_save(path, attention_maps(maps, title)))
    console.print(
        f"wrote tables, {', '.join(written)} in {options.out}", soft_wrap=True
    )
    return 0


def _label(cell: Cell, cells: list[Cell]) -> str:
    """A cell in words, its depth among them where depths differ."""
    label, layers = LABELS[cell.key.variant], cell.key.layers
    several = len({other.key.layers for other in cells}) > 1
    return f"{label}, {layers} layers" if several else label


def _epochs(cells: list[Cell]) -> "pd.DataFrame":
    """The rows of ``metrics.csv`` of every run, with its variant and window."""
    import pandas as pd

    tables = []
    for cell in cells:
        for run in cell.finished:
            table = pd.read_csv(run.out / "metrics.csv")
            table["variant"] = _label(cell, cells)
            table["window"] = cell.key.window
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
    import numpy as np

    from models.train.restore import best_models, restore, spread_windows

    maps = []
    for options in runs:
        run = restore(options)
        batch = spread_windows(run.prepared, windows)
        for _, _, model in best_models(run):
            seen = model.attention_maps(batch.speeds, batch.time_of_day, batch.average)
            maps.append(np.asarray(seen[-1]))
    return np.mean(maps, axis=0)


def _save(path: Path, figure: Any) -> str:
    from models.runs.whole_files import write_whole

    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:], dpi=150)
    write_whole(path, buffer.getvalue())
    return path.name
