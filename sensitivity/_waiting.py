"""Long calls say that they go on: lines in the log ``sensitivity``, seen by default."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

log = logging.getLogger("sensitivity")
FIRST, EVERY = 10.0, 60.0  # seconds to the first line, and from one to the next


@contextlib.contextmanager
def told_when_long(words: str) -> Iterator[None]:
    """Say of a block that takes long, again and again, for how long it has."""
    start, ended = time.monotonic(), threading.Event()

    def say() -> None:
        wait = FIRST
        while not ended.wait(wait):
            log.warning("%s: %.0f s so far", words, time.monotonic() - start)
            wait = EVERY

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
