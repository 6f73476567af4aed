"""The loop over epochs: train, judge, write down, go on from wherever it stopped."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from data import Prepared
from models.checkpoints import Checkpoint, CheckpointFolder, KeptWeights
from models.early_stopping import TrainState
from models.runs.folder import RunFolder
from models.schedule import learning_rate
from models.train.folder import CHECKPOINTS, KEPT
from models.train.options import FitOptions
from models.train.record import EPOCH_COLUMNS
from models.training import Trainer

_CHECKPOINT_SECONDS = 5.0  # a checkpoint costs a tenth of a second or so


class DivergedError(ArithmeticError):
    """A loss that is no longer a number."""


class Progress(NamedTuple):
    """What a user wants to know after an epoch."""

    epoch: int  # done
    epochs: int  # in all
    loss: Float[np.ndarray, " S"]  # mean of training, in mph; NaN where it has stopped
    mae: Float[np.ndarray, " S"]  # of validation, in mph
    stopped: np.ndarray  # which seeds have stopped early
    seconds: float  # that the epoch took


def fit(
    trainer: Trainer,
    prepared: Prepared,
    options: FitOptions,
    folder: RunFolder,
    report: Callable[[Progress], None],
    keep: Sequence[int] = (),
) -> TrainState:
    """Train, from the last checkpoint on, until seeds have stopped or it is over."""
    checkpoints = CheckpointFolder(folder.path / CHECKPOINTS)
    seeds = options.seed_list()
    state, history = trainer.init(seeds), []
    if (kept := checkpoints.load(state)) is not None:
        state, history = trainer.put(kept.state), kept.history
    elif known := folder.record.get("checkpoint_epoch"):
        raise ValueError(
            f"--out ({folder.path}) holds a run of {known} epochs whose checkpoint "
            "is gone; --overwrite begins it anew."
        )
    _write_history(folder, history)
    weights = None
    if keep:
        weights = KeptWeights(folder.path / KEPT)
        _keep_first(weights, keep, state)
    last_save = -float("inf")  # the first epoch is kept
    for epoch in range(int(np.asarray(state.epoch).max()), options.epochs):
        if np.asarray(state.stopped).all():
            break
        start = time.perf_counter()
        rate = learning_rate(
            epoch, options.epochs, peak=options.learning_rate, warmup=options.warmup
        )
        active = ~np.asarray(state.stopped)
        state, losses = trainer.epoch(state, prepared.split.train, rate)
        losses = np.array(losses)
        _check_losses(losses, active, seeds, epoch, checkpoints.latest())
        mae = validation_mae(trainer, state.params, prepared.split.validation)
        if not np.isfinite(mae[active]).all():  # by the last step: no loss saw it
            losses[active & ~np.isfinite(mae), -1] = np.nan
            _check_losses(losses, active, seeds, epoch, checkpoints.latest())
        state = trainer.judge(state, mae)
        stopped = np.asarray(state.stopped)
        seconds = time.perf_counter() - start
        loss = losses.mean(1)
        for row in np.flatnonzero(active).tolist():
            values = (float(loss[row]), float(mae[row]), rate, seconds)
            told = (epoch + 1, seeds[row], *values)
            history.append(dict(zip(EPOCH_COLUMNS, told, strict=True)))
        if weights is not None and epoch + 1 in keep:
            weights.save(epoch + 1, state.params)
        over = epoch + 1 == options.epochs or bool(stopped.all())
        folder.record["seconds"] = _sum_of_seconds(history)
        if over or time.perf_counter() - last_save > _CHECKPOINT_SECONDS:
            checkpoints.save(epoch + 1, Checkpoint(state, history))
            folder.record["checkpoint_epoch"] = epoch + 1
            folder.save()
            last_save = time.perf_counter()
        _write_history(folder, history)
        report(Progress(epoch + 1, options.epochs, loss, mae, stopped, seconds))
    return state


def _keep_first(weights: KeptWeights, keep: Sequence[int], state: TrainState) -> None:
    """Keep the weights before training; those of later epochs may not be gone."""
    done = int(np.asarray(state.epoch).max())
    if done == 0 and 0 in keep:
        weights.save(0, state.params)
    gone = sorted({epoch for epoch in keep if epoch <= done} - {*weights.epochs()})
    if gone:
        raise ValueError(
            f"--keep-epochs {gone[0]} is over: the run is at epoch {done}, and what "
            "was not kept then is gone; leave it out, or begin anew with --overwrite."
        )


def validation_mae(
    trainer: Trainer, params: Any, starts: Int[np.ndarray, " W"]
) -> Float[np.ndarray, " S"]:
    """Masked MAE over all windows, steps and nodes together, of every seed, in mph."""
    sums = trainer.evaluate(params, starts)
    return np.asarray(sums.absolute).sum(-1) / np.asarray(sums.count).sum(-1)


def _write_history(folder: RunFolder, history: list[dict[str, Any]]) -> None:
    table = pd.DataFrame(history, columns=list(EPOCH_COLUMNS))
    folder.write("metrics.csv", table.to_csv(index=False))


def _sum_of_seconds(history: list[dict[str, Any]]) -> float:
    """Seconds of all epochs, those before a resume too."""
    return sum({row["epoch"]: row["seconds"] for row in history}.values())


def _check_losses(
    losses: Float[np.ndarray, "S steps"],
    active: np.ndarray,
    seeds: list[int],
    epoch: int,
    kept: int | None,
) -> None:
    bad = ~np.isfinite(losses) & active[:, None]
    if not bad.any():
        return
    step, row = np.argwhere(bad.T)[0]
    stays = f"the checkpoint of epoch {kept} stays" if kept else "no checkpoint yet"
    raise DivergedError(
        f"the loss became {losses[row, step]} at step {step + 1} of epoch {epoch + 1} "
        f"(seed {seeds[row]}); {stays}. "
        + ("--resume --epochs 0 tests it. " if kept else "")
        + "A smaller --learning-rate with another --out may help."
    )
