"""Test errors of one table: every row, step and metric, with its paired difference."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.statistics import paired_difference, spread
from analysis.variants import (
    Variant,
    check_each_seed_once,
    labels,
    partner,
    variant_of,
)
from models.errors import Metrics
from models.train.record import Run

# Baselines have no seed: two runs on the same data agree but for rounding.
_TOLERANCE = 1e-3


class Results(NamedTuple):
    """What a table shows; trained variants by label, in the order of the table."""

    # Per variant, horizon ("1" to "H" and "mean") and metric: mean and std over seeds,
    # and of the paired difference to the reference low and high of its 95 % interval.
    # A baseline has 0 seeds. What cannot be said is NaN.
    rows: pd.DataFrame
    seeds: dict[str, tuple[int, ...]]
    variants: dict[str, Variant]
    runs: list[Run]


def collect(runs: Sequence[Run]) -> Results:
    """Comparable runs side by side, or an error: double seeds, different data."""
    tests = [run.test() for run in runs]
    of_run = [variant_of(run) for run in runs]
    check_each_seed_once(
        (variant, variant.base_label, run.seeds, run.folder)
        for variant, run in zip(of_run, runs, strict=True)
    )
    named = labels(list(dict.fromkeys(of_run)))
    errors, seeds = {}, {}
    for variant, label in named.items():
        own = [k for k, other in enumerate(of_run) if other == variant]
        errors[label] = pd.concat([tests[k].dropna(subset="seed") for k in own])
        seeds[label] = tuple(sorted(seed for k in own for seed in runs[k].seeds))
    rows = []
    for variant, label in named.items():
        other = partner(variant, list(named))
        reference = "" if other is None else named[other]
        of_other = errors.get(reference, errors[label].iloc[:0])
        rows += _rows(label, errors[label], len(seeds[label]), reference, of_other)
    for name, table in _baselines(runs, tests).items():
        rows += _rows(name, table, 0, "", table.iloc[:0])
    variants = {label: variant for variant, label in named.items()}
    return Results(pd.DataFrame(rows), seeds, variants, list(runs))


def _baselines(
    runs: Sequence[Run], tests: Sequence[pd.DataFrame]
) -> dict[str, pd.DataFrame]:
    """The errors of each baseline, from the first run that has it."""
    found: dict[str, tuple[pd.DataFrame, Run]] = {}
    metrics = [*Metrics._fields]
    for run, test in zip(runs, tests, strict=True):
        for name, rows in test[test["seed"].isna()].groupby("model", sort=False):
            first, where = found.setdefault(str(name), (rows, run))
            one, two = (t.set_index("horizon")[metrics] for t in (first, rows))
            same = np.isclose(
                two.loc[one.index], one, rtol=_TOLERANCE, atol=0, equal_nan=True
            )
            if not same.all():
                raise ValueError(
                    f"the baseline {name!r} must have the same errors in runs of the "
                    f"same settings, but {where.folder} and {run.folder} differ: they "
                    "were tested on different data."
                )
    return {name: table for name, (table, _) in found.items()}


def _rows(
    label: str, errors: pd.DataFrame, seeds: int, reference: str, others: pd.DataFrame
) -> list[dict[str, Any]]:
    rows = []
    for horizon, own in errors.groupby("horizon", sort=False):
        other = others[others["horizon"] == horizon]
        for metric in Metrics._fields:
            by_seed, of_other = (
                dict(zip(table["seed"], table[metric], strict=True))
                for table in (own, other)
            )
            gap = paired_difference(by_seed, of_other)
            rows.append(
                {"variant": label, "horizon": horizon, "metric": metric}
                | spread([*by_seed.values()])._asdict()
                | {"seeds": seeds, "reference": reference}
                | {"difference": gap.mean, "low": gap.low, "high": gap.high}
                | {"paired_seeds": gap.seeds}
            )
    return rows
