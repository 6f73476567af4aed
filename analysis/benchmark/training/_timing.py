"""How calls are timed: in turns, and which share of one goes into matrix products.

In turns a slow minute slows them all: the number of a method is the minimum over the
rounds, and a ratio is one of minima of the same rounds.

`jax.profiler` records an event for every operation that XLA runs: its name, its thread,
when it began and how long it kept that thread. The compiled program tells what the
operation is. What an operation hands on to helping threads carries no name in the trace
and is left out, of products and of everything else alike.
"""

import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

COUNTED = (
    "From jax.profiler's trace of one epoch: time of an operation on its own thread, "
    "less that of operations nested in it. An operation is a matrix product if the "
    "compiled program has it as a dot, as a call of a library's, or as a fusion that "
    "contains one (with whatever is fused to it). The share is that of products in all "
    "operations; work handed on to helping threads has no name in the trace and is "
    "not in either sum."
)

_COMPUTATION = re.compile(r"(?:ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = .*? ([a-z][\w\-]*)\(")
_CALLED = re.compile(r"\bcalls=%?([\w.\-]+)")
_LIBRARY = re.compile(r'custom_call_target="[^"]*(?:gemm|matmul)', re.IGNORECASE)


def in_turns(
    calls: Mapping[str, Callable[[], Any]], rounds: int
) -> dict[str, list[float]]:
    """Seconds of every round; each call warms up once, then runs once a round."""
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


class Event(NamedTuple):
    """An operation as it ran on a thread."""

    name: str  # in the compiled program
    start: float  # in ns
    end: float


def matmul_share(call: Callable[[], Any], program: str) -> float:
    """Trace a call that runs a program of this HLO text: see `COUNTED`."""
    known = operations(program)
    total = {True: 0.0, False: 0.0}
    for thread in _trace(call):
        for name, spent in own_times(e for e in thread if e.name in known).items():
            total[known[name]] += spent
    everything = sum(total.values())
    if not everything:
        raise ValueError("call must run the program: the trace has none of it.")
    return total[True] / everything


def operations(program: str) -> dict[str, bool]:
    """The operations of a compiled program, and whether each is a matrix product."""
    inside = ""
    products: set[str] = set()  # computations that hold one
    found: dict[str, bool] = {}
    called: dict[str, str] = {}
    for line in program.splitlines():
        if match := _COMPUTATION.match(line):
            inside = match[1]
        elif match := _INSTRUCTION.match(line):
            name, kind = match.groups()
            library = kind == "custom-call" and _LIBRARY.search(line) is not None
            found[name] = kind == "dot" or library
            if found[name]:
                products.add(inside)
            if kind == "fusion" and (fused := _CALLED.search(line)):
                called[name] = fused[1]
    for name, fused in called.items():
        found[name] = fused in products
    return found


def own_times(thread: Iterable[Event]) -> dict[str, float]:
    """Nanoseconds of operations on one thread, less those of operations in them."""
    times: defaultdict[str, float] = defaultdict(float)
    around: list[Event] = []
    for event in sorted(thread, key=lambda each: (each.start, -each.end)):
        while around and around[-1].end <= event.start:
            around.pop()
        if around:
            times[around[-1].name] -= min(event.end, around[-1].end) - event.start
        times[event.name] += event.end - event.start
        around.append(event)
    return dict(times)


def _trace(call: Callable[[], Any]) -> list[list[Event]]:
    """Operations that XLA ran during a call, by thread."""
    import jax

    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    options.enable_hlo_proto = False
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            call()
        (file,) = Path(folder).rglob("*.xplane.pb")
        profile = jax.profiler.ProfileData.from_file(str(file))
    threads = []
    for plane in profile.planes:
        for line in plane.lines:
            thread = []
            for event in line.events:
                name = dict(event.stats).get("hlo_op")
                if isinstance(name, str):
                    end = event.start_ns + event.duration_ns
                    thread.append(Event(name, event.start_ns, end))
            threads.append(thread)
    return threads
