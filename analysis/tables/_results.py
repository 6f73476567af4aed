"""Test errors of one table: every row, step and metric, with its paired difference."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.statistics import paired_difference, spread
from analysis.variants import Variant, labels, partner, variant_of
from models.errors import Metrics
from models.train.record import Run

# Baselines have no seed: two runs on the same data agree but for rounding.
_TOLERANCE = 1e-3


class Results(NamedTuple):
    """What a table shows.

    Attributes:
        rows: Tidy: one row per ``variant`` (its label), ``horizon`` (``"1"`` to
            ``"H"`` and ``"mean"``) and ``metric``, with ``mean`` and ``std`` over
            ``seeds``, and of the paired ``difference`` to the row ``reference`` over
            ``paired_seeds`` the 95 % interval from ``low`` to ``high``. Baselines have
            0 seeds. What cannot be said is NaN.
        seeds: The seeds of each trained variant, by label.
        variants: Each trained variant by its label, in the order of the table.
        runs: All runs behind it.
    """

    rows: pd.DataFrame
    seeds: dict[str, tuple[int, ...]]
    variants: dict[str, Variant]
    runs: list[Run]


def collect(runs: Sequence[Run]) -> Results:
    """Put the test errors of comparable runs side by side.

    Args:
        runs: Runs of one group, see `analysis.variants.group_runs`.

    Returns:
        The results; trained variants in the order of the paper, then baselines.

    Raises:
        ValueError: If a test table is broken, two runs hold the same seed of a variant,
            or their baselines differ, so that they saw different data.
    """
    tests = [run.test() for run in runs]
    sources: dict[Variant, dict[int, Run]] = {}
    errors: dict[Variant, list[pd.DataFrame]] = {}
    for run, test in zip(runs, tests, strict=True):
        variant = variant_of(run)
        _claim(sources.setdefault(variant, {}), variant, run)
        errors.setdefault(variant, []).append(test[test["seed"].notna()])
    named = labels(list(errors))
    by_label = {label: pd.concat(errors[variant]) for variant, label in named.items()}
    rows = []
    for variant, label in named.items():
        other = partner(variant, list(named))
        reference = "" if other is None else named[other]
        rows += _variant_rows(label, by_label[label], reference, by_label)
    for name, table in _baselines(runs, tests).items():
        rows += _baseline_rows(name, table)
    return Results(
        rows=pd.DataFrame(rows),
        seeds={label: tuple(sorted(sources[v])) for v, label in named.items()},
        variants={label: variant for variant, label in named.items()},
        runs=list(runs),
    )


def _claim(seen: dict[int, Run], variant: Variant, run: Run) -> None:
    """Note which run holds which seed of a variant.

    Raises:
        ValueError: If another run holds it already.
    """
    for seed in run.seeds:
        if seed in seen:
            raise ValueError(
                f"each seed of a variant may come once, but seed {seed} of "
                f"{variant.base_label} is in {seen[seed].folder} and in {run.folder}."
            )
        seen[seed] = run


def _baselines(
    runs: Sequence[Run], tests: Sequence[pd.DataFrame]
) -> dict[str, pd.DataFrame]:
    """The errors of each baseline by step, from the first run that has it.

    Returns:
        Tables by the baseline's name.

    Raises:
        ValueError: If another run has other ones.
    """
    found: dict[str, tuple[pd.DataFrame, Run]] = {}
    for run, test in zip(runs, tests, strict=True):
        for name, rows in test[test["seed"].isna()].groupby("model", sort=False):
            table = rows.set_index("horizon")[[*Metrics._fields]]
            first, where = found.setdefault(str(name), (table, run))
            same = np.isclose(
                table.loc[first.index], first, rtol=_TOLERANCE, atol=0, equal_nan=True
            )
            if not same.all():
                raise ValueError(
                    f"the baseline {name!r} must have the same errors in runs of the "
                    f"same settings, but {where.folder} and {run.folder} differ: they "
                    "were tested on different data."
                )
    return {name: table for name, (table, _) in found.items()}


def _variant_rows(
    label: str,
    errors: pd.DataFrame,
    reference: str,
    by_label: Mapping[str, pd.DataFrame],
) -> list[dict[str, Any]]:
    rows = []
    for horizon in dict.fromkeys(errors["horizon"]):
        own = errors[errors["horizon"] == horizon].set_index("seed")
        other = by_label.get(reference, errors.iloc[:0])
        other = other[other["horizon"] == horizon].set_index("seed")
        for metric in Metrics._fields:
            mean, std = spread(own[metric].to_numpy())
            difference = paired_difference(dict(own[metric]), dict(other[metric]))
            rows.append(
                {
                    "variant": label,
                    "horizon": horizon,
                    "metric": metric,
                    "mean": mean,
                    "std": std,
                    "seeds": len(own),
                    "reference": reference,
                    "difference": difference.mean,
                    "low": difference.low,
                    "high": difference.high,
                    "paired_seeds": difference.seeds,
                }
            )
    return rows


def _baseline_rows(name: str, table: pd.DataFrame) -> list[dict[str, Any]]:
    nothing = dict.fromkeys(("std", "difference", "low", "high"), np.nan)
    return [
        {"variant": name, "horizon": horizon, "metric": metric, "mean": mean}
        | {"seeds": 0, "reference": "", "paired_seeds": 0}
        | nothing
        for horizon, errors in table.to_dict("index").items()
        for metric, mean in errors.items()
    ]
