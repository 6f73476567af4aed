"""The tidy table of a sweep, and its verdicts."""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.statistics import fit_power_law
from analysis.sweep._points import Point
from analysis.sweep.options import SweepOptions
from sensitivity.bounds import Level, Measured, judge
from sensitivity.equations import STATEMENTS

WORDS = (
    *("source", "position", "regularizer", "norm", "dtype", "head", "statement"),
    "run",
)
COLUMNS = (
    *("T", "source", "position", "regularizer", "norm", "dtype", "seed", "sample"),
    *("head", "statement", "exact", "bound", "ratio", "median_ratio", "rows"),
    *("rows_holding", "run", "layer", "step", "residual"),
)
OF_POINT = (
    *("T", "source", "position", "regularizer", "seed", "run", "layer", "step"),
    "residual",
)


def rows_of_point(options: SweepOptions, point: Point) -> int:
    """How many rows the table of a point has.

    Args:
        options: The sweep.
        point: The point.

    Returns:
        A row per sample, head or layer, and statement.
    """
    levels = options.measure.levels
    each = point.heads * ("head" in levels) + ("layer" in levels)
    return options.samples * each * len(STATEMENTS)


def point_table(
    options: SweepOptions, point: Point, measured: Measured
) -> pd.DataFrame:
    """One row per (sample, head, statement) of one point, its nodes pooled.

    Args:
        options: The sweep.
        point: The point.
        measured: What was measured there.

    Returns:
        The columns of ``sweep.csv``; ``exact`` and ``bound`` are means over the rows i,
        ``ratio`` the worst row's; empty where a statement speaks of no row.
    """
    samples, tables = options.samples, []
    fixed = {name: getattr(point, name) for name in OF_POINT}
    fixed |= {"norm": options.measure.norm, "dtype": options.measure.dtype}
    for level in options.measure.levels:
        heads = np.arange(point.heads) if level == "head" else np.array(["layer"])
        for one in judge(measured, level):
            fields = (_by_head(field, level, samples) for field in one[1:])
            found = {"head": np.tile(heads.astype(object), samples)}
            found |= {"sample": np.repeat(np.arange(samples), len(heads))}
            found |= {name: a.ravel() for name, a in _summary(*fields).items()}
            tables.append(pd.DataFrame(fixed | {"statement": one.statement} | found))
    return pd.concat(tables, ignore_index=True)[list(COLUMNS)]


def _by_head(field: np.ndarray, level: Level, samples: int) -> np.ndarray:
    """Bring (S, [N,] H, R), or (S, [N,] R) of a layer, to (S, H, N R)."""
    field = field[..., None, :] if level == "layer" else field
    return np.moveaxis(field, -2, 1).reshape(samples, field.shape[-2], -1)


def _summary(
    exact: np.ndarray,
    bound: np.ndarray,
    ratio: np.ndarray,
    holds: np.ndarray,
    counted: np.ndarray,
) -> dict[str, np.ndarray]:
    """What is kept of the rows (last axis) that a statement speaks of."""
    rows = counted.sum(-1)
    own = np.where(counted, ratio, np.nan)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # no rows: the result is NaN
        return {
            "exact": np.where(counted, exact, 0).sum(-1) / rows,
            "bound": np.where(counted, bound, 0).sum(-1) / rows,
            "ratio": np.nanmax(own, -1),
            "median_ratio": np.nanmedian(own, -1),
            "rows": rows,
            "rows_holding": (holds & counted).sum(-1),
        }


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """Judge each statement over a whole sweep.

    Args:
        table: The rows of ``sweep.csv``.

    Returns:
        One row per statement and level: in how many rows it holds, the worst ratio, the
        median of the ``median_ratio``, and the exponent of ``exact`` in T with its 95 %
        interval.
    """
    rows = []
    for level in ("head", "layer"):
        at_level = table[_level(table) == level]
        for statement in STATEMENTS if len(at_level) else ():
            own = at_level[at_level["statement"] == statement]
            named = {"statement": statement, "level": level}
            rows.append(named | _verdict(own) | exponent(own))
    return pd.DataFrame(rows)


def verdicts_by(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Judge each statement in parts of a sweep.

    Args:
        table: The rows of ``sweep.csv``.
        names: Columns whose values part it, such as run, layer and head.

    Returns:
        One row per part and statement, as `verdicts` without the exponent.
    """
    keys = [*names, "statement"]
    parts = table.groupby(keys, sort=False)
    return pd.DataFrame(
        [dict(zip(keys, key, strict=True)) | _verdict(own) for key, own in parts]
    )


def _level(table: pd.DataFrame) -> np.ndarray:
    return np.where(table["head"].astype(str) == "layer", "layer", "head")


def _verdict(table: pd.DataFrame) -> dict[str, float]:
    """In how many rows a statement holds, and how tightly."""
    total, holding = int(table["rows"].sum()), int(table["rows_holding"].sum())
    return {
        "rows": total,
        "rows_holding": holding,
        "holds_share": holding / total if total else np.nan,
        "worst_ratio": table["ratio"].max(),
        "median_ratio": table["median_ratio"].median(),
    }


def last_steps(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the last training step of every run and seed.

    Args:
        table: The rows of ``sweep.csv``.

    Returns:
        Those rows; all of layers that are not trained.
    """
    last = table.groupby(["run", "seed"])["step"].transform("max")
    return table[table["step"] == last]


def exponent(table: pd.DataFrame) -> dict[str, float]:
    """Exponent of ``exact`` in T, one point per (T, seed), at the last training step.

    Args:
        table: Rows of one statement.

    Returns:
        ``exponent`` and its 95 % t interval; NaN below three lengths, and where layers
        of different lengths differ in their source, position, regularizer or residual
        too, so that T is not all that moves.
    """
    settings = ["source", "position", "regularizer", "residual"]
    table = last_steps(table)
    alike = {
        frozenset(map(tuple, own[settings].drop_duplicates().to_numpy().tolist()))
        for _, own in table.groupby("T")
    }
    points = table.groupby(["T", "seed"])["exact"].mean().dropna()
    if len(alike) > 1:
        points = points.iloc[:0]
    lengths = points.index.get_level_values("T").to_numpy(float)
    eps = float(np.finfo(str(table["dtype"].iloc[0])).eps)
    fit = fit_power_law(lengths, points.to_numpy(float), eps)
    return {
        "exponent": fit.exponent,
        "exponent_low": fit.low,
        "exponent_high": fit.high,
    }
