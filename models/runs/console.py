"""What commands print on: a console, a bar or lines of progress."""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Container, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDTH = 130  # where there is no terminal: the widest table fits


def open_console() -> "Console":
    """Standard output, with text as it is: no markup, no guessed highlights."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _WIDTH
    return Console(width=width, highlight=False, markup=False, soft_wrap=True)


def empty_table(
    title: str | None,
    words: Sequence[str],
    numbers: Sequence[str] = (),
    wraps: Container[str] = (),
    **look: Any,
) -> "Table":
    """A table to print, of columns that keep their lines whole.

    Args:
        title: What stands above it.
        words: Names of the first columns.
        numbers: Names of the others, which are to the right.
        wraps: Names of columns that wrap where the terminal is narrow.
        **look: What else is not as usual, as for ``rich.table.Table``.

    Returns:
        The table, for rows to be added.
    """
    from rich import box
    from rich.table import Table

    shown = Table(**{"title": title, "box": box.SIMPLE_HEAD} | look)
    for name in words:
        shown.add_column(name, no_wrap=name not in wraps)
    for name in numbers:
        shown.add_column(name, justify="right", no_wrap=name not in wraps)
    return shown


@contextlib.contextmanager
def still_at(console: "Console", words: str, every: float = 60.0) -> Iterator[None]:
    """Say of what takes long, again and again, that it is being done.

    What `sensitivity` says of its own calls is left out meanwhile.

    Args:
        console: Where to.
        words: What it is.
        every: Seconds from one line to the next.

    Yields:
        Nothing: the block is what takes long.
    """
    start, ended = time.monotonic(), threading.Event()

    def say() -> None:
        while not ended.wait(every):
            minutes = (time.monotonic() - start) / 60
            console.print(f"{words}: {minutes:.3g} min so far")

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    library = logging.getLogger("sensitivity")
    before = library.level
    library.setLevel(logging.ERROR)
    try:
        yield
    finally:
        library.setLevel(before)
        ended.set()
        thread.join()


@contextlib.contextmanager
def progress(console: "Console", total: int) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal, else a line per part.

    Args:
        console: Where to.
        total: Number of parts.

    Yields:
        A function to call with a message whenever a part is done.
    """
    if not console.is_terminal:
        count = iter(range(1, total + 1))
        yield lambda message: console.print(f"[{next(count)}/{total}] {message}")
        return
    from rich.progress import Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:-1], TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=total)
        yield lambda message: bar.update(task, advance=1, description=message)
