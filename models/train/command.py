"""Run ``python -m models.train``: load, prepare, train, test, write."""

import dataclasses
import itertools
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import tyro

from models.train.options import PRESETS, TrainOptions

if TYPE_CHECKING:
    from rich.console import Console

    from models.train.folder import RunFolder


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m models.train``.

    Args:
        argv: Arguments, by default the command line's.

    Returns:
        0 when the run is complete; 1 when the loss is no longer a number or the folder
        could not be written; 2 for bad arguments or data; 130 after an interrupt: the
        same command with ``--resume`` goes on from the last checkpoint.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        options = parse(argv)
    except ValueError as error:  # raised by the options' own checks
        return _fail(str(error), 2)
    _share_cores(options.fit.devices)
    return train(options)


def _share_cores(devices: int) -> None:
    """Make so many devices of a CPU's cores; jax reads this when it starts."""
    name, flags = "--xla_force_host_platform_device_count", os.environ.get("XLA_FLAGS")
    if devices > 1 and name not in (flags or ""):
        os.environ["XLA_FLAGS"] = " ".join(
            [*filter(None, [flags]), f"{name}={devices}"]
        )


def parse(argv: list[str]) -> TrainOptions:
    """Read the command line, with the defaults of the preset it names.

    Args:
        argv: The arguments.

    Returns:
        The options.

    Raises:
        ValueError: If an option's own check fails.
        SystemExit: With 2, if the command line cannot be read.
    """
    default = PRESETS.get(_given(argv, "--preset"), PRESETS["small"])
    if _given(argv, "--model") == "convolution":  # the preset's heads are no option
        model = dataclasses.replace(default.model, model="convolution", heads=None)
        default = dataclasses.replace(default, model=model)
    return tyro.cli(
        TrainOptions,
        args=argv,
        default=default,
        prog="python -m models.train",
        config=(tyro.conf.OmitArgPrefixes,),
    )


def _given(argv: list[str], option: str) -> str:
    """What an option is given, the last time it is; nothing where it is not."""
    value = ""
    for word, following in itertools.pairwise([*argv, ""]):
        if word == option:
            value = following
        elif word.startswith(f"{option}="):
            value = word.partition("=")[2]
    return value


def train(options: TrainOptions, console: "Console | None" = None) -> int:
    """Do one run, from its data to its test errors.

    Args:
        options: The run.
        console: Where to print; by default standard output.

    Returns:
        The exit status, see `main`.
    """
    from rich.console import Console

    from models.train._loop import DivergedError

    console = console or Console(
        width=None if sys.stdout.isatty() else 120, highlight=False, markup=False
    )
    try:
        return _train(options, console)
    except DivergedError as error:
        return _fail(str(error), 1)
    except ValueError as error:
        return _fail(str(error), 2)
    except OSError as error:
        what, where = error.strerror or error, error.filename or options.out
        return _fail(f"{what} ({where}); {_what_stays(options)}", 1)
    except KeyboardInterrupt:
        return _fail(f"interrupted; {_what_stays(options)}", 130)


def _what_stays(options: TrainOptions) -> str:
    from models.train.folder import holds_checkpoint

    if holds_checkpoint(options):
        instead = " in place of --overwrite" if options.overwrite else ""
        return (
            f"the last checkpoint in {options.out} stays, and the same command with "
            f"--resume{instead} goes on from it."
        )
    return f"there is no checkpoint in {options.out} to go on from."


def _fail(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


def _train(options: TrainOptions, console: "Console") -> int:
    import numpy as np

    from models.train._loop import fit
    from models.train._printing import announce, epoch_report, test_table
    from models.train._setup import set_up
    from models.train._testing import test_all
    from models.train.folder import RunFolder

    series, prepared, trainer = set_up(options)
    folder = RunFolder(options, series)
    keep = options.keep_epochs or tuple(folder.record.get("keep_epochs", ()))
    folder.record["keep_epochs"] = list(keep)  # a resume keeps on keeping
    announce(console, options, folder, trainer, prepared)
    with epoch_report(console, options.fit.epochs) as report:
        state = fit(trainer, prepared, options.fit, folder, report, keep)
    done = int(np.asarray(state.epoch).max())
    if late := [epoch for epoch in keep if epoch > done]:
        console.print(
            f"note: training ended with epoch {done}, before --keep-epochs {late}: "
            "nothing was kept there."
        )
    table = test_all(
        trainer,
        prepared,
        state,
        folder,
        options.fit.seed_list(),
        keep=options.predictions,
    )
    folder.save_test(table)
    folder.record["complete"] = folder.is_to_end
    folder.save()
    test_table(console, table, options.series.horizon)
    console.print(f"wrote {_written(folder)} in {folder.path}", soft_wrap=True)
    return 0


def _written(folder: "RunFolder") -> str:
    names = ("run.json", "metrics.csv", "test.csv", "predictions.npz")
    there = [name for name in names if (folder.path / name).exists()]
    places = [folder.checkpoints, folder.kept]
    return ", ".join(there + [at.name for at in places if any(at.glob("*"))])
