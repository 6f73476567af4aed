"""Folders of made-up training runs, and what the table command makes of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.tables import main
from tests.helpers import run

ARGUMENTS = {
    **{"dataset": "metr-la", "data": "somewhere/metr-la-29", "split": "windows"},
    **{"window": 12, "horizon": 12, "model": "attention", "regularizer": "none"},
    **{"residual": True, "graph": "full", "stack": "time-and-space", "layers": 2},
    **{"penalty": -0.1, "diagonal_dropout": 0.2, "width": 32, "heads": 4},
    **{"time_of_week": False, "epochs": 30, "batch_size": 32, "out": "anywhere"},
}
BASELINES = {"last value": 4.0, "time of week": 4.5, "ridge": 3.75}


def steps(mae: float, H: int) -> list[dict[str, Any]]:
    """Errors that grow by 1 a step; RMSE is twice, MAPE three times the MAE."""
    errors = [mae + step for step in range(H)]
    named = [*zip(map(str, range(1, H + 1)), errors, strict=True)]
    named.append(("mean", sum(errors) / H))
    return [
        {"horizon": step, "mae": x, "rmse": 2 * x, "mape": 3 * x} for step, x in named
    ]


def write_run(
    folder: Path,
    mae: Mapping[int, float] | Sequence[float],
    *,
    record: Mapping[str, Any] | None = None,
    baselines: Mapping[str, float] = BASELINES,
    **arguments: Any,
) -> Path:
    """A finished run: MAE at step 1 by seed, what else run.json says, arguments."""
    errors = dict(mae) if isinstance(mae, Mapping) else dict(enumerate(mae))
    own = ARGUMENTS | arguments
    rows = [
        {"seed": seed, "model": own["model"]} | step
        for seed, error in errors.items()
        for step in steps(error, own["horizon"])
    ]
    rows += [
        {"seed": None, "model": name} | step
        for name, error in baselines.items()
        for step in steps(error, own["horizon"])
    ]
    folder.mkdir(parents=True)
    table = pd.DataFrame(rows).astype({"seed": "Int64"})
    table.to_csv(folder / "test.csv", index=False)
    epochs = [
        {"epoch": epoch, "seed": seed, "loss": 3.0, "validation_mae": 3.0}
        | {"learning_rate": 1e-3, "seconds": 1.0}
        for seed in errors
        for epoch in range(10 + seed)
    ]
    pd.DataFrame(epochs).to_csv(folder / "metrics.csv", index=False)
    said = {"arguments": own, "complete": True, "parameters": 25001}
    said |= {"seeds": [*errors], "device": "cpu", "versions": {}, "seconds": 9.5}
    said |= {"steps_per_epoch": 187, "environment": {"cpu": "Abacus 9", "cores": 2}}
    (folder / "run.json").write_text(json.dumps(said | dict(record or {})))
    return folder


def tables(out: Path, *arguments: object) -> int:
    """Run the command."""
    return run(main, *arguments, "--out", out)


def markdown_rows(path: Path) -> dict[str, dict[str, str]]:
    """The cells of a Markdown table by row and column."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    names, _, *rows = cells
    assert all(len(row) == len(names) for row in rows)
    return {
        f"{rows[k - 1][0]} / {row[0]}" if row[0].startswith("*") else row[0]: dict(
            zip(names, row, strict=True)
        )
        for k, row in enumerate(rows)
    }
