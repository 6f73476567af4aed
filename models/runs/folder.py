"""The folder of a command's results: opened, gone on with or refused, and locked.

``run.json`` says what was asked for; ``parts/`` holds what is finished. The name of a
part has two digests, of all that it depends on and of what it holds, so that no part is
ever taken for another's, and an edited or torn one is seen.
"""

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from models.runs.crew import LOCK_FILES, OWNER, Crew, FolderLock
from models.runs.flags import flag
from models.runs.whole_files import PART, figure_bytes, write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DIGITS = 16
_PART = re.compile(rf"(.+)-([0-9a-f]{{{_DIGITS}}})-([0-9a-f]{{{_DIGITS}}})(\.\w+)")
State = Literal["missing", "damaged", "of other settings", "finished"]


class Found(NamedTuple):
    """What there is of a part: its content if it is finished."""

    state: State
    content: bytes


class RunFolder:
    """The folder of one call of a command.

    Attributes:
        path: The folder.
        record: What ``run.json`` holds; `save` writes it.
        was_complete: Whether the same work was at its end when it was opened.
    """

    def __init__(
        self,
        path: Path,
        command: str,
        identity: Mapping[str, Any],
        *,
        overwrite: bool = False,
        resume: bool = True,
        same: Callable[[dict, dict], list[str]] | None = None,
        results: Iterable[str] = (),
        keeps: Iterable[str] = (),
        allows: Iterable[str] = (),
        crew: Crew | None = None,
    ):
        """Make the folder, or go on with the same work in it.

        Args:
            path: The folder.
            command: The module that works there: ``"models.train"``.
            identity: What results depend on, by the names of the options, as JSON
                holds it; parts may depend on more.
            overwrite: Whether to delete what another call of the command left there.
            resume: Whether to go on with the same work where it is not to be deleted.
            same: Names in which two identities differ; by default all that do.
            results: Files that version 0.1.0 wrote and did not list in ``run.json``.
            keeps: Folders in which it keeps others, with numbers as names:
                ``"checkpoints"``.
            allows: Patterns of what may lie there without a ``run.json``, such as the
                folders of other runs; it is never deleted.
            crew: What this process is of several that may work there together. The
                first one opens the folder; the others join it, keep parts, and change
                nothing else.

        Raises:
            ValueError: If the folder holds other work, something else, or is no folder,
                or another process works in it.
        """
        self.path, self._parts_folder = path, path / "parts"
        self._command, self._written = command, []
        self._results, self._keeps = tuple(results), tuple(keeps)
        self._allows, self._lock = tuple(allows), FolderLock(path, crew)
        if crew is not None and self._lock.joins:
            self._join(crew, identity)
            return
        check_place(path)
        check_place(self._parts_folder)
        path.mkdir(parents=True, exist_ok=True)
        self._read_old()  # before the lock: nothing is written to others' folders
        self._lock.acquire()
        try:
            old = self._read_old()
            arguments = json.loads(json.dumps(dict(identity), default=str))
            self.record: dict[str, Any] = {"command": command, "arguments": arguments}
            self.record |= {"complete": False, "seconds": 0.0, "files": []}
            self.was_complete = False
            if old is None:
                pass
            elif overwrite:
                self.clear(old)
            elif not resume:
                raise ValueError(
                    f"--out ({path}) holds a run; add --resume to go on with it, or "
                    "--overwrite to replace it."
                )
            elif names := (same or differing)(old["arguments"], arguments):
                if any(self._left(old)):
                    raise ValueError(
                        f"--out ({path}) holds results of other settings "
                        f"({in_words(names, old['arguments'], arguments)}); choose "
                        "another folder or add --overwrite."
                    )
                self.clear(old)
            else:
                self.was_complete = old.get("complete") is True
                self.record |= old | {"complete": False}
            for torn in self._torn(*(old or self.record)["files"]):
                torn.unlink(missing_ok=True)
            self._parts = self._find_parts()
            self.save()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """The folder, let go of at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the folder."""
        self.close()

    def close(self) -> None:
        """Let go of the folder."""
        self._lock.release()

    def has_joined(self, process: int) -> bool:
        """Whether another process of the crew works in the folder."""
        return self._lock.has_joined(process)

    def labels(self) -> list[str]:
        """What the parts that are there are called."""
        return list(self._parts)

    def refresh(self) -> None:
        """See the parts that other processes have kept."""
        self._parts = self._find_parts()

    def save(self) -> None:
        """Write ``run.json``."""
        text = json.dumps(self.record, indent=2, default=str)
        write_whole(self.path / "run.json", text + "\n")

    def part(self, label: str, key: str) -> Found:
        """What there is of a part.

        Args:
            label: What it is called.
            key: Digest of all that it depends on, see `digest`.

        Returns:
            Its state, and its content where it is finished.
        """
        if (file := self._parts.get(label)) is None:
            return Found("missing", b"")
        _, held_key, held_content, _ = _named(file)
        if held_key != key[:_DIGITS]:
            return Found("of other settings", b"")
        content = file.read_bytes()
        if digest(content)[:_DIGITS] != held_content:
            return Found("damaged", b"")
        return Found("finished", content)

    def keep(self, label: str, key: str, content: str | bytes, suffix: str) -> None:
        """Keep a finished part, in place of an earlier one of that label."""
        content = content if isinstance(content, bytes) else content.encode()
        name = f"{label}-{key[:_DIGITS]}-{digest(content)[:_DIGITS]}{suffix}"
        self._parts_folder.mkdir(exist_ok=True)
        write_whole(self._parts_folder / name, content)
        earlier, self._parts[label] = self._parts.get(label), self._parts_folder / name
        if earlier is not None and earlier.name != name:
            earlier.unlink(missing_ok=True)

    def write(self, name: str, content: str | bytes) -> None:
        """Write a result; ``run.json`` lists it first, so that it is known as ours."""
        if name not in self.record["files"]:
            self.record["files"].append(name)
            self.save()
        if name not in self._written:
            self._written.append(name)
        (self.path / name).parent.mkdir(exist_ok=True)
        write_whole(self.path / name, content)

    def write_figure(self, name: str, figure: "Figure", *suffixes: str) -> None:
        """Write a picture, the same bytes for the same picture."""
        for suffix in suffixes or ("png",):
            self.write(f"{name}.{suffix}", figure_bytes(figure, suffix))

    def finish(self) -> list[str]:
        """All is done: delete results of earlier calls that this one did not write.

        Returns:
            The results, in the order in which they were written.
        """
        for name in {*self.record["files"], *self._results} - {*self._written}:
            if (file := self._inside(name)).is_file():
                file.unlink()
        self.record |= {"files": list(self._written), "complete": True}
        self.save()
        return self._written

    def clear(self, old: Mapping[str, Any]) -> None:
        """Delete what the command left in the folder, and nothing else.

        ``run.json`` goes last, replaced by the new one: a kill in between leaves a run
        without results, and never the new run's name on the old one's.
        """
        begun = {"command": self._command, "arguments": old["arguments"]}
        text = json.dumps(begun | {"complete": False, "files": old.get("files", [])})
        write_whole(self.path / "run.json", text)
        for left in self._left(old):
            delete(left)

    def _left(self, old: Mapping[str, Any]) -> Iterable[Path]:
        """What the command has written there."""
        if self._parts_folder.is_dir():
            yield from self._find_parts().values()
        for name in {*old.get("files", ()), *self._results}:
            if (file := self._inside(name)).is_file():
                yield file
        for name in self._keeps:
            yield from self._numbered(name)

    def _numbered(self, name: str) -> list[Path]:
        inside = sorted((self.path / name).glob("[0-9]*"))
        return [place for place in inside if place.name.isdecimal()]

    def _inside(self, name: str) -> Path:
        """A file of the folder, whatever an edited ``run.json`` says of its name."""
        file = (self.path / name).resolve()
        return file if file.is_relative_to(self.path.resolve()) else self.path / ".none"

    def _join(self, crew: Crew, identity: Mapping[str, Any]) -> None:
        """Join the folder that the first process of a crew has opened."""
        old = read_record(self.path, self._command)
        if old is None or not self._lock.is_opened():
            raise ValueError(
                f"--out ({self.path}) was not opened by process 0 of {crew.name}; see "
                "what that one says."
            )
        arguments = json.loads(json.dumps(dict(identity), default=str))
        if names := differing(old["arguments"], arguments):
            raise ValueError(
                f"--out ({self.path}) was opened by process 0 with other settings "
                f"({in_words(names, old['arguments'], arguments)})."
            )
        self._lock.acquire()
        self.record, self.was_complete = old, False
        self._parts = self._find_parts()

    def _read_old(self) -> dict[str, Any] | None:
        """What an earlier call recorded; a folder of somebody else is refused."""
        old = read_record(self.path, self._command)
        if old is None:
            self._check_empty()
        return old

    def _check_empty(self) -> None:
        """Refuse a folder that somebody else uses: it has no ``run.json``."""
        allowed = [*LOCK_FILES, *self._allows]
        if not any(self._parts_folder.glob("*")):  # of nothing that was finished
            allowed.append(self._parts_folder.name)
        allowed += [name for name in self._keeps if not self._numbered(name)]
        torn = {file.name for file in self._torn()}
        others = {file.name for file in self.path.iterdir()} - torn
        others = {n for n in others if not any(fnmatch(n, a) for a in allowed)}
        if others:
            raise ValueError(
                f"--out ({self.path}) must be empty or hold results of "
                f"{self._command}, but it holds {min(others)!r} and no run.json."
            )

    def _torn(self, *names: str) -> Iterable[Path]:
        """What a kill left half-written of these files, and of those of each run."""
        known = {OWNER, "run.json", *names, *self._results}
        for folder in (self.path, self._parts_folder):
            for file in folder.glob(f"*{PART}"):
                stem = file.name.removesuffix(PART)  # as 0.1.0 named it
                stems = {stem, re.sub(r"\.[a-z0-9_]{8}$", "", stem)}
                ours = folder == self._parts_folder and map(_PART.fullmatch, stems)
                if stems & known or (ours and any(ours)):
                    yield file

    def _find_parts(self) -> dict[str, Path]:
        found = {}
        for file in sorted(self._parts_folder.glob("*-*.*")):
            if _PART.fullmatch(file.name):
                found[_named(file)[0]] = file
        return found


def _named(file: Path) -> Sequence[str]:
    match = _PART.fullmatch(file.name)
    return match.groups() if match else ("", "", "", "")


def delete(path: Path) -> None:
    """Delete a file, a folder with all that is in it, or a link and not its target."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_place(path: Path) -> None:
    """Refuse an ``--out`` that is there and no folder.

    Args:
        path: Where results shall be.

    Raises:
        ValueError: Saying what it is.
    """
    if path.is_symlink() and not path.exists():
        raise ValueError(
            f"--out ({path}) must be a folder, but it is a link to {path.readlink()}, "
            "which is not there."
        )
    if path.exists() and not path.is_dir():
        what = "a file" if path.is_file() else "a pipe or a device"
        raise ValueError(f"--out ({path}) must be a folder, but it is {what}.")


def read_record(path: Path, command: str) -> dict[str, Any] | None:
    """Read the ``run.json`` of a command's folder, also one of version 0.1.0.

    Args:
        path: The folder.
        command: The command.

    Returns:
        What it holds, ``arguments`` among it; None if there is none.

    Raises:
        ValueError: If it is not that command's, but somebody else's.
    """
    file = path / "run.json"
    if not file.exists():
        return None
    record: Any = None
    with contextlib.suppress(ValueError):  # no JSON, or no text
        record = json.loads(file.read_text(encoding="utf-8"))
    match record:
        case {"command": str(whose), "settings": dict(settings)}:  # 0.1.0: attention
            record["arguments"] = settings
        case {"command": str(whose), "arguments": dict()}:
            pass
        case {"arguments": {"dataset": str()}}:  # 0.1.0
            whose = "models.train"
        case {"arguments": dict(), "filled_share": dict()}:  # 0.1.0
            whose = "sensitivity.sweep"
        case _:
            whose = ""
    if whose != command:
        raise ValueError(
            f"--out ({path}) must be empty or hold results of {command}, but its "
            f"run.json {_whose(record, whose)}; choose another folder."
        )
    match record.get("files"):
        case [*files] if all(isinstance(name, str) for name in files):
            pass
        case _:  # 0.1.0, or edited
            record["files"] = []
    if not isinstance(record.get("seconds"), int | float):
        record["seconds"] = 0.0
    return record


def _whose(record: Any, command: str) -> str:
    if record is None:
        return "cannot be read (delete it if it is of no use)"
    return f"is of {command}" if command else "is of something else"


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names whose values differ."""
    return [name for name in {**old, **new} if old.get(name) != new.get(name)]


def in_words(names: Sequence[str], old: Mapping, new: Mapping) -> str:
    """Options that differ, each with both values; fingerprints are no options."""
    options = [name for name in names if not name.endswith("_sha256")]
    said = [
        f"{flag(name)} {_given(old, name)}there, {_given(new, name)}asked for"
        for name in options
    ]
    if len(options) < len(names):
        said.append("the data or the weights are others")
    return ", ".join(said)


def _given(options: Mapping, name: str) -> str:
    return "not " if (value := options.get(name)) is None else f"{value!r} "


def digest(*things: Any) -> str:
    """SHA-256 of bytes, arrays, and what JSON or `repr` writes, as hexadecimal digits.

    Args:
        things: In order.

    Returns:
        The digits.

    Example:
        >>> digest({"norm": "spectral"}) == digest({"norm": "frobenius"})
        False
    """
    found = hashlib.sha256()
    for thing in things:
        if isinstance(thing, bytes):
            found.update(thing)
        elif hasattr(thing, "__array__"):
            import numpy as np

            array = np.asarray(thing)
            found.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
        else:
            found.update(json.dumps(thing, sort_keys=True, default=repr).encode())
    return found.hexdigest()
