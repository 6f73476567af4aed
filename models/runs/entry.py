"""How a command starts: Ctrl-C is one line and status 130, from first moment to last.

An interrupt that is raised as an exception can be swallowed (in a callback of the
garbage collector), must wait until compiled code returns, and leaves an interpreter
that takes down JAX's threads in any order. So a thread waits for it, says its line
and ends the process. Whatever is written is written whole, so nothing can be torn.

This module is imported before any other of a command: what it imports is quick.
"""

import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

INTERRUPTED, UNREAD = 130, 141  # as a shell says it of SIGINT and SIGPIPE
_SHOW_CURSOR = "\x1b[?25h"  # a progress bar hides it


def _nothing_yet() -> str:
    return "nothing was done yet."


_words: Callable[[], str] = _nothing_yet  # what the line says, of the command at work


def on_interrupt(words: Callable[[], str]) -> Callable[[], str]:
    """Say this after "interrupted;", such as what is kept and how to go on.

    Args:
        words: What to say from now on.

    Returns:
        What was to be said before.
    """
    global _words
    before, _words = _words, words
    return before


def start(module: str) -> NoReturn:
    """Run the ``main`` of a module as the command that was typed."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # else: not to be stopped
        read, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, lambda *_: None)
        threading.Thread(target=_wait, args=(read,), daemon=True).start()
    try:
        try:
            status = importlib.import_module(module).main()
        finally:  # all is done: Python takes down its libraries, and its handlers first
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            sys.stdout.flush()
    except BrokenPipeError:  # "| head" has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = UNREAD
    sys.exit(status)


def _wait(pipe: int) -> None:
    """End the process at the first interrupt, whatever else fails."""
    while signal.SIGINT not in os.read(pipe, 64):
        pass
    try:
        said = "interrupted."
        with contextlib.suppress(Exception):  # words may read files
            said = f"interrupted; {_words()}"
        with contextlib.suppress(OSError, ValueError):  # a reader that is gone
            print(_SHOW_CURSOR * sys.stdout.isatty(), end="", flush=True)
        print(f"error: {' '.join(said.split())}", file=sys.stderr, flush=True)
    finally:
        os._exit(INTERRUPTED)
