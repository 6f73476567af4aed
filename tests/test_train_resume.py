"""A run that stops or fails goes on to the very same end.

Kills and Ctrl-C at any moment, as of every command, are in `test_commands`.
"""

import errno
import itertools
import os
import shutil

import numpy as np
import pytest

import models.train._loop
from models.checkpoints import CheckpointFolder
from models.train.command import train as train_options
from models.train.record import IncompleteRunError, read_run
from models.training import Trainer
from tests import train_runs
from tests.helpers import contents, refusal
from tests.train_runs import (
    EPOCHS,
    RESUME,
    finished,
    kept,
    options,
    same,
    shortened,
    train,
)

pytestmark = pytest.mark.slow  # seconds of compiling each

command_line, like = train_runs.command_line, train_runs.like
often = train_runs.often


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run stopped in its third epoch; leave it as it is."""
    out, count = tmp_path_factory.mktemp("stopped") / "out", itertools.count(1)
    whole = models.train._loop.validation_mae

    def interrupted(*arguments):
        if next(count) == 3:
            raise KeyboardInterrupt
        return whole(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models.train._loop, "_CHECKPOINT_SECONDS", 0)
        patch.setattr(models.train._loop, "validation_mae", interrupted)
        assert train(out, *EPOCHS) == 130
    assert not (out / "test.csv").exists()
    with pytest.raises(IncompleteRunError):
        read_run(out)
    return out


def test_a_stopped_run_goes_on_to_the_same_weights_and_numbers(
    stopped, tmp_path, capsys, like
):
    out = shutil.copytree(stopped, tmp_path / "out")
    assert train(out, *RESUME) == 0
    assert "epoch 3/4" in (said := capsys.readouterr().out)
    assert "epoch 2/4" not in said
    assert same(out, like)


def test_a_run_killed_while_it_wrote_goes_on(stopped, tmp_path, like):
    out = shutil.copytree(stopped, tmp_path / "out")
    (out / "metrics.csv").unlink()
    (out / "run.json.part").write_text('{"argu')
    (out / "metrics.csv.abcd1234.part").write_text("epoch,se")
    for half in ("3.orbax-checkpoint-tmp", "3.part"):  # of 0.1.0, and now
        (out / "checkpoints" / half / "state").mkdir(parents=True)
    assert train(out, *RESUME) == 0
    assert same(out, like)


def test_what_an_unfinished_run_has_reached_can_be_tested(stopped, tmp_path, capsys):
    out = shutil.copytree(stopped, tmp_path / "out")
    assert train(out, *RESUME, "--epochs", "0") == 0
    assert "epoch 3" not in capsys.readouterr().out
    assert (out / "test.csv").read_bytes() != (finished() / "test.csv").read_bytes()
    with pytest.raises(IncompleteRunError):
        read_run(out)


def test_a_run_inside_another_command_reports_and_lets_go(stopped, tmp_path, capsys):
    """As `analysis.study` calls it: a status and a line, and the folder is free."""
    out = shutil.copytree(stopped, tmp_path / "out")
    for _ in range(2):
        assert train_options(options(*EPOCHS, out=out)) == 2
        assert "add --resume to go on" in capsys.readouterr().err
    assert train_options(options(*RESUME, out=out)) == 0
    assert read_run(out).complete


@pytest.mark.parametrize("more", [(), ("--epochs", "0")])
def test_a_finished_run_is_tested_again_and_not_trained(
    tmp_path, monkeypatch, like, more
):
    out = shutil.copytree(finished(), tmp_path / "out")
    before = contents(out)
    monkeypatch.setattr(Trainer, "epoch", None)
    assert train(out, *RESUME, *more) == 0
    assert same(out, like)
    after = contents(out)
    assert after["metrics.csv"] == before["metrics.csv"]
    assert after.keys() == before.keys()
    assert read_run(out).seconds == read_run(finished()).seconds
    assert read_run(out).arguments["epochs"] == 4


def test_without_epochs_the_untrained_model_is_tested(tmp_path, monkeypatch, capsys):
    """In place of a trained run, of which nothing is left but what is not its own."""
    out = shutil.copytree(finished(), tmp_path / "out")
    (out / "checkpoints" / "notes.txt").write_text("mine")
    monkeypatch.setattr(Trainer, "epoch", None)
    untrained = ("--epochs", "0", "--seeds", "2")
    assert train(out, *untrained, "--overwrite") == 0
    said = capsys.readouterr().out
    assert "wrote run.json, metrics.csv, test.csv, checkpoints in" in said
    assert [*contents(out / "checkpoints")] == ["notes.txt"]
    assert not (out / "predictions.npz").exists()
    run = read_run(out)
    assert (len(run.test()), len(run.epochs()), run.seconds) == (5 * 4, 0, 0)
    before = (out / "test.csv").read_bytes()
    assert train(out, *untrained, "--resume") == 0
    assert (out / "test.csv").read_bytes() == before


# --- what goes wrong ------------------------------------------------------------------


def test_a_loss_that_is_no_number_stops_the_run_and_says_where(
    tmp_path, capsys, monkeypatch, like, often
):
    out, whole = tmp_path / "out", models.train._loop.learning_rate

    def bad(epoch, *arguments, **options):
        good = whole(epoch, *arguments, **options)
        return float("nan") if epoch == 2 else good

    with monkeypatch.context() as patch:
        patch.setattr(models.train._loop, "learning_rate", bad)
        said = refusal(capsys, train, out, *EPOCHS, status=1)
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
    said = refusal(capsys, train, out, *EPOCHS, status=1)
    assert "at step 4 of epoch 2 (seed 1); the checkpoint of epoch 1 stays" in said


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_disk_that_is_full_at_a_checkpoint_is_named_and_nothing_is_lost(
    tmp_path, capsys, monkeypatch, like, often, epoch
):
    out, whole = tmp_path / "out", CheckpointFolder.save

    def full(folder, number, checkpoint):
        if number == epoch:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder.path))
        whole(folder, number, checkpoint)

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFolder, "save", full)
        said = refusal(capsys, train, out, *EPOCHS, status=1)
    assert f"{os.strerror(errno.ENOSPC)} ({out / 'checkpoints'})" in said
    stays = "the last checkpoint in" if epoch > 1 else "there is no checkpoint in"
    assert f"{stays} {out}" in said
    assert train(out, *RESUME) == 0
    assert same(out, like)


@pytest.mark.parametrize("damage", [shortened, shutil.rmtree])
def test_a_damaged_checkpoint_is_refused_and_stays(tmp_path, capsys, damage):
    out = shutil.copytree(finished(), tmp_path / "out")
    damage(out / "checkpoints" / "4")
    before = contents(out)
    said = refusal(capsys, train, out, *RESUME)
    if damage is shutil.rmtree:
        assert f"--out ({out}) holds a run of 4 epochs whose checkpoint is gone" in said
    else:
        assert f"the checkpoint {out / 'checkpoints' / '4'} is damaged" in said
    after = contents(out)
    assert {name for name in before if after[name] != before[name]} <= {"run.json"}
