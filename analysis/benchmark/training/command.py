"""What a training step costs, against one written by hand in PyTorch.

Run ``python -m analysis.benchmark.training``: everything in one process, the methods of
a part in turns, compiling apart. It is a command of its own because the other benchmark
gives every cell a process, for the sake of its peak memory, and shares no option with
this one; and because the devices of a CPU must be set before jax is imported.
"""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from models.runs.command import run_command
from models.runs.environment import cores, show_devices
from models.runs.folder import check_place
from sensitivity.arguments import ArgumentError, check_at_least

Part = Literal["step", "seeds", "input", "cures", "large"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """Measure what training costs, on random data of METR-LA's shape.

    Attributes:
        parts: "step": a step of the reference's sizes on 29 nodes, ours and PyTorch's,
            and the share of matrix products in ours; "seeds": four seeds against one;
            "input": cutting the batches against the whole epoch; "cures": a step of
            every cure that (b) does not have; "large": a step on 207 nodes.
        rounds: How often each method is timed; the minimum counts.
        steps: Training steps in a timed call; ten times as many of the small preset.
        quick: A trial of a minute: a tiny model, which reaches no target.
        out: Folder for training.csv and training.json.
    """

    parts: tuple[Part, ...] = get_args(Part)
    rounds: int = 5
    steps: int = 4
    quick: bool = False
    out: Path = Path("runs/benchmark-training")

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if not self.parts:
            raise ArgumentError("parts", "must name at least one, got none.")
        check_at_least(1, rounds=self.rounds, steps=self.steps)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m analysis.benchmark.training``; 0 also if a target is missed."""
    return run_command(
        TrainingOptions,
        run,
        argv,
        prog="python -m analysis.benchmark.training",
        stays=lambda options: f"what was measured stays in {options.out}.",
        compiles=False,  # it tells how long compiling takes
    )


def device_per_core() -> None:
    """Let a CPU show jax a device for each core, where that can still be chosen.

    It can until jax is imported; a number that the user has set stays.
    """
    if "jax" not in sys.modules:
        show_devices(cores())


def run(options: TrainingOptions) -> int:
    """Measure, judge and write, anew after every part."""
    device_per_core()
    import jax

    from analysis.benchmark._results import target_table
    from analysis.benchmark.training import _cases, _results
    from models.runs.console import open_console

    check_place(options.out)
    options.out.mkdir(parents=True, exist_ok=True)
    console = open_console()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    if load is not None and load >= 1:
        console.print(f"load average {load:.1f}: others slow down what is measured")
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []

    def note(text: str) -> None:
        left_out.append(text)
        console.print(text)

    judged = []
    for part in dict.fromkeys(options.parts):
        with console.status(f"{part}: compiling, then {options.rounds} rounds"):
            try:
                measured = _cases.measure_part(
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
        for line in _results.part_lines(measured):
            console.print(line)
        rows += measured
        table = _results.tidy(rows)
        judged = _results.write(options.out, options, table, left_out, load)
    console.print(_results.step_table(_results.tidy(rows)))
    console.print(target_table(judged))
    console.print(f"wrote training.csv and training.json to {options.out}")
    return 0
