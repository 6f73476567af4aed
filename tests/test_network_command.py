"""Influence through trained forecasters: what the command leaves, and refuses."""

import functools
import gc
import json
import shutil

import numpy as np
import pandas as pd
import pytest

import analysis.network._measure
from analysis.network import main
from analysis.network._bounds import BOUNDS
from analysis.network._measure import Windows, exact_norms
from analysis.network._parts import clear_old
from analysis.network._results import FILES
from analysis.network.options import NetworkOptions
from models.runs.folder import RunFolder
from models.train.record import read_run
from models.train.restore import best_models, restore, spread_windows
from sensitivity.network import space_time_norms
from tests import helpers, train_runs
from tests.helpers import contents, refusal
from tests.train_runs import finished, train

command_line = train_runs.command_line
KEYS = ["seed", "window_index", "output_step", "input_step"]


network = functools.partial(helpers.run, main)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Results of a finished run, on two windows. Leave them as they are."""
    out = tmp_path_factory.mktemp("network") / "out"
    assert network(finished(), "--windows", 2, "--out", out) == 0
    return out


@pytest.fixture
def calls(monkeypatch):
    """A list that grows by one for every seed that is measured."""
    measure, found = analysis.network._measure.measure, []

    def counted(*given):
        found.append(1)
        return measure(*given)

    monkeypatch.setattr(analysis.network._measure, "measure", counted)
    return found


@pytest.mark.slow
def test_a_run_leaves_its_tables_and_pictures(done):
    suffixes = (".csv", ".png", ".md")
    there = {path.name for path in done.iterdir() if path.suffix in suffixes}
    assert there == set(FILES) - {"estimate.csv", "depth.png", "resistance.csv"}
    record = json.loads((done / "run.json").read_text())
    assert record["complete"]
    assert record["seconds"] > 0
    assert record["arguments"]["windows"] == 2
    assert record["versions"]["jax"]
    assert record["precision"] == {str(finished()): "float32"}
    summary = pd.read_csv(done / "summary.csv")
    assert summary["seed"].tolist() == [0, 1]
    assert (summary["largest_between_nodes"] > 0).all()
    bounds = pd.read_csv(done / "bounds.csv")
    assert set(bounds["bound"]) == set(BOUNDS) - {"graph and taps"}
    assert (bounds.loc[bounds["is_bound"], "holds_share"] == 1).all()
    influence = pd.read_csv(done / "influence.csv")
    assert len(influence) == 2 * 2 * 3 * 4 * 2  # seeds, windows, H, T, kinds
    shares = influence.groupby(KEYS[:2])["share"].sum()
    np.testing.assert_allclose(shares, 1.0, rtol=1e-9)
    assert set(pd.read_csv(done / "hops.csv")["hop"]) == {"0", "unknown"}


@pytest.mark.slow
def test_all_windows_at_once_are_what_each_is_by_itself():
    run = restore(read_run(finished()).options())
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
def test_what_is_finished_is_not_measured_again(
    done, tmp_path, calls, capsys, monkeypatch
):
    out = shutil.copytree(done, tmp_path / "out")
    again = (finished(), "--windows", 2, "--out", out)
    assert network(*again) == 0
    assert calls == []
    assert contents(out / "parts") == contents(done / "parts")
    for name in FILES:  # pictures too
        if (done / name).exists():
            assert (out / name).read_bytes() == (done / name).read_bytes()
    assert network(*again, "--overwrite") == 0
    assert len(calls) == 2
    assert capsys.readouterr().out.count("again: --overwrite") == 2
    part = sorted((out / "parts").iterdir())[1]
    part.write_bytes(part.read_bytes().replace(b"1", b"2", 1))
    assert network(*again) == 0
    assert len(calls) == 3
    said = capsys.readouterr().out
    assert said.count("finished before") == said.count("again: damaged") == 1
    assert network(*again, "--nodes", 2, "--no-bounds") == 0
    assert len(calls) == 5
    said = capsys.readouterr().out
    assert said.count("again: of other weights or settings") == 2
    assert not (out / "bounds.csv").exists()
    assert not (out / "bounds-tightness.png").exists()
    monkeypatch.setattr("analysis.network._parts.weights_sha256", lambda _: "others")
    assert network(*again, "--nodes", 2, "--no-bounds") == 0
    assert len(calls) == 7
    assert len(list((out / "parts").iterdir())) == 2


def test_parts_of_version_0_1_0_go_and_nothing_else(tmp_path):
    parts = tmp_path / "parts"
    parts.mkdir()
    record = {"command": "analysis.network", "arguments": {}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    old, mine = "moved-0123456789-seed-1.json", "notes-seed-1.json"
    for name in (old, mine):
        (parts / name).write_text("{")
    with RunFolder(tmp_path, "analysis.network", {}) as folder:
        folder.keep("run-abcdef0123-seed-0", "0" * 16, "{}", ".json")
        kept = {*contents(parts)} - {old}
        clear_old(folder)
    assert {*contents(parts)} == kept
    assert mine in kept


@pytest.mark.slow
def test_the_diagonal_graph_passes_exactly_nothing_between_nodes(tmp_path, capsys):
    """In bfloat16 too, whose weights are measured as the layers round them."""
    run, out = tmp_path / "run", tmp_path / "out"
    graph = ("--graph", "diagonal", "--precision", "bfloat16")
    assert train(run, "--epochs", 1, *graph) == 0
    assert network(run, "--windows", 1, "--out", out) == 0
    words = "bfloat16 weights, as the layers round them, and float32 products"
    assert f"measured with {words}" in capsys.readouterr().out
    record = json.loads((out / "run.json").read_text())
    assert record["precision"] == {str(run): words}
    summary = pd.read_csv(out / "summary.csv")
    assert (summary["largest_between_nodes"] == 0.0).all()
    bounds = pd.read_csv(out / "bounds.csv")
    assert (bounds.loc[bounds["is_bound"], "holds_share"] == 1).all()


@pytest.mark.slow
def test_an_estimate_agrees_with_the_exact_figures(done, tmp_path):
    asked = ("--windows", 2, "--estimate", 400, "--out", tmp_path)
    assert network(finished(), *asked) == 0
    assert not (tmp_path / "hops.csv").exists()
    exact = pd.read_csv(done / "influence.csv").groupby(KEYS)["squared"].sum()
    by_step = pd.read_csv(tmp_path / "estimate.csv").groupby(KEYS)
    error = by_step["standard_error"].sum()  # of a sum: at most the sum of errors
    assert ((by_step["squared"].sum() - exact).abs() <= 5 * error + 1e-12).all()
    table = pd.read_csv(tmp_path / "influence.csv").set_index(KEYS)["squared"]
    np.testing.assert_allclose(table, by_step["squared"].sum(), rtol=1e-9)
    summary = pd.read_csv(tmp_path / "summary.csv")
    assert "squared_newest_quarter" in summary
    assert "newest_quarter" not in summary
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["arguments"]["probe_seed"] == 0
    assert network(finished(), *asked, "--probe-seed", 1) == 0  # measured again
    other = pd.read_csv(tmp_path / "influence.csv").set_index(KEYS)["squared"]
    assert (other != table).any()


# --- Refusals


@pytest.mark.slow
def test_the_same_seed_of_the_same_variant_is_refused_in_two_folders(tmp_path, capsys):
    other = shutil.copytree(finished(), tmp_path / "other")
    out = tmp_path / "out"
    said = refusal(capsys, network, finished(), other, "--out", out)
    assert "each seed of a variant may come once, but seed 0 of" in said
    said = refusal(capsys, network, finished(), finished(), "--out", out)
    assert "RUNS must name each folder once, got" in said
    assert not out.exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    said = refusal(capsys, network, tmp_path / "no", "--out", tmp_path / "out")
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
    assert words in refusal(
        capsys, network, tmp_path, *given, "--out", tmp_path / "out"
    )


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
    said = refusal(capsys, network, finished(), *given, "--out", tmp_path)
    assert words in said
    assert str(finished()) in said


@pytest.mark.slow
def test_a_budget_below_one_output_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(analysis.network._measure, "bytes_of_tables", lambda *_: 0)
    said = refusal(
        capsys, network, finished(), "--max-memory", "2KB", "--out", tmp_path
    )
    assert "--max-memory (2.0 KiB) must be at least" in said
    assert "for one output of this network" in said
    assert "Or ask for fewer --windows" in said


@pytest.mark.slow
def test_a_run_without_its_data_says_which_path_it_wants(tmp_path, capsys):
    data, run = tmp_path / "walk.npz", tmp_path / "run"
    shutil.copy(train_runs.walk_file(), data)
    assert train(run, "--epochs", 1, "--dataset", data) == 0
    data.unlink()
    said = refusal(capsys, network, run, "--out", tmp_path / "out")
    assert f"{run} cannot be read back" in said
    assert str(data) in said


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_refused(tmp_path, capsys):
    run = shutil.copytree(finished(), tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "4" / "state")
    said = refusal(capsys, network, run, "--out", tmp_path / "out")
    assert f"the checkpoint {run / 'checkpoints' / '4'} is damaged" in said
    gc.collect()
