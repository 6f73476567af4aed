"""A sweep over the attention layers of trained runs, from their folders to verdicts."""

import functools
import gc
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

import sensitivity.bounds
from models.train.restore import (
    best_models,
    kept_epochs,
    kept_models,
    read_options,
    restore,
    spread_nodes,
    spread_windows,
)
from sensitivity import check_bounds
from sensitivity.sweep import main
from tests import train_runs
from tests.sweep_runs import STATEMENTS, SWEEP_COLUMNS, points, table, verdict_table
from tests.train_runs import train, walk, write_values

command_line = train_runs.command_line
RUN = ("--epochs", 2, "--seeds", 2, "--keep-epochs", 0, 2)


@functools.cache
def run(*more: object) -> Path:
    """A trained run, the same for all tests. Leave it as it is."""
    name = "-".join(str(word).strip("-") for word in more) or "plain"
    out = Path(train_runs._programs()) / "runs" / name
    assert train(out, *RUN, *more) == 0
    return out


def sweep(out: Path, *arguments: object) -> int:
    """Run the command."""
    try:
        return main([*map(str, arguments), "--out", str(out)])
    except SystemExit as stop:  # from the reader of the command line
        return int(str(stop.code))


def refusal(capsys: pytest.CaptureFixture, out: Path, *arguments: object):
    """Status of a command that fails, and what it says on stderr, as one line."""
    capsys.readouterr()
    status = sweep(out, *arguments)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return status, " ".join(said.replace("│", " ").split())


@pytest.mark.slow
def test_every_row_is_what_check_bounds_says_of_what_the_layer_really_saw(tmp_path):
    out = tmp_path / "out"
    folder = run("--layers", 2)
    given = ("--checkpoint", folder, "--samples", 3, "--level", "both")
    assert sweep(out, *given) == 0
    rows = table(out)
    assert list(rows.columns) == SWEEP_COLUMNS
    # seeds, layers, samples, two heads and their layer
    assert len(rows) == 2 * 2 * 3 * 3 * len(STATEMENTS)
    assert (rows["run"] == str(folder)).all()
    assert set(rows["T"]) == {4}
    assert set(rows["layer"]) == {0, 1}
    assert {*rows["step"]} <= {4, 8}  # the best of two epochs of four steps
    restored = restore(read_options(folder))
    batch = spread_windows(restored.prepared, 3)
    for seed, step, model in best_models(restored):
        seen = []
        for layer in model.temporal:
            attend = layer.mix.__class__.__call__

            def recorded(self, x, key=None, attend=attend, seen=seen):
                seen.append(np.asarray(x, np.float64))
                return attend(self, x, key)

            layer.mix.__class__.__call__ = recorded
            try:
                model(batch.speeds, batch.time_of_day, batch.average)
            finally:
                layer.mix.__class__.__call__ = attend
        for number, layer in enumerate(model.temporal):
            x = seen[number]  # (N, S, T, D)
            weights = jax.tree.map(lambda a: np.asarray(a, float), layer.mix.weights())
            levels: Any = (("head", ["0", "1"]), ("layer", ["layer"]))
            for level, words in levels:
                expected = check_bounds(x, weights, level=level)
                own = rows[(rows["seed"] == seed) & (rows["layer"] == number)]
                own = own[own["head"].isin(words)]
                assert set(own["step"]) == {step}
                sums = own.groupby("statement")[["rows", "rows_holding"]].sum()
                worst: Any = own.groupby("statement")["ratio"].max()
                lines: Any = expected.itertuples()
                for line in lines:
                    assert sums.loc[line.statement].tolist() == [
                        line.rows,
                        line.rows_holding,
                    ]
                    np.testing.assert_allclose(
                        worst[line.statement], line.worst_ratio, rtol=1e-9
                    )
    parts = pd.read_csv(out / "verdicts-by-layer.csv")
    total = verdict_table(out)["rows_holding"].sum()
    assert parts["rows_holding"].sum() == total
    assert (out / "verdict-share.png").stat().st_size > 10_000
    assert not (out / "bound-vs-T.png").exists()  # one length only


@pytest.mark.slow
def test_kept_weights_are_looked_at_from_the_untrained_to_the_last(tmp_path):
    out, folder = tmp_path / "out", run("--layers", 2)
    assert sweep(out, "--checkpoint", folder, "--weights", "kept", "--nodes", 2) == 0
    rows = table(out)
    assert sorted(set(rows["step"])) == [0, 8]
    assert set(rows["head"]) == {"0", "1"}  # heads only, unless asked
    per_row = rows[rows["statement"] == "eq5"]
    assert set(per_row["rows"]) == {2 * 4}  # nodes times steps
    first = rows[rows["step"] == 0].drop(columns="step").reset_index(drop=True)
    last = rows[rows["step"] == 8].drop(columns="step").reset_index(drop=True)
    assert not np.allclose(first["exact"], last["exact"])
    assert (out / "verdicts-by-step.png").stat().st_size > 10_000
    restored = restore(read_options(folder))
    assert kept_epochs(folder) == [0, 2]
    untrained = restored.trainer.init([0, 1]).params
    for row, (_, step, model) in enumerate(kept_models(restored, 0)):
        assert step == 0
        np.testing.assert_array_equal(
            model.lift.kernel[...], np.asarray(untrained["lift"]["kernel"])[row]
        )


@pytest.mark.slow
def test_runs_of_several_windows_give_bound_against_length(tmp_path):
    out = tmp_path / "out"
    runs = [run("--window", T, "--regularizer", "mask") for T in (3, 4, 6)]
    assert sweep(out, "--checkpoint", *runs) == 0
    verdicts = verdict_table(out).set_index("statement")
    assert (out / "bound-vs-T.png").stat().st_size > 10_000
    # With alpha_ii = 0 the printed bound is ||I||, and the query path stays.
    assert verdicts.loc["eq8_diagonal_as_printed", "rows_holding"] == 0
    per_row = verdicts.loc["eq8_diagonal_as_printed_per_row"]
    assert per_row["rows_holding"] < 0.2 * per_row["rows"]
    true = verdicts.drop(["eq8_diagonal_as_printed", "eq8_diagonal_as_printed_per_row"])
    assert (true["rows_holding"] == true["rows"]).all()
    assert np.isfinite(verdicts.loc["eq8_off_diagonal", "exponent"])


@pytest.mark.slow
def test_an_interrupt_loses_nothing_and_the_same_command_ends_alike(
    tmp_path, capsys, monkeypatch
):
    out, whole = tmp_path / "out", tmp_path / "whole"
    given = ("--checkpoint", run("--layers", 2))
    assert sweep(whole, *given) == 0
    original, calls = sensitivity.bounds.measure, []

    def interrupted(*arguments, **options):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(1)
        return original(*arguments, **options)

    monkeypatch.setattr(sensitivity.bounds, "measure", interrupted)
    status, said = refusal(capsys, out, *given)
    assert status == 130
    assert "the same command goes on" in said
    before = points(out)
    assert len(before) == 2
    monkeypatch.setattr(sensitivity.bounds, "measure", original)
    assert sweep(out, *given) == 0
    assert before.items() <= points(out).items()
    assert (out / "sweep.csv").read_bytes() == (whole / "sweep.csv").read_bytes()


@pytest.mark.slow
def test_a_run_that_was_trained_anew_is_not_mixed_with_the_old_one(tmp_path, capsys):
    folder = shutil.copytree(run("--layers", 2), tmp_path / "run")
    out, given = tmp_path / "out", ("--checkpoint", folder)
    assert sweep(out, *given) == 0
    again = ("--layers", 2, "--learning-rate", 0.01, "--overwrite")
    assert train(folder, *RUN, *again) == 0
    status, said = refusal(capsys, out, *given)
    assert status == 2
    assert "weights_sha256" in said
    assert sweep(out, *given, "--overwrite") == 0


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
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
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
    other = refused(changed(copy("other"), width=8))
    assert "is damaged or of another model" in other
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
    assert "--max-memory (2KiB) must be at least" in budget
    plain = tmp_path / "plain"
    assert train(plain, "--epochs", 1) == 0
    kept = refused(plain, "--weights", "kept")
    assert "--weights kept needs runs of models.train --keep-epochs" in kept
    twice = refused(folder, folder)
    assert "--checkpoint must not repeat a run" in twice
    gc.collect()  # what Orbax left undone complains here, so no later test is blamed


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
