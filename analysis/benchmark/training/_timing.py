"""Time several ways of doing something in turns, so that a slow minute slows them all.

The number of a method is the minimum over the rounds, and a ratio is one of minima of
the same rounds.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any


def in_turns(
    calls: Mapping[str, Callable[[], Any]], rounds: int
) -> dict[str, list[float]]:
    """Call each once to warm up, then each once in every round, and time those.

    Args:
        calls: What to time, by name; each does its work and waits for it.
        rounds: Number of rounds.

    Returns:
        Seconds of every round, by name.

    Raises:
        ValueError: If there are no rounds.

    Example:
        >>> order = []
        >>> times = in_turns({n: (lambda n=n: order.append(n)) for n in "ab"}, 2)
        >>> "".join(order), len(times["a"])
        ('ababab', 2)
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}.")
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds
