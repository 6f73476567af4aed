"""What training has to reach, and whether a table of measurements reaches it."""

import math

import pandas as pd

from analysis.benchmark._targets import Target, judge
from analysis.benchmark.training._cases import (
    BATCHES_ONLY,
    ONE_SEED,
    OURS,
    OURS_ON_ALL,
    SEEDS_DEFAULT,
    TORCH,
    WHOLE_EPOCH,
)


def targets(table: pd.DataFrame, *, accelerator: bool) -> list[Target]:
    """Judge a run; the sizes of a trial reach nothing.

    Args:
        table: The rows of ``training.csv``.
        accelerator: Whether jax computed on something else than a CPU, where seeds
            side by side have to be cheaper.

    Returns:
        Every target, those that this run did not measure too.
    """
    rows = table[table["size"] != "trial"]
    found = {(row["part"], row["method"]): row for row in rows.to_dict("records")}

    def ratio(part: str, method: str, unit: str, column: str) -> float:
        one, other = found.get((part, method)), found.get((part, unit))
        if one is None or other is None:
            return math.nan
        return float(one[column]) / float(other[column])

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
    return judged
