"""What a training step costs, against one written by hand in PyTorch.

Run ``python -m analysis.benchmark.training``: everything in one process, the methods of
a part in turns, compiling apart. It is a command of its own because the other benchmark
gives every cell a process, for the sake of its peak memory, and shares no option with
this one; and because the devices of a CPU must be set before jax is imported.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

import tyro

from analysis.benchmark.training.options import TrainingOptions


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m analysis.benchmark.training``.

    Args:
        argv: Arguments, by default the command line's.

    Returns:
        0, also where a target is missed; 1 where no file can be written, 130 after an
        interrupt: the parts measured by then stay.

    Raises:
        SystemExit: With 2, naming the argument, where one is wrong.
    """
    options = tyro.cli(
        TrainingOptions, args=argv, prog="python -m analysis.benchmark.training"
    )
    try:
        return run(options)
    except OSError as error:
        return _fail(f"{error.strerror or error} ({error.filename or options.out}).", 1)
    except KeyboardInterrupt:
        return _fail(f"interrupted; what was measured stays in {options.out}.", 130)


def device_per_core() -> None:
    """Let a CPU show jax a device for each core, where that can still be chosen.

    It can until jax is imported; a number that the user has set stays.
    """
    flag, flags = "xla_force_host_platform_device_count", os.environ.get("XLA_FLAGS")
    if "jax" not in sys.modules and flag not in (flags or ""):
        affinity = getattr(os, "sched_getaffinity", None)
        cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        added = f"--{flag}={cores}"
        os.environ["XLA_FLAGS"] = f"{flags} {added}" if flags else added


def load_average() -> float | None:
    """Processes that wanted to run in the last minute.

    Returns:
        Their mean number, or None where the system does not count them.
    """
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def run(options: TrainingOptions) -> int:
    """Measure, judge and write, anew after every part.

    Args:
        options: What to do.

    Returns:
        0.
    """
    device_per_core()
    import jax
    from rich.console import Console

    from analysis.benchmark._printing import target_table
    from analysis.benchmark.training._parts import measure_part, tidy
    from analysis.benchmark.training._printing import part_lines, step_table
    from analysis.benchmark.training._recording import write
    from analysis.benchmark.training._targets import targets

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    options.out.mkdir(parents=True, exist_ok=True)
    load = load_average()
    if load is not None and load >= 1:
        console.print(f"load average {load:.1f}: others slow down what is measured")
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []

    def note(text: str) -> None:
        left_out.append(text)
        console.print(text, markup=False)

    for part in dict.fromkeys(options.parts):
        with console.status(f"{part}: compiling, then {options.rounds} rounds"):
            try:
                measured = measure_part(
                    part,
                    steps=options.steps,
                    rounds=options.rounds,
                    quick=options.quick,
                    note=note,
                )
            except (MemoryError, jax.errors.JaxRuntimeError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                note(f"{part} is left out: {reason}")
                measured = []
        for line in part_lines(tidy(measured)):
            console.print(line, markup=False)
        rows += measured
        write(options, tidy(rows), left_out, load)
    accelerator = jax.default_backend() != "cpu"
    console.print(step_table(tidy(rows)))
    console.print(target_table(targets(tidy(rows), accelerator=accelerator)))
    console.print(
        f"wrote training.csv and training.json to {options.out}", soft_wrap=True
    )
    return 0


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
