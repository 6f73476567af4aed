"""Test errors of training runs side by side, in the layout of the paper's tables.

Run ``python -m analysis.tables RUNS...``: a table for each window, horizon and set of
other settings, with the mean and the spread over seeds, and below each variant its
paired difference to (b), so that no gain is claimed that the seeds do not show.
"""

import dataclasses
import re
from collections.abc import Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from models.runs.command import run_command
from models.runs.folder import check_place
from models.runs.whole_files import write_whole
from sensitivity.arguments import ArgumentError, check_at_least

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
        """Refuse what can be no table."""
        if not self.runs:
            raise ValueError("RUNS must name at least one folder, got none.")
        if self.horizons is not None:
            if not self.horizons:
                rule = "must name at least one step, got none."
                raise ArgumentError("horizons", rule)
            check_at_least(1, horizons=min(self.horizons))


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m analysis.tables``; see `models.runs.command.run_command`."""
    return run_command(
        TableOptions, run, argv, prog="python -m analysis.tables", compiles=False
    )


def run(options: TableOptions) -> int:
    """Build the tables, print and write them; what else is in the folder stays."""
    from analysis.tables._layout import lay_out
    from analysis.tables._notes import notes_of, title_of
    from analysis.tables._results import collect
    from analysis.tables._writers import latex, markdown, show
    from analysis.variants import group_runs, telling_settings
    from models.runs.console import open_console

    check_place(options.out)
    runs, left_out = _read(options)
    groups = group_runs(runs)
    telling = telling_settings(groups)
    shown = [_horizons(options, group[0]) for group in groups]
    built = {}
    for group, names, horizons in zip(groups, telling, shown, strict=True):
        results = collect(group)
        notes = notes_of(results, horizons, left_out)
        table = lay_out(results, title_of(group[0], names), horizons, notes)
        built[_stem(group[0], names, built)] = table, results.rows
    console = open_console()
    options.out.mkdir(parents=True, exist_ok=True)
    for stem, (table, rows) in built.items():
        show(console, table)
        write_whole(options.out / f"{stem}.md", markdown(table))
        write_whole(options.out / f"{stem}.tex", latex(table))
        write_whole(options.out / f"{stem}.csv", rows.to_csv(index=False))
        console.print(f"wrote {stem}.md, .tex and .csv to {options.out}")
    return 0


def _read(options: TableOptions) -> "tuple[list[Run], list[str]]":
    """The complete runs, and the names of those left out."""
    from analysis.variants import check_each_folder_once
    from models.train.record import IncompleteRunError, read_run

    check_each_folder_once(options.runs)
    runs, left_out = [], []
    for folder in options.runs:
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
    """The steps to show of such runs, in rising order, and perhaps their mean."""
    from analysis.tables._layout import default_horizons
    from models.errors import MEAN

    H = run.arguments["horizon"]
    steps = sorted(set(options.horizons or default_horizons(H)))
    if steps[-1] > H:
        raise ArgumentError(
            "horizons",
            f"({steps[-1]}) must not exceed the {H} steps that {run.folder} forecasts.",
        )
    return [*map(str, steps), *([MEAN] if options.mean else [])]


def _stem(run: "Run", names: Sequence[str], taken: Container[str]) -> str:
    """Name of a table's files, such as ``table-12-12`` or ``table-12-12-width-64``."""
    from analysis.variants import settings_in_words, shared_settings

    settings = shared_settings(run)
    parts = [f"table-{settings['window']}-{settings['horizon']}"]
    parts += [settings_in_words({name: settings.get(name)}) for name in names]
    stem = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(parts)).strip("-")
    while stem in taken:  # settings that differ only in what a file name leaves out
        stem += "-other"
    return stem
