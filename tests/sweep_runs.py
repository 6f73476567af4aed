"""Small sweeps to look at, and what the command said."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tyro

from analysis.sweep.options import SweepOptions
from sensitivity.sweep import main
from tests.data_files import frame, write
from tests.helpers import run, scratch

SMALL = ("--d-model", "4", "--seeds", "2", "--samples", "2", "--T", "4", "8", "12")
ONE = ("--T", "4", "--seeds", "1")
RESULTS = ("sweep.csv", "verdicts.csv")

SWEEP_COLUMNS = [
    *("T", "source", "position", "regularizer", "norm", "dtype", "seed", "sample"),
    *("head", "statement", "exact", "bound", "ratio", "median_ratio", "rows"),
    *("rows_holding", "run", "layer", "step", "residual"),
]
VERDICT_COLUMNS = [
    *("statement", "level", "rows", "rows_holding", "holds_share", "worst_ratio"),
    *("median_ratio", "exponent", "exponent_low", "exponent_high"),
]
STATEMENTS = [
    *("eq5", "eq6_middle", "eq6", "eq7", "eq8_off_diagonal"),
    *("eq8_off_diagonal_conditional", "eq8_diagonal_as_printed"),
    *("eq8_diagonal_as_printed_per_row", "eq8_diagonal_corrected"),
    *("eq8_off_diagonal_tight", "eq8_diagonal_tight"),
    *("query_max", "query_weighted", "query_centred", "query_covariance"),
]


def sweep(out: Path, *arguments: object) -> int:
    """Run the command; drawn layers are small where nothing else is given."""
    given = {"--checkpoint", "--layers"} & {*map(str, arguments)}
    small = () if given else SMALL
    return run(main, *small, *arguments, "--out", out)


@functools.cache
def finished(*arguments: str) -> Path:
    """A complete sweep, the same for all tests. Leave it as it is."""
    out = scratch() / f"sweep-{'-'.join(arguments)}"
    assert sweep(out, *arguments) == 0
    return out


def options(*arguments: str) -> SweepOptions:
    """What the command makes of its arguments."""
    config = (tyro.conf.OmitArgPrefixes,)
    return tyro.cli(SweepOptions, args=[*SMALL, *arguments], config=config)


def table(out: Path) -> Any:
    """The rows of ``sweep.csv``."""
    return pd.read_csv(out / "sweep.csv", dtype={"head": str})


def verdict_table(out: Path) -> Any:
    """The rows of ``verdicts.csv``."""
    return pd.read_csv(out / "verdicts.csv")


def same(out: Path, other: Path) -> bool:
    """Whether two sweeps have the same bytes."""
    return all((out / f).read_bytes() == (other / f).read_bytes() for f in RESULTS)


def points(out: Path) -> dict[str, int]:
    """Finished points and when they were written."""
    files = (out / "parts").glob("*.csv")
    return {file.name: file.stat().st_mtime_ns for file in files}


def write_traffic(folder: Path) -> Path:
    """Write a small METR-LA file, every third reading missing; its folder."""
    readings = frame(steps=40)
    readings += 5 * np.sin(np.arange(readings.size)).reshape(readings.shape)
    readings.iloc[2::3] = 0
    return write(folder, readings).parent
