"""What a run leaves behind: test errors, forecasts, its record, tables."""

import gc
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from jax import monitoring

import analysis.tables
from models.errors import mean_over_steps, metrics_of, step_metrics
from models.train._loop import Progress, fit
from models.train.folder import open_folder
from models.train.record import read_run
from models.train.restore import best_models, restore
from tests import train_runs
from tests.helpers import refusal
from tests.train_runs import (
    CHANCES,
    EPOCHS,
    LENGTH,
    ROOT,
    arguments,
    finished,
    made,
    metrics,
    options,
    remembering_as_environment,
    train,
    walk,
)

pytestmark = pytest.mark.slow  # seconds of compiling each

command_line = train_runs.command_line


# --- results ------------------------------------------------------------------------


def test_test_csv_and_predictions_npz_say_the_same():
    run, kept = read_run(finished()), np.load(finished() / "predictions.npz")
    steps = kept["start"][:, None] + 4 + np.arange(3)
    targets = walk().values[steps]
    assert kept["speeds"].shape == (2, *targets.shape)
    assert kept["sensor_ids"].tolist() == ["0", "1", "2"]
    table = run.test()
    for seed, speeds in enumerate(kept["speeds"]):
        own = table[table["seed"] == seed].set_index("horizon")
        at_steps = step_metrics(speeds, targets)
        mean = mean_over_steps(at_steps)
        for name in ("mae", "rmse", "mape"):
            expected = [*getattr(at_steps, name), getattr(mean, name)]
            found = own.loc[["1", "2", "3", "mean"], name]
            np.testing.assert_allclose(found, expected, rtol=1e-5)  # sums are float32
        assert own.loc["mean", "readings"] == (targets != 0).sum()


def test_a_run_is_read_as_the_tables_want_it():
    run = read_run(finished())
    assert (run.seeds, run.steps_per_epoch, run.parameters) == ((0, 1), 4, 285)
    assert set(run.test()["model"]) == {
        "attention",
        *("last value", "time of week", "ridge"),
    }
    epochs = run.epochs()
    assert epochs["epoch"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert epochs["seed"].tolist() == 4 * [0, 1]
    assert run.seconds == pytest.approx(epochs[::2]["seconds"].sum())
    assert epochs["learning_rate"].tolist()[::2] == pytest.approx(
        [0.0004, 0.004, 1e-6 + 0.003999 * 0.75, 1e-6 + 0.003999 * 0.25]
    )


def test_two_runs_make_a_table(tmp_path):
    out = tmp_path / "plain"
    assert train(out, *LENGTH, "--dropout", 0.2) == 0
    words = [str(finished()), str(out), "--out", str(tmp_path / "tables")]
    assert analysis.tables.main(words) == 0
    text = (tmp_path / "tables" / "table-4-3.md").read_text()
    assert "(b) No regularization" in text
    assert "(d) Diagonal dropout" in text
    rows: pd.DataFrame = pd.read_csv(tmp_path / "tables" / "table-4-3.csv")
    assert not rows.empty


def test_the_best_weights_are_tested_and_a_stopped_seed_has_no_more_rows(tmp_path):
    out = tmp_path / "out"
    asked = (*CHANCES, "--epochs", 40, "--seeds", 2)
    asked += ("--patience", 2, "--learning-rate", 0.3)
    assert train(out, *asked) == 0
    rows, patience = metrics(out), 2
    assert rows["epoch"].max() < 40
    run = restore(options(*asked, out=out))
    _, trainer, prepared, state = run
    steps = [step for _, step, _ in best_models(run)]
    table = read_run(out).test().set_index(["seed", "horizon"])
    for seed in (0, 1):
        own = rows[rows["seed"] == seed]["validation_mae"].to_numpy()
        assert len(own) == own.argmin() + 1 + patience
        assert state.best_mae[seed] == np.float32(own.min())
        assert state.stopped[seed]
        assert steps[seed] == 4 * (own.argmin() + 1)
    best = metrics_of(trainer.evaluate(state.best, prepared.split.test)).mae[:, 0]
    last = metrics_of(trainer.evaluate(state.params, prepared.split.test)).mae[:, 0]
    tested = [table.loc[(seed, "1"), "mae"] for seed in (0, 1)]
    np.testing.assert_array_equal(tested, best)
    assert np.all(tested != last)


def test_a_run_read_back_must_be_the_one_asked_for(tmp_path):
    with pytest.raises(ValueError, match="other arguments: --width 4 there, 8 asked"):
        restore(options(*EPOCHS, "--width", "8", out=finished()))
    with pytest.raises(ValueError, match="is no training run"):
        restore(options(*EPOCHS, out=tmp_path))
    asked = ("--epochs", 0, "--seeds", 2)
    assert train(tmp_path / "out", *asked) == 0
    with pytest.raises(ValueError, match="holds no checkpoint"):
        restore(options(*asked, out=tmp_path / "out"))
    (tmp_path / "run.json").write_text("half a fi")
    words = r"its run\.json is not that of a training run"
    with pytest.raises(ValueError, match=words):
        restore(options(*EPOCHS, out=tmp_path))


def test_the_first_seed_names_the_seeds(tmp_path):
    out = tmp_path / "out"
    assert train(out, *EPOCHS, "--first-seed", 1) == 0
    assert read_run(out).seeds == (1, 2)
    pairs = [
        (metrics(out), metrics(finished())),
        (read_run(out).test(), read_run(finished()).test()),
    ]
    for both in pairs:
        one, other = (
            table[table["seed"] == 1].reset_index(drop=True) for table in both
        )
        assert len(one) == 4
        pd.testing.assert_frame_equal(one, other)


# --- the record ---------------------------------------------------------------------


def test_run_json_says_what_was_asked_and_on_what():
    record = json.loads((finished() / "run.json").read_text())
    assert record["complete"] is True
    assert record["windows"] == {"train": 136, "validation": 19, "test": 39}
    assert record["checkpoint_epoch"] == 4
    assert record["environment"]["matmul_precision"]["testing"] == "highest"
    assert len(record["arguments"]["data_sha256"]) == 64
    assert record["arguments"]["heads"] == 2
    assert record["versions"]["stgnn-sensitivity"] == read_run(finished()).version
    assert read_run(finished()).options().identity() == options(*EPOCHS).identity()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("window", "4"), ("horizon", 3.5), ("epochs", True), ("width", None)),
        *(("residual", "yes"), ("dropout", "0.2"), ("position", 3), ("heads", [2])),
        *(("graph", {"kind": "full"}), ("start", 0), ("dataset", 5)),
    ],
)
def test_an_edited_record_is_refused_in_a_line(tmp_path, capsys, name, value):
    out = shutil.copytree(finished(), tmp_path / "out")
    record = json.loads((out / "run.json").read_text())
    record["arguments"][name] = value
    (out / "run.json").write_text(json.dumps(record))
    words = f"is no training run: its run.json has {value!r} for --{name}"
    for complete in (True, False):
        with pytest.raises(ValueError, match=re.escape(words)):
            read_run(out, complete)
    said = refusal(capsys, train, out, *EPOCHS, "--resume")
    held = "not" if value is None else repr(value)
    assert f"--{name} {held} there" in said


def test_a_run_of_another_version_says_which(tmp_path):
    out = shutil.copytree(finished(), tmp_path / "out")
    record = json.loads((out / "run.json").read_text())
    for versions, said in (({"stgnn-sensitivity": "9.0"}, "9.0"), ({}, "an unknown")):
        record["versions"], record["arguments"]["stack"] = versions, "crosswise"
        (out / "run.json").write_text(json.dumps(record))
        with pytest.raises(ValueError, match=rf"\(made with {said}.*crosswise"):
            read_run(out, complete=False).options()


# --- what an epoch costs ------------------------------------------------------------


def resident() -> int:
    """Bytes of this process in memory; 0 where the system does not say."""
    file = Path("/proc/self/statm")
    return 4096 * int(file.read_text().split()[1]) if file.exists() else 0


def test_nothing_is_compiled_and_no_memory_taken_after_the_first_epochs(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("models.train._loop._CHECKPOINT_SECONDS", 0)
    words = ("--epochs", 12, "--seeds", 2)
    asked = options(*CHANCES, *words, out=tmp_path / "out")
    series, prepared, trainer = made(*words)
    compiled, seen = [], []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if "/compile/" in event:
            compiled.append(event)

    def report(progress: Progress) -> None:
        gc.collect()
        arrays = sum(array.nbytes for array in jax.live_arrays())
        seen.append((len(compiled), arrays, resident(), dict(trainer.compilations)))

    monitoring.register_event_duration_secs_listener(listen)
    try:
        with open_folder(asked, series) as folder:
            fit(trainer, prepared, asked.fit, folder, report)
    finally:
        monitoring.unregister_event_duration_listener(listen)
    assert len(seen) == 12
    events, arrays, memory, traces = zip(*seen, strict=True)
    assert events[0] > 0
    assert set(events[1:]) == {events[1]} == {events[0]}
    assert traces[-1] == {"epoch": 1, "evaluate": 1, "judge": 1}
    assert len(set(arrays[1:])) == 1
    assert memory[11] - memory[1] < 20 * 2**20


def test_eight_devices_train_as_one(tmp_path):
    out = tmp_path / "out"
    words = arguments(out, *EPOCHS, "--devices", 8)
    done = subprocess.run(
        [sys.executable, "-m", "models.train", *words],
        cwd=ROOT,
        env=os.environ | remembering_as_environment(),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    one, eight = metrics(finished()), metrics(out)
    np.testing.assert_allclose(eight["loss"], one["loss"], rtol=1e-5)
    np.testing.assert_allclose(
        eight["validation_mae"], one["validation_mae"], rtol=1e-5
    )
    assert train(out, *EPOCHS, "--resume") == 0  # on one device
    tested = [read_run(run).test()["mae"] for run in (out, finished())]
    np.testing.assert_allclose(*tested, rtol=1e-5)


# --- without arguments, as the README has it ------------------------------------------


def test_training_without_arguments_beats_the_simple_forecasters(tmp_path):
    command = [sys.executable, "-m", "models.train", "--out", str(tmp_path / "out")]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    assert done.returncode == 0, done.stderr
    assert seconds < 360  # it is promised in 180 on two idle cores
    table = pd.read_csv(tmp_path / "out" / "test.csv", dtype={"horizon": str})
    mae = table.pivot(index="horizon", columns="model", values="mae")
    for baseline in ("last value", "time of week", "ridge"):
        better = mae["attention"] < mae[baseline]
        assert better[["3", "6", "12", "mean"]].all(), (baseline, mae)
