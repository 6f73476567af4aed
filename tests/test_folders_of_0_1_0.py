"""Run folders that version 0.1.0 wrote go on, and say what they said then.

``tests/fixtures/v0.1.0`` holds what its commands left (pictures apart), each made by
the arguments below, on made-up speeds of three sensors. Numbers are compared to
rounding: another CPU rounds otherwise.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.attention import main as attention
from analysis.network import main as network
from analysis.tables import main as tables
from models.runs.folder import read_record
from models.train import main as train
from models.train.record import read_run
from sensitivity.sweep import main as sweep
from tests.sweep_runs import points, same

FIXTURES = Path(__file__).parent / "fixtures" / "v0.1.0"
SWEEP = "--T 4 8 16 --seeds 1 --samples 2 --d-model 8 --heads 2 --out sweep"
TRAIN = (
    "--dataset speeds.csv --window 4 --horizon 3 --width 8 --layers 1 --heads 2 "
    "--epochs 2 --steps-per-epoch 3 --batch-size 4 --seeds 2 --keep-epochs 1 "
    "--out train"
)
ATTENTION = "train --windows 2 --nodes 2 --certificates 2 --out attention"
NETWORK = "train --windows 1 --nodes 2 --out network"
ROUNDING = 1e-6  # what is trained and measured in float32


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A copy of the folders, where commands run."""
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def equal(one: Path, other: Path, keys: list[str], rounding: float = ROUNDING) -> None:
    """The rows of one table are in the other, and hold the same words and numbers."""
    old, new = (pd.read_csv(file, dtype={"hop": str}) for file in (one, other))
    assert set(old.columns) <= set(new.columns)
    found = old[keys].merge(new, on=keys, how="left", validate="1:1")
    pd.testing.assert_frame_equal(
        found[list(old.columns)], old, rtol=rounding, atol=rounding
    )


def equal_page(one: Path, other: Path) -> None:
    """Two pages have the same words, and numbers equal to their three digits."""
    for old, new in zip(
        one.read_text().split(), other.read_text().split(), strict=True
    ):
        try:
            assert float(new) == pytest.approx(float(old), rel=0.01)
        except ValueError:
            assert new == old


SWEPT = ["T", "sample", "head", "statement"]


@pytest.mark.slow
def test_a_finished_sweep_is_measured_again_once_for_the_statements_it_lacks(
    folders, capsys
):
    then, now, said = FIXTURES / "sweep", folders / "sweep", []
    for _ in range(2):
        assert sweep(SWEEP.split()) == 0
        said.append(" ".join(capsys.readouterr().out.split()))
        assert len(points(now)) == 3
        assert not (now / "points").exists()
        before, record = (
            json.loads((out / "run.json").read_text()) for out in (then, now)
        )
        assert record["command"] == "sensitivity.sweep"
        for name in ("arguments", "complete", "filled_share"):
            assert record[name] == before[name]
    assert said[0].count("an earlier version judged fewer statements") == 3
    assert said[1].count("finished before") == 3
    equal(then / "sweep.csv", now / "sweep.csv", SWEPT, rounding=1e-9)
    equal(then / "verdicts.csv", now / "verdicts.csv", ["statement", "level"])
    found = set(pd.read_csv(now / "verdicts.csv")["statement"])
    assert {"eq8_off_diagonal_tight", "eq8_diagonal_tight"} <= found


def test_a_sweep_that_was_stopped_goes_on(folders):
    (folders / "sweep" / "sweep.csv").unlink()
    (folders / "sweep" / "points" / "T=4-seed=0.csv").unlink()
    assert sweep(SWEEP.split()) == 0
    then, now = FIXTURES / "sweep", folders / "sweep"
    equal(then / "sweep.csv", now / "sweep.csv", SWEPT, rounding=1e-9)


def test_a_sweep_that_is_replaced_loses_what_0_1_0_wrote_and_nothing_else(folders):
    then, now = FIXTURES / "sweep", folders / "sweep"
    (now / "points" / "notes.txt").write_text("mine")
    assert sweep([*SWEEP.split(), "--T", "4", "--overwrite"]) == 0
    assert len(points(now)) == 1
    assert [file.name for file in (now / "points").iterdir()] == ["notes.txt"]
    assert not same(now, then)


def test_a_sweep_with_other_arguments_is_refused(folders, capsys):
    assert sweep(SWEEP.replace("--samples 2", "--samples 3").split()) == 2
    assert "--samples 2 there, 3 asked for" in capsys.readouterr().err


def test_a_training_run_is_read_and_goes_on(folders):
    assert read_run(folders / "train").seeds == (0, 1)
    assert train([*TRAIN.split(), "--resume"]) == 0
    keys = ["model", "seed", "horizon"]
    equal(FIXTURES / "train" / "test.csv", folders / "train" / "test.csv", keys)
    assert tables(["train", "--out", "tables"]) == 0


def test_its_attention_is_measured_as_then(folders):
    assert attention(ATTENTION.split()) == 0
    then, now = FIXTURES / "attention", folders / "attention"
    of_layer = ["T", "variant", "step", "layer"]
    keys = [*of_layer, "seed", "head", "quantity"]
    equal(then / "diagnostics.csv", now / "diagnostics.csv", keys)
    keys = [*of_layer, "quantity"]
    equal(then / "variants.csv", now / "variants.csv", keys)
    keys = [*of_layer, "seed", "window_index", "node", "certificate"]
    equal(then / "certificates.csv", now / "certificates.csv", keys, rounding=1e-4)
    equal_page(then / "certificates.md", now / "certificates.md")
    with np.load(then / "maps.npz") as old, np.load(now / "maps.npz") as new:
        assert set(old) <= set(new)
        np.testing.assert_array_equal(new["maps"], old["maps"])
        for name in {*old} - {"maps"}:
            np.testing.assert_allclose(
                new[name], old[name], rtol=ROUNDING, atol=ROUNDING
            )


@pytest.mark.slow
def test_its_network_is_measured_again_once_for_the_bounds_it_lacks(folders, capsys):
    for said in (0, 2):
        assert network(NETWORK.split()) == 0
        assert capsys.readouterr().out.count("finished before") == said
    then, now = FIXTURES / "network", folders / "network"
    keys = ["seed", "window_index", "output_step", "input_step", "node_kind"]
    equal(then / "influence.csv", now / "influence.csv", keys)
    equal(then / "bounds.csv", now / "bounds.csv", ["seed", "bound"], rounding=1e-4)
    equal(then / "hops.csv", now / "hops.csv", ["seed", "window_index", "hop"])
    equal(then / "summary.csv", now / "summary.csv", ["seed"], rounding=1e-4)
    found = set(pd.read_csv(now / "bounds.csv")["bound"])
    assert {"message passing", "rollout"} <= found
    assert len([*(now / "parts").iterdir()]) == 2


@pytest.mark.parametrize("command", ["sensitivity.sweep", "models.train"])
def test_a_folder_tells_whose_it_is(command):
    name = {"sensitivity.sweep": "sweep", "models.train": "train"}
    assert read_record(FIXTURES / name[command], command) is not None
    (other,) = {*name} - {command}
    with pytest.raises(ValueError, match=f"run.json is of {command}"):
        read_record(FIXTURES / name[command], other)
