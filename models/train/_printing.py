"""What a run says while it goes on, and when it is done."""

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from data import Prepared
from models.baselines import Ridge, baselines, ridge_bytes
from models.runs.console import empty_table
from models.runs.folder import RunFolder
from models.schedule import learning_rate
from models.train._loop import Progress
from models.train.options import TrainOptions
from models.training import Trainer

if TYPE_CHECKING:
    from rich.console import Console


def announce(
    console: "Console",
    options: TrainOptions,
    folder: RunFolder,
    trainer: Trainer,
    prepared: Prepared,
) -> None:
    """Say what will be trained, on what; keep it in ``run.json``."""
    import jax

    from models.runs.environment import environment

    model, fitting, series = options.model, options.fit, prepared.series
    parameters = trainer.parameters()
    steps = trainer.steps_in(len(prepared.split.train))
    parts = [len(part) for part in prepared.split]
    regularizer = "" if model.model == "convolution" else f", {model.regularizer}"
    lines = [
        f"{parameters:,} parameters",
        f"{model.model}{regularizer}, {model.layers} layers of width {model.width}, "
        f"{model.stack}, graph {model.graph}"
        f"{'' if model.residual else ', without residual'}",
        f"{series.name}: {len(series.values):,} steps of {len(series.sensor_ids)} "
        f"nodes, {100 * series.missing.mean():.1f} % missing; windows "
        f"{parts[0]:,} / {parts[1]:,} / {parts[2]:,} of {prepared.window} -> "
        f"{prepared.horizon} steps",
        f"{fitting.epochs} epoch(s) of {steps} steps of {fitting.batch_size} windows, "
        f"{fitting.seeds} seed(s)",
    ]
    notes = [f"note: {note}" for note in remarks(options, prepared)]
    for line in [*lines, *notes]:
        console.print(line)
    precision = getattr(jax.config, "jax_default_matmul_precision", None)
    precisions = {"training": precision or "default", "testing": "highest"}
    found = environment() | {"matmul_precision": precisions}
    folder.record |= {
        "parameters": parameters,
        "seeds": fitting.seed_list(),
        "nodes": len(series.sensor_ids),
        "windows": dict(zip(prepared.split._fields, parts, strict=True)),
        "steps_per_epoch": steps,
        "device": found.pop("device"),
        "versions": found.pop("versions"),
        "environment": found,
        "preset": options.preset,
        "devices": fitting.devices,
        "seeds_at_once": fitting.seeds_at_once,  # None: see models.training
        "gaps": time_gaps(prepared)[0],
    }
    folder.save()


def remarks(options: TrainOptions, prepared: Prepared) -> list[str]:
    """What may surprise whoever reads the numbers of a run, in sentences."""
    fitting, said = options.fit, []
    count, longest = time_gaps(prepared)
    if count:
        said.append(
            f"the time axis has {count} gap(s), the longest of {longest}; windows "
            "reach across as if the steps were neighbours."
        )
    if 0 < fitting.epochs <= fitting.warmup:
        peak = learning_rate(
            fitting.epochs - 1, fitting.epochs, peak=1.0, warmup=fitting.warmup
        )
        said.append(
            f"--warmup {fitting.warmup} is not over after --epochs {fitting.epochs}: "
            f"the rate ends at {peak:.2g} of --learning-rate."
        )
    every = len(prepared.split.train) // fitting.batch_size
    if fitting.steps_per_epoch is not None and fitting.steps_per_epoch > every:
        said.append(
            f"--steps-per-epoch {fitting.steps_per_epoch} is more than the {every} "
            "batches there are."
        )
    if not any(isinstance(baseline, Ridge) for baseline in baselines(prepared)):
        said.append(
            "the ridge is left out of the test: it would take "
            f"{ridge_bytes(prepared) / 2**30:.1f} GiB."
        )
    return said


def time_gaps(prepared: Prepared) -> tuple[int, pd.Timedelta]:
    """How many steps are further apart than is commonest, and the furthest distance."""
    apart = pd.Series(prepared.series.time).diff().iloc[1:]
    return int((apart > apart.mode()[0]).sum()), apart.max()


@contextlib.contextmanager
def epoch_report(
    console: "Console", epochs: int
) -> Iterator[Callable[[Progress], None]]:
    """A line per epoch, and on a terminal a bar below them."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    seconds: list[float] = []
    start = time.perf_counter()
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    shown = console.is_terminal
    with Bar(*columns, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task("epochs", total=epochs)

        def report(progress: Progress) -> None:
            seconds.append(progress.seconds)
            left = (epochs - progress.epoch) * expected_seconds(seconds)
            if progress.stopped.all():
                left = 0.0
            words = f"epochs, {_duration(left)} left"
            bar.update(task, completed=progress.epoch, description=words)
            console.print(epoch_line(progress, left))

        yield report
    if seconds:
        console.print(f"trained for {_duration(time.perf_counter() - start)}")


def expected_seconds(seconds: list[float]) -> float:
    """What the next epoch will take: the median of the last five, but for the first."""
    # The first one counts only where it is all there is, as it compiles.
    return float(np.median((seconds[1:] or seconds)[-5:]))


def _duration(seconds: float) -> datetime.timedelta:
    return datetime.timedelta(seconds=round(seconds))


def epoch_line(progress: Progress, left: float) -> str:
    """One epoch in words, and the seconds that the rest is expected to take."""
    active = np.isfinite(progress.loss)
    loss, mae = progress.loss[active].mean(), progress.mae.mean()
    spread = f" ({progress.mae.min():.3f} to {progress.mae.max():.3f})"
    stopped = int(progress.stopped.sum())
    return (
        f"epoch {progress.epoch}/{progress.epochs}: loss {loss:.3f}, validation MAE "
        f"{mae:.3f}{spread if len(progress.mae) > 1 else ''} mph, "
        f"{progress.seconds:.1f} s, {_duration(left)} left"
        f"{f', {stopped} seed(s) stopped' if stopped else ''}"
    )


def test_table(console: "Console", table: pd.DataFrame, horizon: int) -> None:
    """Print the rows of ``test.csv`` at a few steps of the horizon."""
    from rich.box import HEAVY_HEAD

    steps = sorted({max(1, horizon // 4), max(1, horizon // 2), horizon})
    shown = [*map(str, steps), "mean"]
    title = "Test errors, MAE / RMSE (mph) / MAPE (%), at single steps and their mean"
    names = [*(f"step {step}" for step in steps), f"mean of 1 to {horizon}"]
    printed = empty_table(title, ["model"], names, box=HEAVY_HEAD)
    for model, own in table.groupby("model", sort=False):
        means = own.groupby("horizon")[["mae", "rmse", "mape"]].mean()
        seeds = own["seed"].nunique()
        name = f"{model} (mean of {seeds} seeds)" if seeds > 1 else str(model)
        cells = [" / ".join(f"{v:.2f}" for v in means.loc[step]) for step in shown]
        printed.add_row(name, *cells)
    console.print(printed)
