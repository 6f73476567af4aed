"""A run that is killed, interrupted or fails goes on to the very same end."""

import itertools
import shutil
import signal

import numpy as np
import pytest

import models.train._loop
from models.train.record import IncompleteRunError, read_run
from models.training import Trainer
from tests import train_runs
from tests.train_runs import (
    EPOCHS,
    RESUME,
    contents,
    finished,
    in_its_own_process,
    kept,
    refusal,
    same,
    train,
)

command_line, like = train_runs.command_line, train_runs.like
often = train_runs.often
OFTEN = "import models.train._loop as loop; loop._CHECKPOINT_SECONDS = 0"

pytestmark = pytest.mark.slow  # seconds of compiling each


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A run killed after its second epoch; leave it as it is."""
    out = tmp_path_factory.mktemp("killed") / "out"
    status, _ = in_its_own_process(
        out,
        *EPOCHS,
        before=OFTEN,
        send=signal.SIGKILL,
        when=(out / "checkpoints" / "2").exists,
    )
    assert status == -signal.SIGKILL
    assert not (out / "test.csv").exists()
    return out


def test_a_killed_run_goes_on_to_the_same_weights_and_numbers(killed, tmp_path, like):
    out = shutil.copytree(killed, tmp_path / "out")
    with pytest.raises(IncompleteRunError):
        read_run(out)
    before = kept(out, like)
    assert 2 <= int(np.max(before.epoch)) < 4
    assert train(out, *RESUME) == 0
    assert same(out, like)


def test_a_run_killed_while_it_wrote_goes_on(killed, tmp_path, like):
    out = shutil.copytree(killed, tmp_path / "out")
    (out / "metrics.csv").unlink()
    (out / "run.json.part").write_text('{"argu')
    (out / "metrics.csv.part").write_text("epoch,se")
    half = out / "checkpoints" / "3.orbax-checkpoint-tmp"
    half.mkdir(exist_ok=True)
    (half / "state").mkdir(exist_ok=True)
    assert train(out, *RESUME) == 0
    assert same(out, like)


def test_what_an_unfinished_run_has_reached_can_be_tested(killed, tmp_path, capsys):
    out = shutil.copytree(killed, tmp_path / "out")
    assert train(out, *RESUME, "--epochs", "0") == 0
    assert "epoch 3" not in capsys.readouterr().out
    assert (out / "test.csv").read_bytes() != (finished() / "test.csv").read_bytes()
    with pytest.raises(IncompleteRunError):
        read_run(out)


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_a_sentence(tmp_path, like):
    out = tmp_path / "out"
    when = (out / "checkpoints" / "1").exists
    status, said = in_its_own_process(
        out, *EPOCHS, before=OFTEN, send=signal.SIGINT, when=when
    )
    assert status == 130
    assert f"interrupted; the last checkpoint in {out} stays" in said
    assert "Traceback" not in said
    assert train(out, *RESUME) == 0
    assert same(out, like)


def test_an_interrupt_between_epochs_keeps_what_was_done(
    tmp_path, capsys, monkeypatch, like, often
):
    out, count = tmp_path / "out", itertools.count(1)
    whole = models.train._loop.validation_mae

    def interrupted(*arguments):
        if next(count) == 3:
            raise KeyboardInterrupt
        return whole(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(models.train._loop, "validation_mae", interrupted)
        status, said = refusal(capsys, out, *EPOCHS)
    assert status == 130
    assert "the same command with --resume goes on" in said
    assert train(out, *RESUME) == 0
    assert "epoch 3/4" in (said := capsys.readouterr().out)
    assert "epoch 2/4" not in said
    assert same(out, like)


# --- a finished run -----------------------------------------------------------------


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
    out = tmp_path / "out"
    monkeypatch.setattr(Trainer, "epoch", None)
    assert train(out, "--epochs", "0", "--seeds", "2") == 0
    assert "wrote run.json, metrics.csv, test.csv in" in capsys.readouterr().out
    run = read_run(out)
    assert len(run.test()) == 5 * 4
    assert len(run.epochs()) == 0
    before = (out / "test.csv").read_bytes()
    assert train(out, "--epochs", "0", "--seeds", "2", "--resume") == 0
    assert (out / "test.csv").read_bytes() == before
