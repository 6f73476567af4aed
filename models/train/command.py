"""Run ``python -m models.train``: load, prepare, train, test, write."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from models.runs.command import one_line, run_command
from models.runs.console import open_console
from models.runs.environment import show_devices
from models.train.options import PRESETS, TrainOptions

if TYPE_CHECKING:
    from rich.console import Console


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m models.train``.

    Args:
        argv: Arguments, by default the command line's.

    Returns:
        0 when the run is complete; 1 when the loss is no longer a number or the folder
        could not be written; 2 for bad arguments or data; 130 after an interrupt: the
        same command with ``--resume`` goes on from the last checkpoint.
    """
    return run_command(
        TrainOptions,
        _train_on_cores,
        argv,
        prog="python -m models.train",
        default=preset_of,
        stays=_what_stays,
    )


def train(options: TrainOptions, console: "Console | None" = None) -> int:
    """Do one run, from its data to its test errors.

    Args:
        options: The run.
        console: Where to print; by default standard output.

    Returns:
        The exit status, see `main`; an error has been printed as one line.
    """
    return one_line(lambda asked: _train(asked, console), options, _what_stays)


def preset_of(argv: Sequence[str]) -> TrainOptions:
    """The defaults for a command line: those of the preset that it names."""
    default = PRESETS.get(_given(argv, "--preset"), PRESETS["small"])
    if _given(argv, "--model") == "convolution":  # the preset's heads are no option
        model = dataclasses.replace(default.model, model="convolution", heads=None)
        default = dataclasses.replace(default, model=model)
    return default


def _given(argv: Sequence[str], option: str) -> str:
    """What an option is given, the last time it is; nothing where it is not."""
    value = ""
    for word, following in itertools.pairwise([*argv, ""]):
        if word == option:
            value = following
        elif word.startswith(f"{option}="):
            value = word.partition("=")[2]
    return value


def _what_stays(options: TrainOptions) -> str:
    from models.train.folder import holds_checkpoint

    if holds_checkpoint(options):
        instead = " in place of --overwrite" if options.overwrite else ""
        return (
            f"the last checkpoint in {options.out} stays, and the same command with "
            f"--resume{instead} goes on from it."
        )
    return f"there is no checkpoint in {options.out} to go on from."


def _train_on_cores(options: TrainOptions) -> int:
    """Make ``--devices`` of a CPU's cores, which JAX reads when it starts; train."""
    if options.fit.devices > 1:
        show_devices(options.fit.devices)
    return _train(options)


def _train(options: TrainOptions, console: "Console | None" = None) -> int:
    import numpy as np

    from models.train._loop import fit
    from models.train._printing import announce, epoch_report, test_table
    from models.train._setup import set_up
    from models.train._testing import test_all
    from models.train.folder import keep_on, open_folder

    console = console or open_console()
    series, prepared, trainer = set_up(options)
    with open_folder(options, series) as folder:
        keep = keep_on(folder, options)
        announce(console, options, folder, trainer, prepared)
        with epoch_report(console, options.fit.epochs) as report:
            state = fit(trainer, prepared, options.fit, folder, report, keep)
        done = int(np.asarray(state.epoch).max())
        if late := [epoch for epoch in keep if epoch > done]:
            console.print(
                f"note: training ended with epoch {done}, before --keep-epochs {late}: "
                "nothing was kept there."
            )
        table = test_all(trainer, prepared, state, folder, options)
        folder.write("test.csv", table.to_csv(index=False))
        to_end = options.fit.epochs == folder.record["arguments"]["epochs"]
        folder.record["complete"] = to_end or folder.was_complete
        folder.save()
        test_table(console, table, options.series.horizon)
        names = ("run.json", "metrics.csv", "test.csv", "predictions.npz")
        names = [name for name in names if (folder.path / name).exists()]
        kept = [
            at for at in ("checkpoints", "kept") if any(folder.path.glob(f"{at}/*"))
        ]
        console.print(f"wrote {', '.join(names + kept)} in {folder.path}")
    return 0
