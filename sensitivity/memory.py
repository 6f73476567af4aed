"""Memory is planned, not discovered: budgets in words, and blocks that fit them."""

import dataclasses
import re

from sensitivity.arguments import ArgumentError

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a computation is cut up.

    Attributes:
        rows: Query rows at once.
        heads: Heads at once.
        size: Bytes of work arrays it is estimated to take, the result not counted.
    """

    rows: int
    heads: int
    size: int


def parse_memory(text: str | int) -> int:
    """Read an amount of memory.

    Args:
        text: A number of bytes, or a number with a unit: ``"512MiB"``, ``"1.5 GB"``.

    Returns:
        Bytes.

    Raises:
        ValueError: If it cannot be read or is not positive.

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


def blocks_within(
    budget: str | int, *, fixed: int, per_item: int, wanted: int, what: str
) -> int:
    """How many items fit a budget at once.

    Args:
        budget: The user's ``max_memory``.
        fixed: Bytes that are needed whatever the block.
        per_item: Bytes each item of a block needs.
        wanted: The block that would be fastest.
        what: What an item is, for the message.

    Returns:
        Between 1 and ``wanted`` items.

    Raises:
        ValueError: If not even one item fits: says what it would take.
    """
    fits = (parse_memory(budget) - fixed) // per_item
    if fits < 1:
        raise ArgumentError(
            "max_memory",
            f"({budget}) must be at least {format_memory(fixed + per_item)} for {what}.",
        )
    return min(wanted, fits)
