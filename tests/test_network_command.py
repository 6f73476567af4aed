"""Influence through trained forecasters: what the command leaves, and refuses."""

import gc
import json
import shutil

import numpy as np
import pandas as pd
import pytest

import analysis.network._measure
from analysis.network import main
from analysis.network._results import PICTURES
from analysis.network._tightness import NO_BOUND
from sensitivity.network import space_time_norms
from tests import train_runs
from tests.train_runs import contents, finished, train

command_line = train_runs.command_line


def network(*arguments):
    try:
        return main([str(word) for word in arguments])
    except SystemExit as stop:
        return int(str(stop.code))


def refused(capsys, *arguments):
    capsys.readouterr()
    status = network(*arguments)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return status, " ".join(said.replace("│", " ").split())


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Results of a finished run, on two windows. Leave them as they are."""
    out = tmp_path_factory.mktemp("network") / "out"
    assert network(finished(), "--windows", 2, "--out", out) == 0
    return out


@pytest.mark.slow
def test_a_run_leaves_its_tables_and_pictures(done):
    names = {"influence.csv", "hops.csv", "bounds.csv", "summary.csv", "run.json"}
    pictures = set(PICTURES) - {"depth.png"}
    assert {path.name for path in done.iterdir()} == names | pictures | {"parts"}
    record = json.loads((done / "run.json").read_text())
    assert record["complete"]
    assert record["seconds"] > 0
    assert record["arguments"]["windows"] == 2
    assert record["versions"]["jax"]
    summary = pd.read_csv(done / "summary.csv")
    assert summary["seed"].tolist() == [0, 1]
    assert (summary["largest_between_nodes"] > 0).all()
    bounds = pd.read_csv(done / "bounds.csv")
    assert set(bounds["bound"]) == {"gain product", "factorised", "graph", NO_BOUND}
    assert (bounds.loc[bounds["is_bound"], "holds_share"] == 1).all()
    influence = pd.read_csv(done / "influence.csv")
    assert len(influence) == 2 * 2 * 3 * 4 * 2  # seeds, windows, H, T, kinds
    shares = influence.groupby(["seed", "window_index"])["share"].sum()
    np.testing.assert_allclose(shares, 1.0, rtol=1e-9)
    assert set(pd.read_csv(done / "hops.csv")["hop"]) == {"0", "unknown"}


@pytest.mark.slow
def test_all_windows_at_once_are_what_each_is_by_itself():
    from analysis.network._measure import Windows, exact_norms
    from analysis.network.options import NetworkOptions
    from models.train.record import read_options
    from models.train.restore import best_models, restore, spread_windows

    run = restore(read_options(finished()))
    model = next(best_models(run)).model
    batch = spread_windows(run.prepared, 3)
    nodes = np.array([2, 0])
    asked = NetworkOptions(runs=(finished(),))
    together = exact_norms(model, Windows(batch, nodes, None), asked)
    speeds, clock = np.asarray(batch.speeds), batch.time_of_day
    for w in range(3):
        alone = space_time_norms(
            lambda x, w=w: model(x[None, ..., 0], clock[w : w + 1])[0][..., None],
            speeds[w][..., None],
        )[:, nodes]
        scale = alone.max()
        np.testing.assert_allclose(together[w], alone, rtol=0, atol=1e-6 * scale)


@pytest.mark.slow
def test_what_is_finished_is_not_measured_again(done, tmp_path, monkeypatch, capsys):
    out = shutil.copytree(done, tmp_path / "out")
    before, calls = contents(out / "parts"), []
    measure = analysis.network._measure.measure
    monkeypatch.setattr(
        analysis.network._measure,
        "measure",
        lambda *given: calls.append(1) or measure(*given),
    )
    again = (finished(), "--windows", 2, "--out", out)
    assert network(*again) == 0
    assert calls == []
    assert contents(out / "parts") == before
    for name in ("influence.csv", "summary.csv"):
        assert (out / name).read_bytes() == (done / name).read_bytes()
    assert network(*again, "--overwrite") == 0
    assert len(calls) == 2
    part = sorted((out / "parts").iterdir())[1]
    part.write_bytes(part.read_bytes()[:-40])
    capsys.readouterr()
    assert network(*again) == 0
    assert len(calls) == 3
    said = capsys.readouterr().out
    assert said.count("finished before") == said.count("again: damaged") == 1
    assert network(*again, "--nodes", 2, "--no-bounds") == 0
    assert len(calls) == 5
    assert capsys.readouterr().out.count("again: other settings") == 2
    assert not (out / "bounds.csv").exists()
    assert not (out / "bounds-tightness.png").exists()


@pytest.mark.slow
def test_other_weights_are_measured_again(done, tmp_path, capsys):
    out, run = shutil.copytree(done, tmp_path / "out"), tmp_path / "run"
    shutil.copytree(finished(), run)
    plain = (run, "--windows", 2, "--no-bounds", "--out", out)
    assert network(*plain) == 0
    for part in (out / "parts").iterdir():
        held = json.loads(part.read_text())
        held["identity"]["weights_sha256"] = "0"
        part.write_text(json.dumps(held))
    capsys.readouterr()
    assert network(*plain) == 0
    assert capsys.readouterr().out.count("again: other weights") == 2


@pytest.mark.slow
def test_an_interrupt_keeps_finished_parts(tmp_path, monkeypatch, capsys):
    measure, calls = analysis.network._measure.measure, []

    def once(*given):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure(*given)

    monkeypatch.setattr(analysis.network._measure, "measure", once)
    plain = (finished(), "--windows", 1, "--no-bounds", "--out", tmp_path)
    status, said = refused(capsys, *plain)
    assert status == 130
    assert "the same command goes on" in said
    assert len(list((tmp_path / "parts").iterdir())) == 1
    assert not json.loads((tmp_path / "run.json").read_text())["complete"]
    assert network(*plain) == 0
    assert capsys.readouterr().out.count("finished before") == 1
    assert len(calls) == 3


@pytest.mark.slow
def test_the_diagonal_graph_passes_exactly_nothing_between_nodes(tmp_path):
    run = tmp_path / "run"
    short = ("--epochs", 1, "--graph", "diagonal", "--model", "convolution")
    given = [word for word in train_runs.SIZES if word not in ("--heads", "2")]
    from models.train import main as train_main

    arguments = [*given, *map(str, short), "--dataset", str(train_runs.walk_file())]
    assert train_main([*arguments, "--out", str(run)]) == 0
    out = tmp_path / "out"
    assert network(run, "--windows", 1, "--out", out) == 0
    summary = pd.read_csv(out / "summary.csv")
    assert (summary["largest_between_nodes"] == 0.0).all()
    bounds = pd.read_csv(out / "bounds.csv")
    assert set(bounds["bound"]) == {"gain product", "factorised", "graph and taps"}
    assert (bounds["holds_share"] == 1).all()


@pytest.mark.slow
def test_an_estimate_agrees_with_the_exact_figures(done, tmp_path):
    asked = ("--windows", 2, "--estimate", 400, "--out", tmp_path)
    assert network(finished(), *asked) == 0
    assert not (tmp_path / "hops.csv").exists()
    keys = ["seed", "window_index", "output_step", "input_step"]
    exact = pd.read_csv(done / "influence.csv").groupby(keys)["squared"].sum()
    single = pd.read_csv(tmp_path / "estimate.csv")
    by_step = single.groupby(keys)
    error = by_step["standard_error"].sum()  # of a sum: at most the sum of errors
    assert ((by_step["squared"].sum() - exact).abs() <= 5 * error + 1e-12).all()
    table = pd.read_csv(tmp_path / "influence.csv").set_index(keys)["squared"]
    np.testing.assert_allclose(table, by_step["squared"].sum(), rtol=1e-9)
    summary = pd.read_csv(tmp_path / "summary.csv")
    assert "squared_newest_quarter" in summary
    assert "newest_quarter" not in summary
    assert (
        json.loads((tmp_path / "run.json").read_text())["arguments"]["probe_seed"] == 0
    )
    assert network(finished(), *asked, "--probe-seed", 1) == 0  # measured again
    other = pd.read_csv(tmp_path / "influence.csv").set_index(keys)["squared"]
    assert (other != table).any()


# --- Refusals


@pytest.mark.slow
def test_the_same_seed_of_the_same_variant_is_refused_in_two_folders(tmp_path, capsys):
    other = shutil.copytree(finished(), tmp_path / "other")
    out = tmp_path / "out"
    status, said = refused(capsys, finished(), other, "--out", out)
    assert status == 2
    assert "each seed of a variant may come once, but seed 0 of" in said
    assert not out.exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    status, said = refused(capsys, tmp_path / "no", "--out", tmp_path / "out")
    assert status == 2
    assert f"{tmp_path / 'no'} is no training run" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--windows", 0), "--windows must be at least 1, got 0"),
        (("--nodes", 0), "--nodes must be at least 1, got 0"),
        (("--estimate", 1), "--estimate must be at least 2, got 1"),
        (("--probe-seed", 1), "--probe-seed (1) is of the probes of --estimate"),
        (("--estimate", 9, "--probe-seed", -1), "--probe-seed must be at least 0"),
        (("--estimate", 9, "--no-bounds"), "--no-bounds has no use with --estimate"),
        (("--max-memory", "much"), "--max-memory must be a positive amount"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path, capsys, given, words):
    status, said = refused(capsys, tmp_path, *given, "--out", tmp_path / "out")
    assert status == 2
    assert words in said


@pytest.mark.slow
def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.json").write_text('{"arguments": {}}')
    before = contents(out)
    status, said = refused(capsys, finished(), "--overwrite", "--out", out)
    assert status == 2
    assert "its run.json is another's" in said
    assert contents(out) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--windows", 10_000), "--windows (10000) must be at least 1 and at most"),
        (("--nodes", 4), "--nodes (4) must be at most the 3"),
        (("--max-memory", "2KB"), "leave the bounds out with --no-bounds"),
        (("--max-memory", "2KB", "--no-bounds"), "ask for fewer --windows"),
    ],
)
def test_more_than_there_is_is_refused(tmp_path, capsys, given, words):
    status, said = refused(capsys, finished(), *given, "--out", tmp_path)
    assert status == 2
    assert words in said
    assert str(finished()) in said


@pytest.mark.slow
def test_a_budget_below_one_output_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(analysis.network._measure, "bytes_of_tables", lambda *_: 0)
    given = ("--max-memory", "2KB", "--out", tmp_path)
    status, said = refused(capsys, finished(), *given)
    assert status == 2
    assert "--max-memory (2.0 KiB) must be at least" in said
    assert "for one output of this network" in said


@pytest.mark.slow
def test_a_run_without_its_data_says_which_path_it_wants(tmp_path, capsys):
    data, run = tmp_path / "walk.npz", tmp_path / "run"
    shutil.copy(train_runs.walk_file(), data)
    assert train(run, "--epochs", 1, "--dataset", data) == 0
    data.unlink()
    status, said = refused(capsys, run, "--out", tmp_path / "out")
    assert status == 2
    assert f"{run} cannot be read back" in said
    assert str(data) in said


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_refused(tmp_path, capsys):
    run = shutil.copytree(finished(), tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "4" / "state")
    status, said = refused(capsys, run, "--out", tmp_path / "out")
    assert status == 2
    assert f"the checkpoint {run / 'checkpoints' / '4'} is damaged" in said
    gc.collect()
