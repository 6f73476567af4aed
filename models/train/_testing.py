"""What came of a run: test errors of its best weights and of the baselines."""

import io

import jax
import numpy as np
import pandas as pd

from data import Prepared
from models.baselines import baselines
from models.early_stopping import TrainState
from models.errors import ErrorSums, array_sums, metric_rows
from models.runs.folder import RunFolder
from models.train.options import TrainOptions
from models.training import Trainer


def test_all(
    trainer: Trainer,
    prepared: Prepared,
    state: TrainState,
    folder: RunFolder,
    options: TrainOptions,
) -> pd.DataFrame:
    """The rows of ``test.csv``: the best weights of every seed, then the baselines."""
    starts, tables = prepared.split.test, []
    sums = trainer.evaluate(state.best, starts)
    for row, seed in enumerate(options.fit.seed_list()):
        own: ErrorSums = jax.tree.map(lambda part, r=row: part[r], sums)
        tables.append(_rows(seed, trainer.config.temporal.kind, own))
    steps = starts[:, None] + prepared.window + np.arange(prepared.horizon)
    targets = prepared.series.values[steps]  # 0 where missing
    for baseline in baselines(prepared):
        own = array_sums(baseline.predict(starts), targets)
        tables.append(_rows(np.nan, baseline.name, own))
    table = pd.concat(tables, ignore_index=True)
    if options.predictions:
        folder.write("predictions.npz", _predictions(trainer, prepared, state))
    return table.astype({"seed": "Int64", "horizon": str})


def _rows(seed: float, model: str, sums: ErrorSums) -> pd.DataFrame:
    rows = metric_rows(sums)
    rows.insert(0, "model", model)
    rows.insert(0, "seed", seed)
    return rows


def _predictions(trainer: Trainer, prepared: Prepared, state: TrainState) -> bytes:
    """``predictions.npz``: start (W,) and speeds (S, W, H, N), in mph."""
    forecasts = [
        trainer.predict(
            jax.tree.map(lambda p, s=seed: p[s], state.best), prepared.split.test
        )
        for seed in range(len(state.best_mae))
    ]
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        start=prepared.split.test,
        speeds=np.stack(forecasts),
        sensor_ids=np.array(prepared.series.sensor_ids),
    )
    return buffer.getvalue()
