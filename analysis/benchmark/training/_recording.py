"""What a run of the training benchmark leaves behind."""

import dataclasses
import importlib
import importlib.util
import json
from typing import Any

import jax
import pandas as pd

from analysis.benchmark.training._cases import MEANINGS, TORCH
from analysis.benchmark.training._matmuls import COUNTED
from analysis.benchmark.training._sizes import MISSING_SHARE, SEED
from analysis.benchmark.training._targets import targets
from analysis.benchmark.training.options import TrainingOptions
from models.runs.environment import environment
from models.runs.whole_files import write_whole


def write(
    options: TrainingOptions,
    table: pd.DataFrame,
    left_out: list[str],
    load: float | None,
) -> None:
    """Write ``training.csv``, and ``training.json`` with all that it depends on.

    Args:
        options: What was asked for.
        table: What has been measured.
        left_out: What has not, and why.
        load: Load average of the machine before the start, if known.
    """
    write_whole(options.out / "training.csv", table.to_csv(index=False))
    accelerator = jax.default_backend() != "cpu"
    measured = set(table["method"])
    torch: Any = None
    if TORCH in measured and importlib.util.find_spec("torch") is not None:
        torch = importlib.import_module("torch")
    judged = targets(table, accelerator=accelerator)
    record = environment() | {
        # Unlike norms, training computes its products as jax does by default.
        "matmul_precision": jax.config.values["jax_default_matmul_precision"]
        or "default",
        "load_average_before": load,
        "devices": len(jax.devices()),
        "torch_threads": None if torch is None else torch.get_num_threads(),
        "dtype": "float32",
        "seed": SEED,
        "missing_share": MISSING_SHARE,
        "arguments": dataclasses.asdict(options) | {"out": options.out.name},
        "methods": {name: MEANINGS[name] for name in table["method"].unique()},
        "matmul_share": COUNTED,
        "left_out": left_out,
        "targets": [target._asdict() for target in judged],
    }
    text = json.dumps(record, indent=2)
    write_whole(options.out / "training.json", text + "\n")
