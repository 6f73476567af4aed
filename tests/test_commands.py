"""Every command through the same cases: refusal, a full disk, two at once, kills.

What is not special to a command is tested here, for those of `tests.commands`.
"""

import errno
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from models.runs.folder import RunFolder
from tests.commands import COMMANDS, Command, finished
from tests.train_runs import contents


def those(*which: str, slow: bool = False) -> list:
    """The commands that have all of this, such as ``"keeps"`` and ``"named"``."""
    slowly = [pytest.mark.slow]
    chosen = [each for each in COMMANDS if all(getattr(each, name) for name in which)]
    return [
        pytest.param(each, id=each.module, marks=slowly * (slow or each.slow))
        for each in chosen
    ]


def is_one_line(said: str, *words: object) -> bool:
    """Whether an error is one line that holds all these words."""
    assert said.startswith("error: "), said
    assert said.count("\n") == 1, said
    for word in words:
        assert str(word) in said, said
    return True


def is_finished(out: Path, command: Command) -> bool:
    """Whether a call ended as the one that ran through, to the last bit."""
    torn = [*out.rglob("*.part"), *out.glob(".lock-owner")] if command.keeps else []
    return not torn and command.contents(out) == command.contents(finished(command))


def copy(command: Command, tmp_path: Path) -> Path:
    """A finished call, to be changed."""
    return shutil.copytree(finished(command), tmp_path / "out")


# --- places ---------------------------------------------------------------------------


@pytest.mark.parametrize("command", those("keeps"))
@pytest.mark.parametrize("name", ["thesis.tex", "run.json", "parts/notes-1.csv"])
def test_folders_of_others_are_refused_and_stay(tmp_path, command, name):
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text('{"of": "somebody else"}')
    before = contents(out)
    for anew in {(), command.anew}:
        status, _, said = command.run(out, *anew)
        assert status == 2
        assert is_one_line(said, f"--out ({out}) must be empty or hold results of")
        assert Path(name).parts[0] in said
        assert contents(out) == before


def a_file(out: Path) -> str:
    """Somebody's file."""
    out.write_text("mine")
    return "it is a file"


def a_dangling_link(out: Path) -> str:
    """A link to what is gone."""
    out.symlink_to(out.with_name("gone"))
    return f"it is a link to {out.with_name('gone')}, which is not there"


def a_pipe(out: Path) -> str:
    """No file and no folder."""
    os.mkfifo(out)
    return "it is a pipe or a device"


@pytest.mark.parametrize("command", those())
@pytest.mark.parametrize("place", [a_file, a_dangling_link, a_pipe])
def test_what_is_no_folder_is_refused_by_what_it_is(tmp_path, command, place):
    out = tmp_path / "out"
    words = place(out)
    before = out.lstat()
    status, _, said = command.run(out, *command.anew)
    assert status == 2
    assert is_one_line(said, f"--out ({out}) must be a folder, but {words}")
    assert (out.lstat().st_mode, out.lstat().st_size) == (
        *(before.st_mode, before.st_size),
    )


@pytest.mark.parametrize("command", those())
def test_a_folder_that_cannot_be_made_is_named(tmp_path, command, monkeypatch):
    (tmp_path / "file").write_text("mine")
    status, _, said = command.run(tmp_path / "file" / "out")
    assert status == 1
    assert is_one_line(said, os.strerror(errno.ENOTDIR), tmp_path / "file" / "out")
    assert contents(tmp_path) == {"file": b"mine"}

    def read_only(self, *arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    with monkeypatch.context() as patch:
        patch.setattr("models.runs.folder.Path.mkdir", read_only)
        status, _, said = command.run(tmp_path / "out")
    assert status == 1
    assert is_one_line(said, f"{os.strerror(errno.EROFS)} ({tmp_path / 'out'})")


# --- two at once ----------------------------------------------------------------------


@pytest.mark.parametrize("command", those("keeps"))
def test_a_folder_that_another_process_works_in_is_refused(tmp_path, command):
    out = copy(command, tmp_path)
    arguments = {"of": "whatever it does"}
    with RunFolder(out, command.module, arguments, overwrite=True):
        before = contents(out)
        for how in {(), command.resume, command.anew}:
            status, _, said = command.run(out, *how)
            assert status == 2
            assert is_one_line(
                said, f"--out ({out}) is in use", f"process {os.getpid()}"
            )
        assert contents(out) == before
    assert command.run(out, *command.anew).status == 0
    assert is_finished(out, command)


@pytest.mark.parametrize("command", those("keeps", slow=True))
def test_the_second_of_two_processes_is_told_of_the_first(tmp_path, command):
    out = tmp_path / "out"
    with command.start(out) as first:
        while first.poll() is None and not (out / "run.json").exists():
            time.sleep(0.01)
        first.send_signal(signal.SIGSTOP)  # lest it ends before the second begins
        status, _, said = command.run(out, *command.anew)
        first.send_signal(signal.SIGCONT)
        assert (first.communicate()[1], first.returncode) == ("", 0)
    assert status == 2
    assert is_one_line(said, f"process {first.pid} works there")
    assert is_finished(out, command)


# --- going on -------------------------------------------------------------------------


@pytest.mark.parametrize("command", those("results"))
def test_a_finished_call_may_be_repeated(tmp_path, command):
    out = copy(command, tmp_path)
    if command.resume:
        before = contents(out)
        status, _, said = command.run(out)
        assert status == 2
        assert is_one_line(said, f"--out ({out}) holds a run; add --resume to go on")
        assert contents(out) == before
    assert command.go_on(out).status == 0
    assert is_finished(out, command)
    assert contents(out).keys() == contents(finished(command)).keys()


@pytest.mark.parametrize("command", those("named"))
def test_another_call_is_refused_and_named(tmp_path, command):
    out = copy(command, tmp_path)
    before = contents(out)
    status, _, said = command.run(out, *command.other, *command.resume)
    assert status == 2
    assert is_one_line(said, command.named, "or add --overwrite")
    assert contents(out) == before


@pytest.mark.parametrize("command", those("anew", "other"))
def test_another_call_replaces_nothing_else(tmp_path, command):
    out = copy(command, tmp_path)
    for folder in (out, *(each for each in out.iterdir() if each.is_dir())):
        (folder / "notes.txt").write_text("mine")
        (folder / "notes.part").write_text("mine")
    before = contents(out)
    assert command.run(out, *command.other, *command.anew).status == 0
    after = contents(out)
    mine = {name for name in before if Path(name).stem == "notes"}
    assert {after[name] for name in mine} == {b"mine"}
    assert len(after) == len(before)
    assert not any(after[name] == before[name] for name in command.results[:1])
    for name in mine:
        (out / name).unlink()
    assert command.run(out, *command.anew).status == 0
    assert is_finished(out, command)


@pytest.mark.parametrize("command", those("results"))
def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path, command, monkeypatch):
    for writes in command.full:
        out, left = tmp_path / str(writes), iter(range(writes))

        def full(handle, left=left):
            if next(left, None) is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr("models.runs.whole_files.os.fsync", full)
            status, _, said = command.run(out)
        assert status == 1
        assert is_one_line(said, f"{os.strerror(errno.ENOSPC)} ({out}")
        assert command.go_on(out).status == 0
        assert is_finished(out, command)


# --- stopped --------------------------------------------------------------------------


@pytest.mark.parametrize("command", those(slow=True))
def test_ctrl_c_is_one_line_at_any_moment_and_loses_nothing(tmp_path, command):
    stopped = 0
    for number, after in enumerate(command.moments()):
        out = tmp_path / str(number)
        status, _, said = command.stop(out, signal.SIGINT, after)
        if status:  # it was not faster
            stopped += 1
            assert status == 130, (after, status, said)
            assert is_one_line(said, "interrupted; ")
        if command.results:
            assert command.go_on(out).status == 0
            assert is_finished(out, command)
    assert stopped


@pytest.mark.parametrize("command", those("keeps", slow=True))
def test_a_kill_at_any_moment_loses_nothing_and_leaves_no_lock(tmp_path, command):
    for number, after in enumerate(command.moments()):
        out = tmp_path / str(number)
        status, _, said = command.stop(out, signal.SIGKILL, after)
        assert (status in (0, -signal.SIGKILL), said) == (True, "")
        assert command.go_on(out).status == 0
        assert is_finished(out, command)
