"""Time and peak memory of one cell, in a process of its own.

A fresh process per cell is what makes the peak honest, and a cell that is killed for
memory or never ends takes nothing else with it.
"""

import dataclasses
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from analysis.benchmark._methods import Cell, planned_bytes, prepare, unit_of

MATMUL_PRECISION = "highest"  # of every cell
_ONCE = 10.0  # seconds: a call this long is timed once, the first time it runs
_LEAST, _MOST = 3, 100  # repeats of a shorter one ...
_SHORT, _LONG = 0.5, 5.0  # ... and seconds they should take together


class Measurement(NamedTuple):
    """What one cell cost; NaN where it did not end."""

    seconds: float = math.nan  # one call, compiled: the minimum of the repeats
    compile_seconds: float = math.nan  # tracing and compiling, which the first pays
    # Resident memory at the end of the first call (the device's own count where the
    # device has memory of its own), and the same less the peak just before that call.
    peak_mib: float = math.nan
    above_start_mib: float = math.nan
    planned_mib: float = math.nan  # what the library announced for its work arrays
    unit_seconds: float = math.nan  # one forward pass, timed in the same process
    repeats: int = 0
    status: str = "ok"  # or why there is no number


class CompileClock:
    """Seconds that JAX spends tracing and compiling while this is listening.

    Its events nest (a function traced inside another): the union of intervals counts.
    """

    def __init__(self) -> None:
        self.intervals: list[tuple[float, float]] = []

    def listen(self) -> None:
        """Start to listen, for the rest of the process."""
        import jax

        jax.monitoring.register_event_duration_secs_listener(self.record)

    def record(self, event: str, duration_secs: float, **_: Any) -> None:
        """Note one event that has just ended."""
        if event.startswith("/jax/core/compile/"):
            now = time.perf_counter()
            self.intervals.append((now - duration_secs, now))

    def seconds(self) -> float:
        """Length of the union of the intervals."""
        total, end = 0.0, -math.inf
        for start, stop in sorted(self.intervals):
            total += max(0.0, stop - max(start, end))
            end = max(end, stop)
        return total


def _peak_bytes() -> int:
    """Peak memory so far, of the device if JAX is loaded and its device counts it."""
    if "jax" in sys.modules:
        device = sys.modules["jax"].devices()[0]
        if device.platform != "cpu" and (stats := device.memory_stats()):
            return stats["peak_bytes_in_use"]
    status = Path("/proc/self/status")
    if status.exists():  # Linux: ru_maxrss would inherit the peak of the parent process
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 2**10
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 2**10


def measure(call: Callable[[], Any], compiling: Callable[[], float]) -> Measurement:
    """Time a call and its peak memory; a slow one runs once."""
    start, already = _peak_bytes(), compiling()
    first = _seconds(call)
    peak, compiled = _peak_bytes(), compiling() - already
    times = [first - compiled]
    if times[0] < _ONCE:
        times = [_seconds(call)]  # the first call warmed up what else there is
        while len(times) < _MOST and (
            sum(times) < _SHORT or (len(times) < _LEAST and sum(times) < _LONG)
        ):
            times.append(_seconds(call))
    return Measurement(
        seconds=min(times),
        compile_seconds=compiled,
        peak_mib=peak / 2**20,
        above_start_mib=(peak - start) / 2**20,
        repeats=len(times),
    )


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure_apart(cell: Cell, time_limit: float) -> Measurement:
    """Measure a cell in a fresh process, which ends after so many seconds."""
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    # Only this process holds the other end open: the new one ends when this one does.
    read, write = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, json.dumps(dataclasses.asdict(cell))],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            stdin=read,
            capture_output=True,
            text=True,
            timeout=time_limit,
        )
    except subprocess.TimeoutExpired:
        return Measurement(status=f"not done after {time_limit:g} s")
    finally:
        os.close(read)
        os.close(write)
    if done.returncode < 0:
        why = ", for memory it seems" if done.returncode == -9 else ""
        return Measurement(status=f"killed by signal {-done.returncode}{why}")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Measurement(status=f"failed: {last}")
    return Measurement(**json.loads(done.stdout.splitlines()[-1]))


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(1)


def main() -> int:
    """Measure the cell of the first argument (JSON) in this process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cell = Cell(**json.loads(sys.argv[1]))
    clock = CompileClock()
    if cell.method != "torch":
        import jax

        jax.config.update("jax_enable_x64", cell.dtype == "float64")
        jax.config.update("jax_default_matmul_precision", MATMUL_PRECISION)
        clock.listen()
    measurement = measure(prepare(cell), clock.seconds)
    # Afterwards: the peak is the cell's own, and both see the machine in one state.
    if unit := unit_of(cell):
        seconds = measure(prepare(unit), clock.seconds).seconds
        measurement = measurement._replace(unit_seconds=seconds)
    measurement = measurement._replace(planned_mib=planned_bytes(cell) / 2**20)
    print(json.dumps(measurement._asdict()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
