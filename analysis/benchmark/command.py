"""What every influence in a window costs, against what one would do without us.

Run ``python -m analysis.benchmark``: time (compiling apart) and peak memory of the
closed form, of row-streamed and plain automatic differentiation, of PyTorch's where it
is installed, and of one forward pass, the unit; then what had to be reached. A cell is
one process, and its peak is that of the whole process. ``--layers bert`` measures the
closed form at a real size, and the verdicts on a whole model of twelve such layers.
"""

import dataclasses
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from analysis.benchmark._methods import (
    MEANINGS,
    NARROW,
    SEED,
    SIZES,
    Cell,
    DtypeName,
    LayerName,
    Method,
    NormName,
    cells,
    longest_windows,
)
from models.runs.command import run_command
from models.runs.folder import check_place
from models.runs.whole_files import figure_bytes, write_whole
from sensitivity.arguments import ArgumentError, check_at_least

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

_MEASURED_BY_DEFAULT = (16, 32, 64, 128, 512, 1024, 2048, 4096, 16384)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkOptions:
    """Measure time and peak memory of path norms by every method.

    Attributes:
        T: Window lengths, in time steps; each method stops at its longest window.
        norms: Which norms.
        methods: Which methods; the forward pass, the unit of cost, always comes along.
        layers: Which layers: of width 64 one head, or eight of 8 with an output
            projection; or of BERT's size (twelve heads of 64), the closed form only, at
            T = 32, 128 and 512, and a whole model of twelve of them.
        dtype: Precision; of BERT's size one row is measured in both.
        quick: A trial of half a minute: one head, Frobenius, T = 8 and 16.
        long: Add the profile of T = 16384 and 65536 (Frobenius, eight heads); about
            ten minutes more.
        time_limit: Seconds after which the process of a cell is ended.
        out: Folder for benchmark.csv, benchmark.json and the picture.
    """

    T: tuple[int, ...] = _MEASURED_BY_DEFAULT
    norms: tuple[NormName, ...] = get_args(NormName)
    methods: tuple[Method, ...] = get_args(Method)
    layers: tuple[LayerName, ...] = NARROW
    dtype: DtypeName = "float32"
    quick: bool = False
    long: bool = False
    time_limit: float = 1200.0
    out: Path = Path("runs/benchmark")

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        for name in ("T", "norms", "methods", "layers"):
            if not getattr(self, name):
                raise ArgumentError(name, "must name at least one, got none.")
        check_at_least(1, T=min(self.T))
        if not self.time_limit > 0:
            rule = f"must be positive, got {self.time_limit}."
            raise ArgumentError("time_limit", rule)
        if self.quick and self.long:
            raise ValueError("--quick and --long exclude each other; drop one.")
        if not self.cells():
            raise ValueError(f"--T: no method is measured at {min(self.T)} or beyond.")

    def cells(self) -> list[Cell]:
        """Everything this run measures, short windows first."""
        if self.quick:
            return cells(
                (8, 16), self.methods, ("one head",), ("frobenius",), self.dtype
            )
        chosen = cells(self.T, self.methods, self.layers, self.norms, self.dtype)
        if self.long:
            longer = (16384, 65536), ("profile",), ("eight heads",), ("frobenius",)
            chosen += cells(*longer, "float32")
        return list(dict.fromkeys(chosen))


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m analysis.benchmark``; 0 also where a target is missed."""
    return run_command(
        BenchmarkOptions,
        run,
        argv,
        prog="python -m analysis.benchmark",
        stays=lambda options: f"what was measured stays in {options.out}.",
        compiles=False,  # it tells how long compiling takes
    )


def run(options: BenchmarkOptions) -> int:
    """Measure, judge, draw and write."""
    from analysis.benchmark._measure import MATMUL_PRECISION
    from analysis.benchmark._results import cost_table, target_table, targets
    from analysis.plots.cost import cost_against_length
    from models.runs.console import open_console
    from models.runs.environment import environment

    check_place(options.out)
    options.out.mkdir(parents=True, exist_ok=True)
    console = open_console()
    table = _measure_all(options, console)
    judged = targets(table)
    console.print(cost_table(table))
    console.print(target_table(judged))
    record = environment() | {
        "dtype": options.dtype,
        "matmul_precision": MATMUL_PRECISION,
        "arguments": dataclasses.asdict(options) | {"out": options.out.name},
        "layers": {name: size._asdict() for name, size in SIZES.items()},
        "seed": SEED,
        "methods": MEANINGS,
        "longest_window": longest_windows(),
        "targets": [target._asdict() for target in judged],
    }
    write_whole(options.out / "benchmark.json", json.dumps(record, indent=2) + "\n")
    written = ["benchmark.csv", "benchmark.json"]
    if set(NARROW) & set(table["layer"]):
        figure = cost_against_length(table)
        for suffix in ("png", "pdf"):
            written.append(f"cost-against-length.{suffix}")
            write_whole(options.out / written[-1], figure_bytes(figure, suffix))
    console.print(f"wrote {', '.join(written)} to {options.out}")
    return 0


def _measure_all(options: BenchmarkOptions, console: "Console") -> "pd.DataFrame":
    """Every cell; what is measured is written at once."""
    import pandas as pd

    from analysis.benchmark._measure import measure_apart
    from analysis.benchmark._results import cost_line, tidy
    from models.runs.console import progress

    chosen = options.cells()
    if importlib.util.find_spec("torch") is None and "torch" in options.methods:
        console.print("torch is not installed: torch.func.jacrev is left out")
        chosen = [cell for cell in chosen if cell.method != "torch"]
    if not options.quick and set(NARROW) & set(options.layers):
        console.print(_left_out(options), style="dim")
    rows: list[dict[str, Any]] = []
    table = pd.DataFrame()
    with progress(console, len(chosen)) as done:
        for cell in chosen:
            measured = measure_apart(cell, options.time_limit)
            rows.append(dataclasses.asdict(cell) | measured._asdict())
            table = tidy(rows)
            write_whole(options.out / "benchmark.csv", table.to_csv(index=False))
            name = f"{cell.method}, {cell.layer}, {cell.norm}, T={cell.T}, {cell.dtype}"
            done(f"{name}: {cost_line(measured)}")
    return table


def _left_out(options: BenchmarkOptions) -> str:
    stops = [
        f"{row['method']} {row['norm']} {row['one head']} / {row['eight heads']}"
        for row in longest_windows()
        if row["method"] in (*options.methods, "forward")
        and row["norm"] in (*options.norms, "none")
    ]
    return f"Longest T measured, one head / eight heads: {'; '.join(stops)}."
