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

COLUMNS = (
    *("T", "source", "position", "regularizer", "norm", "dtype", "seed", "sample"),
    *("head", "statement", "exact", "bound", "ratio", "median_ratio", "rows"),
    *("rows_holding", "run", "layer", "step", "residual"),
)
OF_POINT = (
    *("T", "source", "position", "regularizer", "seed", "run", "layer", "step"),
    "residual",
)


def point_table(
    options: SweepOptions, point: Point, measured: Measured
) -> pd.DataFrame:
    """One row per (sample, head, statement) of one point, its nodes pooled."""
    samples, tables = len(measured.heads.value_norm), []
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
    """What is kept of the rows (last axis) that a statement speaks of, if of any."""
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
    """Judge each statement over a whole sweep, at each level."""
    rows = []
    levels = np.where(table["head"].astype(str) == "layer", "layer", "head")
    for level in ("head", "layer"):
        at_level = table[levels == level]
        for statement in STATEMENTS if len(at_level) else ():
            own = at_level[at_level["statement"] == statement]
            named = {"statement": statement, "level": level}
            rows.append(named | _verdict(own) | _exponent(own))
    return pd.DataFrame(rows)


def verdicts_by(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Judge each statement, apart for all values of these columns."""
    keys = [*names, "statement"]
    parts = table.groupby(keys, sort=False)
    return pd.DataFrame(
        [dict(zip(keys, key, strict=True)) | _verdict(own) for key, own in parts]
    )


def _verdict(table: pd.DataFrame) -> dict[str, float]:
    total, holding = int(table["rows"].sum()), int(table["rows_holding"].sum())
    return {
        "rows": total,
        "rows_holding": holding,
        "holds_share": holding / total if total else np.nan,
        "worst_ratio": table["ratio"].max(),
        "median_ratio": table["median_ratio"].median(),
    }


def last_steps(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the last training step of every run and seed."""
    last = table.groupby(["run", "seed"])["step"].transform("max")
    return table[table["step"] == last]


def _exponent(table: pd.DataFrame) -> dict[str, float]:
    """Exponent of ``exact`` in T, a point per (T, seed), at the last training step."""
    settings = ["source", "position", "regularizer", "residual"]
    table = last_steps(table)
    alike = {
        frozenset(map(tuple, own[settings].drop_duplicates().to_numpy().tolist()))
        for _, own in table.groupby("T")
    }
    points = table.groupby(["T", "seed"])["exact"].mean().dropna()
    if len(alike) > 1:  # T is not all that moves
        points = points.iloc[:0]
    lengths = points.index.get_level_values("T").to_numpy(float)
    eps = float(np.finfo(str(table["dtype"].iloc[0])).eps)
    fit = fit_power_law(lengths, points.to_numpy(float), eps)
    return {
        "exponent": fit.exponent,
        "exponent_low": fit.low,
        "exponent_high": fit.high,
    }
