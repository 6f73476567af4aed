"""What came of a run: test errors of its best weights and of the baselines."""

import io

import jax
import numpy as np
import pandas as pd

from data import Prepared
from models.baselines import baselines
from models.early_stopping import TrainState
from models.errors import ErrorSums, array_sums, metric_rows
from models.runs.whole_files import write_whole
from models.train.folder import RunFolder
from models.training import Trainer


def test_all(
    trainer: Trainer,
    prepared: Prepared,
    state: TrainState,
    folder: RunFolder,
    seeds: list[int],
    *,
    keep: bool,
) -> pd.DataFrame:
    """Test the best weights of every seed, and the baselines, on the test split.

    Args:
        trainer: The model and its data.
        prepared: The windows.
        state: After training.
        folder: Where forecasts are kept.
        seeds: The seeds, in order.
        keep: Whether to keep them.

    Returns:
        The rows of ``test.csv``: seed (none for a baseline), model, horizon (the step,
        or their mean), mae and rmse in mph, mape in percent, readings.
    """
    starts, tables = prepared.split.test, []
    sums = trainer.evaluate(state.best, starts)
    for row, seed in enumerate(seeds):
        own: ErrorSums = jax.tree.map(lambda part, r=row: part[r], sums)
        rows = metric_rows(own)
        rows.insert(0, "model", trainer.config.temporal.kind)
        rows.insert(0, "seed", seed)
        tables.append(rows)
    steps = starts[:, None] + prepared.window + np.arange(prepared.horizon)
    targets = prepared.series.values[steps]  # 0 where missing
    for baseline in baselines(prepared):
        rows = metric_rows(array_sums(baseline.predict(starts), targets))
        rows.insert(0, "model", baseline.name)
        rows.insert(0, "seed", np.nan)
        tables.append(rows)
    if keep:
        _keep_predictions(trainer, prepared, state, folder)
    table = pd.concat(tables, ignore_index=True)
    return table.astype({"seed": "Int64", "horizon": str})


def _keep_predictions(
    trainer: Trainer, prepared: Prepared, state: TrainState, folder: RunFolder
) -> None:
    """Write ``predictions.npz``: start (W,) and speeds (S, W, H, N), in mph."""
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
    write_whole(folder.path / "predictions.npz", buffer.getvalue())
