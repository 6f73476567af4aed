"""Memory is planned, not discovered: budgets in words, and blocks that fit them."""

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

from sensitivity.arguments import ArgumentError

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a computation is cut up."""

    rows: int  # query rows at once
    heads: int  # heads at once
    size: int  # estimated bytes of work arrays, the result not counted


class TooLittleMemory(ArgumentError):
    """A budget into which not even the smallest block fits.

    Attributes:
        need: What it would take, in words.
    """

    def __init__(self, need: str, fits: str = ""):
        """Join what it would take and what would fit."""
        super().__init__("max_memory", f"{need}{fits}.")
        self.need = need


def parse_memory(text: str | int) -> int:
    """Read an amount of memory.

    Args:
        text: A number of bytes, or a number with a unit: ``"512MiB"``, ``"1.5 GB"``.

    Returns:
        Bytes.

    Raises:
        ArgumentError: If it cannot be read or is not positive, about ``max_memory``.

    Example:
        >>> parse_memory("1.5GiB")
        1610612736
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?)\s*([a-zA-Z]*)\s*", str(text))
    if not match or match[2].upper() not in _UNITS or float(match[1]) <= 0:
        raise ArgumentError(
            "max_memory",
            f"must be a positive amount such as '512MiB' or '2GB', got {text!r}.",
        )
    return int(float(match[1]) * _UNITS[match[2].upper()])


def format_memory(size: float) -> str:
    """Bytes in words.

    Args:
        size: Bytes.

    Returns:
        The same with a unit.

    Example:
        >>> format_memory(3 * 2**20)
        '3.0 MiB'
    """
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def too_little(budget: str | int, needed: int, what: str) -> TooLittleMemory:
    """The error of a budget into which not even one item fits."""
    least = format_memory(needed)
    return TooLittleMemory(f"({budget}) must be at least {least} for {what}")


@contextlib.contextmanager
def saying_what_fits(x: Any, plan: Callable[[Any], object]) -> Iterator[None]:
    """Add the longest input that fits to an error of too little memory.

    Args:
        x: An input, or its shape and dtype, (..., T, D).
        plan: What raises the error for an input; more steps take more.

    Yields:
        Nothing: the block is what may raise it.

    Raises:
        TooLittleMemory: Again, with what fits.
    """
    try:
        yield
    except TooLittleMemory as error:
        import jax  # options are read without it

        *batch, T, D = x.shape
        longest, too_long = 0, T
        while too_long - longest > 1:
            middle = (longest + too_long) // 2
            try:
                plan(jax.ShapeDtypeStruct((*batch, middle, D), x.dtype))
                longest = middle
            except TooLittleMemory:
                too_long = middle
        fits = f"; T={longest} would fit" if longest else "; no T would fit"
        raise TooLittleMemory(error.need, fits) from None


def blocks_within(
    budget: str | int, *, fixed: int, per_item: int, wanted: int, what: str
) -> int:
    """How many items, at most ``wanted``, fit a budget beside the fixed bytes."""
    fits = (parse_memory(budget) - fixed) // per_item
    if fits < 1:
        raise too_little(budget, fixed + per_item, what)
    return min(wanted, fits)
