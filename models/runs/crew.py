"""Who works in a folder of results: one process, or several that share it."""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

import filelock

from models.runs.whole_files import write_whole

_LOCK, OWNER = ".lock", ".lock-owner"  # may stay behind: what locks is the system
LOCK_FILES = (_LOCK, f"{_LOCK}-[0-9]*", OWNER)  # patterns


class Crew(NamedTuple):
    """A process among those that work in one folder together."""

    name: str  # of all of them: no two crews at work have the same
    process: int  # the first, 0, opens the folder before any other joins it
    processes: int


class FolderLock:
    """The lock by which this process holds a folder, alone or with its crew.

    Attributes:
        joins: Whether another process of the crew opens the folder.
    """

    def __init__(self, path: Path, crew: Crew | None = None):
        """Nothing is locked yet.

        Args:
            path: The folder.
            crew: What this process is of several; None where it is alone.
        """
        self._path, self._crew = path, crew
        self._process = 0 if crew is None else crew.process
        self.joins = self._process > 0
        self._lock = filelock.FileLock(self._file(self._process))

    def acquire(self) -> None:
        """Lock the folder, or join those who work there.

        Raises:
            ValueError: If another process works there, or does so as this one.
        """
        try:  # others look who has joined by trying the lock
            self._lock.acquire(timeout=2 if self.joins else 0)
        except filelock.Timeout:
            raise ValueError(self._in_use()) from None
        if self.joins:
            return
        try:
            crew = "" if self._crew is None else f" {self._crew.name}"
            write_whole(self._path / OWNER, f"{os.getpid()}{crew}")
        except BaseException:
            self._lock.release()
            raise

    def release(self) -> None:
        """Let go of the folder."""
        if not self.joins:
            (self._path / OWNER).unlink(missing_ok=True)
        self._lock.release()

    def is_opened(self) -> bool:
        """Whether the first process of the crew has opened the folder."""
        return self._crew is not None and self._owner()[1:] == [self._crew.name]

    def has_joined(self, process: int) -> bool:
        """Whether another process of the crew works in the folder."""
        lock = filelock.FileLock(self._file(process))
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            return True
        lock.release()
        return False

    def _file(self, process: int) -> Path:
        return self._path / (f"{_LOCK}-{process}" if process else _LOCK)

    def _owner(self) -> list[str]:
        """Its number, and the name of its crew where it has one."""
        with contextlib.suppress(OSError):
            return (self._path / OWNER).read_text().split(maxsplit=1)
        return []

    def _in_use(self) -> str:
        if self._crew is not None and self.joins:
            return (
                f"--out ({self._path}) is in use by another process {self._process} of "
                f"{self._crew.name}."
            )
        owner = self._owner()
        who = f"process {owner[0]}" if owner else "another process"
        return (
            f"--out ({self._path}) is in use: {who} works there; wait for it or choose "
            "another folder."
        )
