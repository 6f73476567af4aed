"""What the benchmark has to reach, and whether a table of measurements reaches it."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd


class Target(NamedTuple):
    """One number to reach.

    Attributes:
        target: What is claimed.
        wanted: The limit, in words.
        measured: The number of this run, None if there is none.
        unit: Its unit.
        reached: ``"yes"``, ``"no"`` or ``"not measured"``.
    """

    target: str
    wanted: str
    measured: float | None
    unit: str
    reached: str


def targets(table: pd.DataFrame) -> list[Target]:
    """Judge a run by its float32 cells.

    Args:
        table: The rows of ``benchmark.csv``.

    Returns:
        Every target, those that this run did not measure too.
    """
    rows = table[table["dtype"] == "float32"]
    found = {
        (row["method"], row["layer"], row["norm"], row["T"]): row
        for row in rows.to_dict("records")
    }

    def at(method: str, layer: str, norm: str, T: int, column: str) -> float:
        row = found.get((method, layer, norm, T))
        return math.nan if row is None else float(row[column])

    judged = []
    for norm, least in (("frobenius", 500), ("spectral", 100)):
        slow = at("jacrev", "one head", norm, 128, "seconds")
        ratio = slow / at("path_norms", "one head", norm, 128, "seconds")
        name = f"jax.jacrev / path_norms, one head, T=128, {norm}"
        judged.append(judge(name, ">=", least, ratio, "times"))
    for norm, most in (("frobenius", 6), ("spectral", 40)):
        passes = at("profile", "eight heads", norm, 2048, "forward_passes")
        name = f"profile, eight heads, T=2048, {norm}"
        judged.append(judge(name, "<=", most, passes, "forward passes"))
    for T, most in ((16384, 1), (65536, 1.5)):
        peak = at("profile", "eight heads", "frobenius", T, "peak_mib") / 2**10
        name = f"profile, eight heads, T={T}, frobenius: peak"
        judged.append(judge(name, "<", most, peak, "GiB"))
    name = "profile, eight heads, T=1024 to 16384, frobenius: exponent"
    judged.append(judge(name, "<=", 2.1, _exponent(rows), ""))
    cell = ("autodiff", "one head", "frobenius", 1024)
    name = "autodiff, one head, T=1024, frobenius"
    judged.append(judge(f"{name}: time", "<=", 90, at(*cell, "seconds"), "s"))
    peak = at(*cell, "peak_mib") / 2**10
    judged.append(judge(f"{name}: peak", "<=", 2, peak, "GiB"))
    return judged


def judge(name: str, rule: str, limit: float, measured: float, unit: str) -> Target:
    """Compare a number with its limit.

    Args:
        name: What is claimed.
        rule: ``">="``, ``"<="`` or ``"<"``.
        limit: The limit.
        measured: The number, NaN if there is none.
        unit: Its unit.

    Returns:
        The verdict.

    Example:
        >>> judge("input pipeline", "<", 5, 1.25, "%").reached
        'yes'
    """
    wanted = f"{rule} {limit:g} {unit}".strip()
    if math.isnan(measured):
        return Target(name, wanted, None, unit, "not measured")
    good = {
        ">=": measured >= limit,
        "<=": measured <= limit,
        "<": measured < limit,
    }[rule]
    return Target(name, wanted, measured, unit, "yes" if good else "no")


def _exponent(rows: pd.DataFrame) -> float:
    """Slope of log seconds on log T; NaN unless the range is spanned by three."""
    kept = rows[
        (rows["method"] == "profile")
        & (rows["layer"] == "eight heads")
        & (rows["norm"] == "frobenius")
        & rows["T"].between(1024, 16384)
        & rows["seconds"].notna()
    ]
    if len(kept) < 3 or kept["T"].min() > 1024 or kept["T"].max() < 16384:
        return math.nan
    return float(np.polyfit(np.log(kept["T"]), np.log(kept["seconds"]), 1)[0])
