"""Test errors of training runs side by side, in the layout of the paper's tables.

Run ``python -m analysis.tables RUNS...``: a table for each window, horizon and set of
other settings, with the mean and the spread over seeds, and below each variant its
paired difference to (b), so that no gain is claimed that the seeds do not show.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from models.train.record import Run


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TableOptions:
    """Compare the test errors of finished training runs.

    Attributes:
        runs: Folders of runs. Those with equal settings but for the variant share a
            table, and those of the same variant a row, their seeds taken together.
        horizons: Steps to show, counted from 1. By default the paper's: 3, 6 and 12 of
            12 steps, 24 and 36 of 36; else a quarter, half and all of the horizon.
        mean: Also show the mean over all steps of the errors at each. The .csv always
            has it, and every step.
        partial: Leave out runs that are not complete instead of refusing them.
        out: Folder for the tables, as .md, .tex and tidy .csv.
    """

    runs: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUNS...")
    ]
    horizons: tuple[int, ...] | None = None
    mean: bool = False
    partial: bool = False
    out: Path = Path("runs/tables")

    def __post_init__(self) -> None:
        """Refuse what can be no table.

        Raises:
            ValueError: Naming the argument, its rule and the value.
        """
        if not self.runs:
            raise ValueError("RUNS must name at least one folder, got none.")
        if self.horizons is not None:
            if not self.horizons:
                raise ValueError("--horizons must name at least one step, got none.")
            if min(self.horizons) < 1:
                raise ValueError(
                    f"--horizons must be at least 1, got {min(self.horizons)}."
                )
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"--out must be a folder, got the file {self.out}.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m analysis.tables``.

    Args:
        argv: Arguments, by default the command line's.

    Returns:
        0; 1 where no file can be written, 2 where a run cannot be used.

    Raises:
        SystemExit: With 2, naming the argument, where one is wrong.
    """
    # It ends with 2 where an argument, or a check of the options, is wrong.
    options = tyro.cli(TableOptions, args=argv, prog="python -m analysis.tables")
    try:
        return run(options)
    except ValueError as error:
        return _fail(str(error), 2)
    except OSError as error:
        return _fail(f"{error.strerror or error} ({error.filename or options.out}).", 1)


def run(options: TableOptions) -> int:
    """Read the runs, build the tables, print and write them.

    Args:
        options: What to do.

    Returns:
        0.

    Raises:
        ValueError: If a run cannot be used, or a step is beyond its horizon.
    """
    from rich.console import Console

    from analysis.tables._formats import latex, markdown
    from analysis.tables._layout import lay_out
    from analysis.tables._notes import notes_of, title_of
    from analysis.tables._printing import show
    from analysis.tables._results import collect
    from analysis.variants import group_runs, telling_settings
    from models.runs.whole_files import write_whole

    runs, left_out = _read(options)
    groups = group_runs(runs)
    telling = telling_settings(groups)
    chosen = [_horizons(options, group[0]) for group in groups]
    built = []
    for group, names, horizons in zip(groups, telling, chosen, strict=True):
        results = collect(group)
        notes = notes_of(results, horizons, left_out)
        title = title_of(group[0], names)
        table = lay_out(results, title, horizons, notes)
        stem = _stem(group[0], names, [stem for stem, *_ in built])
        built.append((stem, table, results.rows))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    options.out.mkdir(parents=True, exist_ok=True)
    for stem, table, rows in built:
        show(console, table)
        texts = {
            "md": markdown(table),
            "tex": latex(table),
            "csv": rows.to_csv(index=False),
        }
        for ending, text in texts.items():
            write_whole(options.out / f"{stem}.{ending}", text)
        console.print(
            f"wrote {stem}.md, .tex and .csv to {options.out}",
            soft_wrap=True,
            markup=False,
        )
    return 0


def _read(options: TableOptions) -> "tuple[list[Run], list[str]]":
    """Read every run.

    Returns:
        The complete runs, and the names of those left out.

    Raises:
        ValueError: If a folder is no run, is given twice, or is not complete without
            ``--partial``, or if none is complete.
    """
    from models.train.record import IncompleteRunError, read_run

    runs, left_out, seen = [], [], set()
    for folder in options.runs:
        if folder.resolve() in seen:
            raise ValueError(f"RUNS must name each folder once, got {folder} twice.")
        seen.add(folder.resolve())
        try:
            runs.append(read_run(folder))
        except IncompleteRunError as error:
            if not options.partial:
                raise ValueError(
                    f"{error} Train it to its end, or leave it out with --partial."
                ) from None
            left_out.append(folder.name)
    if not runs:
        raise ValueError(f"RUNS must hold a complete run, but none of {left_out} is.")
    return runs, left_out


def _horizons(options: TableOptions, run: "Run") -> list[str]:
    """The steps to show of a run, as its tables name them.

    Returns:
        Labels, in rising order.

    Raises:
        ValueError: If the run does not reach so far.
    """
    from analysis.tables._layout import default_horizons
    from models.errors import MEAN

    H = run.arguments["horizon"]
    steps = sorted(set(options.horizons or default_horizons(H)))
    if steps[-1] > H:
        raise ValueError(
            f"--horizons ({steps[-1]}) must not exceed the {H} steps that {run.folder} "
            "forecasts."
        )
    return [*map(str, steps), *([MEAN] if options.mean else [])]


def _stem(run: "Run", names: Sequence[str], taken: Sequence[str]) -> str:
    """Name of a table's files, such as ``table-12-12`` or ``table-12-12-width-64``."""
    import re

    from analysis.variants import settings_in_words, shared_settings

    settings = shared_settings(run)
    parts = [f"table-{settings['window']}-{settings['horizon']}"]
    parts += [settings_in_words({name: settings.get(name)}) for name in names]
    stem = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(parts)).strip("-")
    while stem in taken:  # settings that differ only in what a file name leaves out
        stem += "-other"
    return stem


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
