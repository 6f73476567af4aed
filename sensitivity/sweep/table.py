"""The tidy table of a sweep, and its verdicts."""

import numpy as np
import pandas as pd

from sensitivity.bounds import Level, Measured, judge
from sensitivity.power_law import fit_power_law
from sensitivity.statements import STATEMENTS
from sensitivity.sweep.options import SweepOptions

WORDS = ("source", "position", "regularizer", "norm", "dtype", "head", "statement")
COLUMNS = (
    *("T", "source", "position", "regularizer", "norm", "dtype", "seed", "sample"),
    *("head", "statement", "exact", "bound", "ratio", "median_ratio", "rows"),
    "rows_holding",
)


def rows_of_point(options: SweepOptions) -> int:
    """How many rows the table of a point has.

    Args:
        options: The sweep.

    Returns:
        A row per sample, head or layer, and statement.
    """
    return options.samples * (options.layer.heads + 1) * len(STATEMENTS)


def point_table(
    options: SweepOptions, T: int, seed: int, measured: Measured
) -> pd.DataFrame:
    """One row per (sample, head, statement) of one point.

    Args:
        options: The sweep.
        T: Number of time steps.
        seed: The seed.
        measured: What was measured at the point.

    Returns:
        The columns of ``sweep.csv``; ``exact`` and ``bound`` are means over the rows i,
        ``ratio`` the worst row's; empty where a statement speaks of no row.
    """
    rows = []
    levels: tuple[Level, ...] = ("head", "layer")
    for level in levels:
        for one in judge(measured, level):
            fields = one[1:] if level == "head" else (a[:, None] for a in one[1:])
            exact, bound, ratio, holds, counted = fields  # (S, H, R) each
            for sample, head in np.ndindex(exact.shape[:2]):
                here = (sample, head, counted[sample, head])
                own = ratio[here]
                rows.append(
                    {
                        "T": T,
                        "source": options.source,
                        "position": options.layer.position,
                        "regularizer": options.layer.regularizer,
                        "norm": options.measure.norm,
                        "dtype": options.measure.dtype,
                        "seed": seed,
                        "sample": sample,
                        "head": head if level == "head" else "layer",
                        "statement": one.statement,
                        "exact": _mean(exact[here]),
                        "bound": _mean(bound[here]),
                        "ratio": own.max() if own.size else np.nan,
                        "median_ratio": np.median(own) if own.size else np.nan,
                        "rows": own.size,
                        "rows_holding": int(holds[here].sum()),
                    }
                )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else np.nan


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """Judge each statement over a whole sweep.

    Args:
        table: The rows of ``sweep.csv``.

    Returns:
        One row per statement and level: in how many rows it holds, the worst ratio, the
        median of the ``median_ratio``, and the exponent of ``exact`` in T with its 95 %
        interval.
    """
    levels = np.where(table["head"].astype(str) == "layer", "layer", "head")
    rows = []
    for level in ("head", "layer"):
        for statement in STATEMENTS:
            own = table[(levels == level) & (table["statement"] == statement)]
            total, holding = int(own["rows"].sum()), int(own["rows_holding"].sum())
            rows.append(
                {
                    "statement": statement,
                    "level": level,
                    "rows": total,
                    "rows_holding": holding,
                    "holds_share": holding / total if total else np.nan,
                    "worst_ratio": own["ratio"].max(),
                    "median_ratio": own["median_ratio"].median(),
                }
                | exponent(own)
            )
    return pd.DataFrame(rows)


def exponent(table: pd.DataFrame) -> dict[str, float]:
    """Exponent of ``exact`` in T, one point per (T, seed).

    Args:
        table: Rows of one statement.

    Returns:
        ``exponent`` and its 95 % t interval; NaN below three lengths.
    """
    points = table.groupby(["T", "seed"])["exact"].mean().dropna()
    lengths = points.index.get_level_values("T").to_numpy(float)
    eps = float(np.finfo(str(table["dtype"].iloc[0])).eps)
    fit = fit_power_law(lengths, points.to_numpy(float), eps)
    return {
        "exponent": fit.exponent,
        "exponent_low": fit.low,
        "exponent_high": fit.high,
    }
