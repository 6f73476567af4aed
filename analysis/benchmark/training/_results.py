"""What a run found: its table, the targets of training, and the files it leaves."""

import dataclasses
import importlib
import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import pandas as pd
from rich.table import Table

from analysis.benchmark._results import Target, duration, judge
from analysis.benchmark.training._cases import (
    BATCHES_ONLY,
    CURES_MEASURED,
    MEANINGS,
    ONE_SEED,
    OURS,
    OURS_ON_ALL,
    PLAIN,
    QUERY,
    SEEDS_DEFAULT,
    TORCH,
    WHOLE_EPOCH,
)
from analysis.benchmark.training._epochs import MISSING_SHARE, SEED, TRIAL
from analysis.benchmark.training._timing import COUNTED
from models.runs.console import empty_table
from models.runs.environment import environment
from models.runs.whole_files import write_whole

# ``seconds`` is the fastest call of ``steps`` training steps; compiling is apart, and
# NaN for what is not compiled. ``planned_mib`` is what XLA plans between arguments and
# results, ``matmul_share`` in [0, 1].
COLUMNS = (
    *("part", "method", "size", "series_steps", "nodes", "window", "horizon", "width"),
    *("heads", "layers", "batch", "seeds", "devices", "steps", "steps_per_epoch"),
    *("seconds", "seconds_per_step", "slowest_seconds", "rounds", "compile_seconds"),
    *("planned_mib", "matmul_share"),
)


def tidy(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The rows of ``training.csv``, one per part and method; possibly none."""
    return pd.DataFrame(rows, columns=list(COLUMNS))


def targets(table: pd.DataFrame, *, accelerator: bool) -> list[Target]:
    """Judge a run; on an accelerator seeds side by side have to be cheaper."""
    rows = table[table["size"] != TRIAL].set_index(["part", "method"])
    found = rows.to_dict("index")

    def ratio(part: str, method: str, unit: str, column: str) -> float:
        one, other = found.get((part, method)), found.get((part, unit))
        return float(one[column]) / float(other[column]) if one and other else math.nan

    judged = []
    for method in (OURS, OURS_ON_ALL):
        name = f"training step, reference's sizes, 29 nodes: {method} / {TORCH}"
        times = ratio("step", method, TORCH, "seconds_per_step")
        judged.append(judge(name, "<=", 0.7, times, "times"))
    name = "4 seeds, the trainer's choice / 1 seed, small preset"
    times = ratio("seeds", SEEDS_DEFAULT, ONE_SEED, "seconds_per_step")
    rule, most = ("<", 2.5) if accelerator else ("<=", 4.5)
    judged.append(judge(name, rule, most, times, "times"))
    name = "input pipeline / a whole epoch, small preset"
    percent = 100 * ratio("input", BATCHES_ONLY, WHOLE_EPOCH, "seconds")
    judged.append(judge(name, "<", 5, percent, "%"))
    times = {m: ratio("cures", m, PLAIN, "seconds_per_step") for m in CURES_MEASURED}
    name = "a step with the query path in the loss / without, small preset"
    judged.append(judge(name, "<=", 1.6, times.pop(QUERY), "times"))
    name = "a step with the dearest other cure / without, small preset"
    judged.append(judge(name, "<=", 1.25, max(times.values()), "times"))
    return judged


def step_table(table: pd.DataFrame) -> Table:
    """Every method, to print."""
    title = "Cost of training (a step of 4 seeds is one of each)"
    names = ("part", "method", "nodes")
    numbers = ("a step", "timed steps", "in an epoch", "compiling", "products")
    shown = empty_table(title, names, numbers, title_justify="left")
    for row in table.to_dict("records"):
        compiling, share = row["compile_seconds"], row["matmul_share"]
        shown.add_row(
            *(str(row[name]) for name in names),
            duration(row["seconds_per_step"]),
            f"{row['rounds']} x {row['steps']}",
            str(row["steps_per_epoch"]),
            "" if pd.isna(compiling) else f"{compiling:.1f} s",
            "" if pd.isna(share) else f"{share:.0%}",
        )
    return shown


def part_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A part that has just been measured, a line per method."""
    return [
        f"{row['part']}, {row['method']}: {duration(row['seconds_per_step'])} a step "
        f"({row['size']}, {row['nodes']} nodes, batch {row['batch']})"
        for row in rows
    ]


def write(
    out: Path,
    options: Any,  # the dataclass of the command
    table: pd.DataFrame,
    left_out: Sequence[str],
    load: float | None,  # of the machine before the start, if known
) -> list[Target]:
    """Write ``training.csv``, and ``training.json`` with all that it depends on."""
    write_whole(out / "training.csv", table.to_csv(index=False))
    torch: Any = None
    if TORCH in set(table["method"]) and importlib.util.find_spec("torch") is not None:
        torch = importlib.import_module("torch")
    judged = targets(table, accelerator=jax.default_backend() != "cpu")
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
        "arguments": dataclasses.asdict(options) | {"out": out.name},
        "methods": {name: MEANINGS[name] for name in table["method"].unique()},
        "matmul_share": COUNTED,
        "left_out": left_out,
        "targets": [target._asdict() for target in judged],
    }
    write_whole(out / "training.json", json.dumps(record, indent=2) + "\n")
    return judged
