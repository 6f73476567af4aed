"""The share of a compiled program's time that goes into matrix products, on a CPU.

`jax.profiler` records an event for every operation that XLA runs: its name, its thread,
when it began and how long it kept that thread. The compiled program tells what the
operation is. What an operation hands on to helping threads carries no name in the trace
and is left out, of products and of everything else alike.
"""

import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
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


class Event(NamedTuple):
    """An operation as it ran on a thread.

    Attributes:
        name: Its name in the compiled program.
        start: When it began, in ns.
        end: When it ended, in ns.
    """

    name: str
    start: float
    end: float


def operations(program: str) -> dict[str, bool]:
    """The operations of a compiled program, and which are matrix products.

    Args:
        program: HLO text, as ``jax.stages.Compiled.as_text`` gives it.

    Returns:
        True for a product, False for anything else, by name.

    Example:
        >>> program = '''
        ... %fused (a: f32[2,2]) -> f32[2,2] {
        ...   ROOT %dot.1 = f32[2,2]{1,0} dot(%a, %a), lhs_contracting_dims={1}
        ... }
        ... ENTRY %main (x: f32[2,2]) -> f32[2,2] {
        ...   %add.2 = f32[2,2]{1,0} add(%x, %x)
        ...   ROOT %fusion.3 = f32[2,2]{1,0} fusion(%add.2), calls=%fused
        ... }'''
        >>> operations(program)
        {'dot.1': True, 'add.2': False, 'fusion.3': True}
    """
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
    """Time of operations on one thread, less that of operations nested in them.

    Args:
        thread: What ran on it, in any order.

    Returns:
        Nanoseconds by name.

    Example:
        >>> loop = [Event("while", 0, 10), Event("dot", 1, 4), Event("dot", 5, 9)]
        >>> own_times(loop)
        {'while': 3.0, 'dot': 7.0}
    """
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


def matmul_share(call: Callable[[], Any], program: str) -> float:
    """Trace a call and tell which share of its time is matrix products.

    Args:
        call: Runs the program and waits for it.
        program: Its HLO text.

    Returns:
        In [0, 1], see `COUNTED`.

    Raises:
        ValueError: If the trace holds none of the program's operations.
    """
    known = operations(program)
    total = {True: 0.0, False: 0.0}
    for thread in _trace(call):
        for name, time in own_times(e for e in thread if e.name in known).items():
            total[known[name]] += time
    everything = sum(total.values())
    if not everything:
        raise ValueError("call must run the program: the trace has none of it.")
    return total[True] / everything


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
