"""The processes that share a sweep, each with every N-th of its points."""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

from analysis.sweep.options import SweepOptions
from models.runs.crew import Crew
from models.runs.folder import RunFolder, digest
from sensitivity.arguments import ArgumentError

_MEETING_SECONDS = 120  # until all have started, and until all have read their data
_LATE_SECONDS = 10.0  # until a process that has met the others has joined the folder
_RECORD = "process"


@contextlib.contextmanager
def met(options: SweepOptions) -> Iterator[Crew | None]:
    """All processes of a sweep meet, and leave the block together.

    They are held together by JAX's own service in the block only: later it would end
    all where one ends, without a word of what is kept.

    Args:
        options: The sweep.

    Yields:
        What this process is of them; None where it is alone.

    Raises:
        ArgumentError: If they do not come together, about ``coordinator``.
    """
    if options.coordinator is None:
        yield None
        return
    import jax

    processes, process = options.processes or 0, options.process or 0
    try:
        jax.distributed.initialize(
            options.coordinator,
            num_processes=processes,
            process_id=process,
            initialization_timeout=_MEETING_SECONDS,
            shutdown_timeout_seconds=_MEETING_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        why = str(error).strip().partition("\n")[0]
        rule = f"({options.coordinator}) did not bring {processes} processes together: "
        raise ArgumentError("coordinator", rule + why) from error
    try:
        yield Crew(options.coordinator, process, processes)
    finally:
        with contextlib.suppress(RuntimeError):  # one has ended: see missing
            jax.distributed.shutdown()


class Shared:
    """The points of one process, and what the others have finished."""

    def __init__(self, folder: RunFolder, crew: Crew | None, identity: dict[str, Any]):
        self._folder, self._identity = folder, identity
        self._crew = crew or Crew("", 0, 1)
        self._met = time.monotonic()
        for record in self._records():
            folder.record["filled_share"] |= record["filled_share"]

    @property
    def leads(self) -> bool:
        """Whether this process writes what comes of the sweep."""
        return self._crew.process == 0

    def mine(self, number: int) -> bool:
        """Whether a point is this process's, by its number."""
        return number % self._crew.processes == self._crew.process

    def save(self) -> None:
        """Write the record of this process: ``run.json``, or a part that is read."""
        if self.leads:
            self._folder.save()
            return
        names = ("filled_share", "seconds")
        text = json.dumps({name: self._folder.record[name] for name in names})
        label = f"{_RECORD}={self._crew.process}"
        self._folder.keep(label, digest(self._identity), text, ".json")

    def wait_for(self, number: int, name: str, key: str) -> bytes:
        """A point of another process, when it is there.

        Args:
            number: Of the point.
            name: Its label.
            key: Digest of all that it depends on.

        Returns:
            Its content.

        Raises:
            ConnectionError: If that process has ended without it.
        """
        process = number % self._crew.processes
        while True:
            here = self._folder.has_joined(process)
            self._folder.refresh()
            found = self._folder.part(name, key)
            if found.state == "finished":
                for record in self._records():
                    self._folder.record["filled_share"] |= record["filled_share"]
                if name in self._folder.record["filled_share"]:
                    return found.content
            elif not here and time.monotonic() > self._met + _LATE_SECONDS:
                raise ConnectionError(
                    f"process {process} of {self._crew.processes} has ended without "
                    f"{name}"
                )
            time.sleep(0.1)

    def close(self) -> None:
        """Add the seconds of the others; of these, see that the first is there.

        Raises:
            ConnectionError: If process 0, which writes the results, has ended.
        """
        if self.leads:
            seconds = sum(record["seconds"] for record in self._records())
            self._folder.record["seconds"] += seconds
        elif not self._folder.has_joined(0):
            raise ConnectionError(
                f"process 0 of {self._crew.processes}, which writes the results, has "
                "ended"
            )

    def _records(self) -> Iterator[dict[str, Any]]:
        """What other processes have recorded, also of a run before."""
        key = digest(self._identity)
        for label in self._folder.labels():
            if label.startswith(f"{_RECORD}=") and self.leads:
                found = self._folder.part(label, key)
                if found.state == "finished":
                    yield json.loads(found.content)
