"""What a run of the benchmark found: its table, and the targets it has to reach."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from rich.table import Table
from rich.text import Text

from analysis.benchmark._measure import Measurement
from models.runs.console import empty_table


def tidy(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The rows of ``benchmark.csv``: a cell and its cost, also in forward passes."""
    table = pd.DataFrame(rows)
    key = ["layer", "T", "dtype"]
    forward = table[table["method"] == "forward"].set_index(key)["seconds"]
    beside = forward.reindex(pd.MultiIndex.from_frame(table[key])).to_numpy(float)
    own = table["unit_seconds"].to_numpy(float)
    table["unit_seconds"] = np.where(np.isnan(own), beside, own)
    table["forward_passes"] = table["seconds"] / table["unit_seconds"]
    last = ["repeats", "status"]
    return table[[*table.columns.drop(last), *last]]


class Target(NamedTuple):
    """One number to reach."""

    target: str  # what is claimed
    wanted: str  # the limit, in words
    measured: float | None
    unit: str
    reached: str  # "yes", "no" or "not measured"


def judge(name: str, rule: str, limit: float, measured: float, unit: str) -> Target:
    """Compare a number with its limit; NaN is not measured."""
    wanted = f"{rule} {limit:g} {unit}".strip()
    if math.isnan(measured):
        return Target(name, wanted, None, unit, "not measured")
    good = {
        ">=": measured >= limit,
        "<=": measured <= limit,
        "<": measured < limit,
    }[rule]
    return Target(name, wanted, measured, unit, "yes" if good else "no")


_UNITS = {"seconds": "s", "forward_passes": "forward passes", "peak_mib": "GiB"}

# What had to be reached: method, layer, norm, T, dtype, column, rule, limit.
_LIMITS: tuple[tuple[Any, ...], ...] = (
    *(
        ("profile", *row)
        for row in (
            ("one head", "frobenius", 128, "float32", "forward_passes", "<=", 60),
            ("eight heads", "frobenius", 2048, "float32", "forward_passes", "<=", 5),
            ("eight heads", "spectral", 2048, "float32", "forward_passes", "<=", 25),
            ("eight heads", "frobenius", 16384, "float32", "peak_mib", "<", 1),
            ("eight heads", "frobenius", 65536, "float32", "peak_mib", "<", 1.5),
            ("eight heads", "frobenius", 65536, "float32", "seconds", "<", 360),
            ("bert", "frobenius", 128, "float32", "forward_passes", "<=", 25),
            ("bert", "frobenius", 128, "float64", "forward_passes", "<=", 60),
            ("bert", "spectral", 128, "float32", "forward_passes", "<=", 120),
        )
    ),
    *(
        ("path_norms", *row)
        for row in (
            ("bert", "frobenius", 128, "float32", "forward_passes", "<=", 40),
            ("bert", "frobenius", 128, "float32", "peak_mib", "<", 1),
            ("bert", "frobenius", 512, "float32", "forward_passes", "<=", 60),
            ("bert", "frobenius", 512, "float32", "peak_mib", "<", 2),
            ("bert", "spectral", 32, "float32", "seconds", "<=", 5),
        )
    ),
    ("check_bounds", "bert", "frobenius", 128, "float32", "seconds", "<", 90),
    ("autodiff", "one head", "frobenius", 1024, "float32", "seconds", "<=", 90),
    ("autodiff", "one head", "frobenius", 1024, "float32", "peak_mib", "<=", 2),
)


def targets(table: pd.DataFrame) -> list[Target]:
    """Judge a run by what had to be reached; what was not measured is in it too."""
    index = ["method", "layer", "norm", "T", "dtype"]
    found = table.set_index(index).to_dict("index")

    def at(*cell: Any, column: str) -> float:
        row = found.get(cell)
        return math.nan if row is None else float(row[column])

    judged = []
    for norm, least in (("frobenius", 500), ("spectral", 100)):
        cell = ("one head", norm, 128, "float32")
        slow = at("jacrev", *cell, column="seconds")
        ratio = slow / at("path_norms", *cell, column="seconds")
        name = f"jax.jacrev / path_norms, one head, T=128, {norm}"
        judged.append(judge(name, ">=", least, ratio, "times"))
    for *cell, column, rule, limit in _LIMITS:
        method, layer, norm, T, dtype = cell
        name = f"{method}, {layer}, T={T}, {norm}"
        name += ", float64" * (dtype == "float64") + ": peak" * (column == "peak_mib")
        number = at(*cell, column=column) / (2**10 if column == "peak_mib" else 1)
        judged.append(judge(name, rule, limit, number, _UNITS[column]))
    name = "profile, eight heads, T=1024 to 16384, frobenius: exponent"
    judged.append(judge(name, "<=", 2.1, _exponent(table), ""))
    return judged


def _exponent(rows: pd.DataFrame) -> float:
    """Slope of log seconds on log T; NaN unless the range is spanned by three."""
    kept = rows[
        (rows["method"] == "profile")
        & (rows["layer"] == "eight heads")
        & (rows["norm"] == "frobenius")
        & (rows["dtype"] == "float32")
        & rows["T"].between(1024, 16384)
        & rows["seconds"].notna()
    ]
    if len(kept) < 3 or kept["T"].min() > 1024 or kept["T"].max() < 16384:
        return math.nan
    return float(np.polyfit(np.log(kept["T"]), np.log(kept["seconds"]), 1)[0])


def cost_line(measured: Measurement) -> str:
    """One cell in one line: its time and memory, or why there is none."""
    if measured.status != "ok":
        return measured.status
    return (
        f"{duration(measured.seconds)}, compiling {measured.compile_seconds:.1f} s, "
        f"peak {measured.peak_mib:.0f} MiB"
    )


def cost_table(table: pd.DataFrame) -> Table:
    """Every cell, to print."""
    title = "Cost of one call (passes: in forward passes of the same layer)"
    names = ("layer", "norm", "T", "dtype", "method")
    numbers = ("time", "compiling", "planned", "peak", "passes")
    shown = empty_table(title, names, numbers, title_justify="left")
    order = table.sort_values(
        ["layer", "norm", "T"], kind="stable", ascending=[False, True, True]
    )
    for row in order.to_dict("records"):
        passes = row["forward_passes"]
        cost = (
            duration(row["seconds"]),
            f"{row['compile_seconds']:.1f} s",
            "" if pd.isna(row["planned_mib"]) else f"{row['planned_mib']:.0f} MiB",
            f"{row['peak_mib']:.0f} MiB",
            "" if pd.isna(passes) else f"{passes:,.1f}",
        )
        shown.add_row(
            *(str(row[name]) for name in names),
            *(cost if row["status"] == "ok" else (row["status"], "", "", "", "")),
        )
    return shown


def target_table(judged: Sequence[Target]) -> Table:
    """What had to be reached, and whether it was, to print."""
    names, look = ("target", "wanted", "measured", "reached"), {"title_justify": "left"}
    shown = empty_table("Had to be reached", names, wraps=("target",), **look)
    for row in judged:
        number = "" if row.measured is None else f"{row.measured:.3g} {row.unit}"
        style = {"yes": "green", "no": "red"}.get(row.reached, "dim")
        shown.add_row(row.target, row.wanted, number, Text(row.reached, style))
    return shown


def duration(seconds: float) -> str:
    """A time as one reads it: milliseconds below a second."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
