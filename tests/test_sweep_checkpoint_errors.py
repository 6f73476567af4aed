"""What a sweep over trained runs refuses, and how it says so."""

import json
import shutil
from pathlib import Path

import pytest

from models.train.restore import (
    spread_nodes,
)
from tests import train_runs
from tests.checkpoint_runs import refusal, run, sweep
from tests.train_runs import train, walk, write_values

command_line = train_runs.command_line


@pytest.mark.slow
def test_data_that_moved_are_named_with_data(tmp_path, capsys):
    data = write_values(tmp_path / "there.npz", walk().values)
    folder = tmp_path / "run"
    assert train(folder, "--dataset", data, "--epochs", 1) == 0
    moved = data.rename(tmp_path / "moved.npz")
    assert sweep(tmp_path / "out", "--checkpoint", folder, "--data", moved) == 0
    status, said = refusal(
        capsys, tmp_path / "other", "--checkpoint", folder, "--data", tmp_path
    )
    assert status == 2
    assert str(data) in said


def changed(folder: Path, **arguments: object) -> Path:
    """The run with other words in its record; None takes one away."""
    record = json.loads((folder / "run.json").read_text())
    for name, value in arguments.items():
        record["arguments"].pop(name, None)
        if value is not None:
            record["arguments"][name] = value
    (folder / "run.json").write_text(json.dumps(record))
    return folder


@pytest.mark.slow
def test_what_cannot_be_read_back_is_said_by_name(tmp_path, capsys):
    def refused(folder: Path, *more: object) -> str:
        status, said = refusal(capsys, tmp_path / "out", "--checkpoint", folder, *more)
        assert status == 2
        assert not (tmp_path / "out").exists()
        return said

    def copy(name: str) -> Path:
        return shutil.copytree(run("--layers", 2), tmp_path / name)

    (tmp_path / "empty").mkdir()
    assert "is no training run: it holds no run.json" in refused(tmp_path / "empty")
    assert "is no training run" in refused(tmp_path / "nowhere")
    newer = refused(changed(copy("newer"), magic=3))
    assert "run of another version" in newer
    assert "has --magic, which this version does not know" in newer
    assert "lacks --width" in refused(changed(copy("older"), width=None))
    assert "--stack" in refused(changed(copy("odd"), stack=None))
    data = write_values(tmp_path / "there.npz", walk().values)
    assert train(tmp_path / "lost", "--dataset", data, "--epochs", 1) == 0
    data.unlink()
    assert str(data) in refused(tmp_path / "lost")
    write_values(data, walk(seed=1).values)
    assert "--data-sha256" in refused(tmp_path / "lost")
    bare = copy("bare")
    shutil.rmtree(bare / "checkpoints")
    assert "holds no checkpoint" in refused(bare)
    convolution = tmp_path / "convolution"
    given = ("--model", "convolution", "--epochs", 1)
    sizes = [word for word in train_runs.arguments(convolution, *given)]
    place = sizes.index("--heads")
    from models.train import main as trainer

    assert trainer(sizes[:place] + sizes[place + 2 :]) == 0
    assert "must have attention layers" in refused(convolution)
    folder = run("--layers", 2)
    assert "--nodes (4) must be at most the 3" in refused(folder, "--nodes", 4)
    assert "--samples (999) must not exceed the" in refused(folder, "--samples", 999)
    budget = refused(folder, "--max-memory", "2KiB")
    assert "--max-memory (2.0 KiB) must be at least" in budget
    plain = tmp_path / "plain"
    assert train(plain, "--epochs", 1) == 0
    kept = refused(plain, "--weights", "kept")
    assert "--weights kept needs runs of models.train --keep-epochs" in kept
    twice = refused(folder, folder)
    assert "--checkpoint must not repeat a run" in twice


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--T", "8"), "--T is for random layers"),
        (("--seeds", "2"), "--seeds is for random layers"),
        (("--source", "payne-whitham"), "--source is for random layers"),
        (("--d-model", "8"), "--d-model is for random layers"),
        (("--regularizer", "mask"), "--regularizer is for random layers"),
        (("--nodes", "0"), "--nodes must be at least 1, got 0"),
    ],
)
def test_options_of_random_layers_are_refused(tmp_path, capsys, arguments, word):
    given = ("--checkpoint", tmp_path, *arguments)
    status, said = refusal(capsys, tmp_path / "out", *given)
    assert status == 2
    assert word in said


@pytest.mark.parametrize(("name", "value"), [("nodes", "2"), ("weights", "kept")])
def test_options_of_trained_layers_need_a_checkpoint(tmp_path, capsys, name, value):
    status, said = refusal(capsys, tmp_path / "out", f"--{name}", value)
    assert status == 2
    assert f"--{name} needs --checkpoint" in said


def test_nodes_are_spread_from_the_first_to_the_last():
    assert spread_nodes(29, None) == list(range(29))
    assert spread_nodes(29, 2) == [0, 28]
    with pytest.raises(ValueError, match=r"nodes \(4\) must be at most the 3"):
        spread_nodes(3, 4)
