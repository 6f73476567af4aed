"""What goes wrong in a run: a loss that is no number, a full disk, lost checkpoints."""

import errno
import itertools
import os
import shutil

import numpy as np
import pytest

import models.checkpoints
import models.train._loop
from models.train.record import IncompleteRunError, read_run
from tests import train_runs
from tests.train_runs import (
    EPOCHS,
    RESUME,
    contents,
    finished,
    kept,
    refusal,
    same,
    train,
)

pytestmark = pytest.mark.slow  # seconds of compiling each

command_line, like = train_runs.command_line, train_runs.like
often = train_runs.often


def test_a_loss_that_is_no_number_stops_the_run_and_says_where(
    tmp_path, capsys, monkeypatch, like, often
):
    out, whole = tmp_path / "out", models.train._loop.learning_rate

    def bad(epoch, *arguments, **options):
        good = whole(epoch, *arguments, **options)
        return float("nan") if epoch == 2 else good

    with monkeypatch.context() as patch:
        patch.setattr(models.train._loop, "learning_rate", bad)
        status, said = refusal(capsys, out, *EPOCHS)
    assert status == 1
    assert "the loss became nan at step 2 of epoch 3 (seed 0)" in said
    assert "the checkpoint of epoch 2 stays" in said
    with pytest.raises(IncompleteRunError):
        read_run(out)
    assert np.isfinite(kept(out, like).best_mae).all()
    assert train(out, *RESUME) == 0
    assert same(out, like)


def test_weights_that_the_last_step_spoils_are_not_kept(
    tmp_path, capsys, monkeypatch, often
):
    out, count = tmp_path / "out", itertools.count(1)
    whole = models.train._loop.validation_mae

    def spoilt(*arguments):
        return whole(*arguments) * [1, np.nan if next(count) == 2 else 1]

    monkeypatch.setattr(models.train._loop, "validation_mae", spoilt)
    status, said = refusal(capsys, out, *EPOCHS)
    assert status == 1
    assert "at step 4 of epoch 2 (seed 1); the checkpoint of epoch 1 stays" in said


FULL = (  # as TensorStore raises it
    'RESOURCE_EXHAUSTED: Error writing "best_mae/0": Failed writing: "d/5a2f": Failed '
    "to write 193914 bytes to file 17: No space left on device [os_error_code='28']"
)


@pytest.mark.parametrize("writes", [0, 3])
def test_a_full_disk_is_named_and_nothing_is_lost(
    tmp_path, capsys, monkeypatch, like, often, writes
):
    out, count = tmp_path / "out", itertools.count()
    whole = models.checkpoints._write_arrays

    def full(folder, tree):
        if folder.parent.name.startswith("3"):
            raise ValueError(FULL)
        whole(folder, tree)

    def full_for_files(handle):
        if next(count) >= writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if writes:
            patch.setattr(models.checkpoints, "_write_arrays", full)
        else:
            patch.setattr("models.runs.whole_files.os.fsync", full_for_files)
        status, said = refusal(capsys, out, *EPOCHS)
    assert status == 1
    assert os.strerror(errno.ENOSPC) in said
    assert str(out) in said
    if not writes:
        assert f"there is no checkpoint in {out}" in said
        return
    assert "the last checkpoint" in said
    assert train(out, *RESUME) == 0
    assert same(out, like)


def test_a_folder_that_cannot_be_made_is_named(tmp_path, capsys, monkeypatch):
    def read_only(self, *arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr("models.train.folder.Path.mkdir", read_only)
    status, said = refusal(capsys, tmp_path / "out", *EPOCHS)
    assert status == 1
    assert f"{os.strerror(errno.EROFS)} ({tmp_path / 'out'})" in said
    assert "no checkpoint" in said


def no_state(checkpoint):
    """A part is gone."""
    shutil.rmtree(checkpoint / "state")


def half_written(checkpoint):
    """Files end early."""
    for file in (checkpoint / "state").rglob("d/*"):
        file.write_bytes(file.read_bytes()[:20])


def no_json(checkpoint):
    """The rows of metrics.csv are no JSON."""
    (checkpoint / "history" / "metadata").write_text("{")


@pytest.mark.parametrize("damage", [no_state, half_written, no_json, shutil.rmtree])
def test_a_damaged_checkpoint_is_refused_and_stays(tmp_path, capsys, damage):
    out = shutil.copytree(finished(), tmp_path / "out")
    damage(out / "checkpoints" / "4")
    before = contents(out)
    status, said = refusal(capsys, out, *RESUME)
    assert status == 2
    if damage is shutil.rmtree:
        assert f"--out ({out}) holds a run of 4 epochs whose checkpoint is gone" in said
    else:
        assert f"the checkpoint {out / 'checkpoints' / '4'} is damaged" in said
    after = contents(out)
    assert {name for name in before if after[name] != before[name]} <= {"run.json"}
