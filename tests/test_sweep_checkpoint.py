"""A sweep over the attention layers of trained runs, from their folders to verdicts."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

from analysis.sweep._trained import TrainedLayers
from analysis.sweep.options import MeasureOptions, SweepOptions
from models.train.record import read_run
from models.train.restore import (
    best_models,
    kept_epochs,
    kept_models,
    restore,
    spread_nodes,
    spread_windows,
)
from sensitivity import ScoreBias, check_bounds
from tests import train_runs
from tests.helpers import refusal
from tests.sweep_runs import STATEMENTS, SWEEP_COLUMNS, sweep, table, verdict_table
from tests.train_runs import KEPT, train, trained, walk, write_values

command_line = train_runs.command_line


# Unlike the defaults in all that could be forgotten.
ODD = ("--layers", 2, "--stack", "time-then-space", "--regularizer", "penalty")
ODD = (*ODD, "--penalty", -1, "--no-residual")


@pytest.mark.slow
def test_every_row_is_what_check_bounds_says_of_what_the_layer_really_saw(tmp_path):
    out = tmp_path / "out"
    folder = trained(*ODD)
    given = ("--checkpoint", folder, "--samples", 3, "--level", "both")
    assert sweep(out, *given) == 0
    assert not table(out)["residual"].any()
    rows = table(out)
    assert list(rows.columns) == SWEEP_COLUMNS
    # seeds, layers, samples, two heads and their layer
    assert len(rows) == 2 * 2 * 3 * 3 * len(STATEMENTS)
    assert (rows["run"] == str(folder)).all()
    assert set(rows["T"]) == {4}
    assert set(rows["layer"]) == {0, 1}
    assert {*rows["step"]} <= {4, 8}  # the best of two epochs of four steps
    restored = restore(read_run(folder).options())
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
                bias = ScoreBias(diagonal=-1.0)
                given = {"score_bias": bias, "residual": False, "level": level}
                expected = check_bounds(x, weights, **given)
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
    out, folder = tmp_path / "out", trained("--layers", 2)
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
    restored = restore(read_run(folder).options())
    assert kept_epochs(folder) == [0, 2]
    untrained = restored.trainer.init([0, 1]).params
    for epoch, params in ((0, untrained), (2, restored.state.params)):
        for row, (_, step, model) in enumerate(kept_models(restored, epoch)):
            assert step == 4 * epoch
            np.testing.assert_array_equal(
                model.lift.kernel[...], np.asarray(params["lift"]["kernel"])[row]
            )


@pytest.mark.slow
def test_a_seed_that_has_stopped_keeps_the_step_at_which_it_did():
    restored = restore(read_run(trained("--layers", 2)).options())
    state = restored.state._replace(
        stopped=np.array([True, False]), epoch=np.array([1, 2])
    )
    early = restored._replace(state=state)
    assert [step for _, step, _ in kept_models(early, 2)] == [4, 8]
    assert [step for _, step, _ in kept_models(early, 0)] == [0, 0]


@pytest.mark.slow
def test_a_run_that_changes_under_a_sweep_is_not_mixed(tmp_path):
    folder = shutil.copytree(trained("--layers", 2), tmp_path / "run")
    asked = SweepOptions(checkpoint=(folder,), weights="kept")
    layers = TrainedLayers(asked)
    assert train(folder, *KEPT, "--layers", 2, "--first-seed", 7, "--overwrite") == 0
    with pytest.raises(ValueError, match="was changed while it was looked at"):
        layers.inputs(layers.points[-1])


@pytest.mark.slow
def test_the_plan_keeps_within_the_budget_and_changes_no_number(tmp_path):
    given = {"checkpoint": (trained("--layers", 2),), "samples": 8}
    plenty = TrainedLayers(SweepOptions(**given))
    budget = plenty.size() // 2**10 + 1
    tight = SweepOptions(**given, measure=MeasureOptions(max_memory=f"{budget}KiB"))
    small = TrainedLayers(tight)
    assert small.size() <= budget * 2**10
    for point in plenty.points:
        one, other = (layers.inputs(point).layer for layers in (plenty, small))
        np.testing.assert_allclose(one.x, other.x, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_runs_of_several_windows_give_bound_against_length(tmp_path):
    out = tmp_path / "out"
    runs = [trained("--window", T, "--regularizer", "mask") for T in (3, 4, 6)]
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
def test_a_run_that_was_trained_anew_is_not_mixed_with_the_old_one(tmp_path, capsys):
    folder = shutil.copytree(trained("--layers", 2), tmp_path / "run")
    out, given = tmp_path / "out", ("--checkpoint", folder)
    assert sweep(out, *given) == 0
    again = ("--layers", 2, "--learning-rate", 0.01, "--overwrite")
    assert train(folder, *KEPT, *again) == 0
    said = refusal(capsys, sweep, out, *given)
    assert "(the data or the weights are others)" in said
    assert sweep(out, *given, "--overwrite") == 0


@pytest.mark.slow
def test_a_bfloat16_layer_is_rounded_as_it_runs():
    folder = trained("--precision", "bfloat16")
    layers = TrainedLayers(SweepOptions(checkpoint=(folder,)))
    layer, _ = layers.inputs(layers.points[0])
    for array in (layer.x, *jax.tree.leaves(layer.weights)):
        assert array.dtype == np.float64
        rounded = array.astype(jax.numpy.bfloat16).astype(np.float64)
        np.testing.assert_array_equal(array, rounded)


# --- what cannot be looked at -------------------------------------------------------


def test_nodes_are_spread_from_the_first_to_the_last():
    assert spread_nodes(29, None) == list(range(29))
    assert spread_nodes(29, 2) == [0, 28]
    with pytest.raises(ValueError, match=r"nodes \(4\) must be at most the 3"):
        spread_nodes(3, 4)


@pytest.mark.slow
def test_data_that_moved_are_named_with_data(tmp_path, capsys):
    data = write_values(tmp_path / "there.npz", walk().values)
    folder = tmp_path / "run"
    assert train(folder, "--dataset", data, "--epochs", 1) == 0
    moved = data.rename(tmp_path / "moved.npz")
    assert sweep(tmp_path / "out", "--checkpoint", folder, "--data", moved) == 0
    given = ("--checkpoint", folder, "--data", tmp_path)
    said = refusal(capsys, sweep, tmp_path / "other", *given)
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
        said = refusal(capsys, sweep, tmp_path / "out", "--checkpoint", folder, *more)
        assert not (tmp_path / "out").exists()
        return said

    def copy(name: str) -> Path:
        return shutil.copytree(trained("--layers", 2), tmp_path / name)

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
    assert "the data or the weights are others" in refused(tmp_path / "lost")
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
    folder = trained("--layers", 2)
    assert "--nodes (4) must be at most the 3" in refused(folder, "--nodes", 4)
    assert "--samples (999) must not exceed the" in refused(folder, "--samples", 999)
    budget = refused(folder, "--max-memory", "2KiB")
    assert "--max-memory (2.0 KiB) must be at least" in budget
    plain = tmp_path / "plain"
    assert train(plain, "--epochs", 1) == 0
    kept = refused(plain, "--weights", "kept")
    assert "--weights kept needs runs of models.train --keep-epochs" in kept
