"""Trained attention under the microscope: its numbers, its command, its refusals."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from analysis.attention import main
from analysis.attention._measure import MAPS, measure
from analysis.attention._significance import QUANTITIES
from analysis.diagnostics.registry import BY_NAME, CURVES, DIAGNOSTICS, SHOWN
from models.layer_inputs import layer_inputs
from models.train.restore import spread_windows
from tests import helpers, reference, train_runs
from tests.helpers import contents, refusal

command_line = train_runs.command_line
SMALL = ("--windows", "2", "--certificates", "2")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A trained run with a residual, two seeds, and the weights of epochs 0 to 2."""
    out = tmp_path_factory.mktemp("runs") / "b"
    length = ("--epochs", 2, "--seeds", 2, "--keep-epochs", 0, 1, 2)
    assert train_runs.train(out, *length) == 0
    return out


@pytest.fixture(scope="module")
def masked(tmp_path_factory) -> Path:
    """The same under a full diagonal mask."""
    out = tmp_path_factory.mktemp("runs") / "c"
    length = ("--epochs", 2, "--seeds", 2)
    assert train_runs.train(out, *length, "--regularizer", "mask") == 0
    return out


attention = functools.partial(helpers.run, main)


# On trained layers.


@pytest.mark.slow
def test_a_layer_is_measured_as_it_runs_and_its_maps_are_mean_norms():
    setup = train_runs.made("--precision", "bfloat16")
    params = setup.trainer.init([0]).params
    model = setup.trainer.model(jax.tree.map(lambda part: part[0], params))
    batch = spread_windows(setup.prepared, 2)
    (layer,) = layer_inputs(model, batch, [0, 2])
    for array in (layer.x, layer.weights.query):
        rounded = array.astype(jnp.bfloat16).astype(float)
        np.testing.assert_array_equal(array, rounded)
    part = measure([layer], "frobenius")
    found = part.table.set_index(["head", "quantity"])["value"]
    T, H = layer.x.shape[-2], layer.weights.heads
    bias = reference.score_bias(T, H, layer.score_bias.diagonal)
    for head, name in ((0, "0"), (1, "1"), (None, "layer")):
        tables: dict[str, list] = {}
        for x in np.concatenate([*layer.x]):  # window by window
            blocks = reference.path_jacobians(x, layer.weights, bias, head is not None)
            for path, own in blocks.items():
                own = own if head is None else own[head]
                tables.setdefault(path, []).append(np.linalg.norm(own, axis=(-2, -1)))
        for path, table in tables.items():
            mean = np.mean(table, 0)
            on = found[name, f"{path}_diagonal"]
            assert on == pytest.approx(np.diag(mean).mean(), rel=1e-8, abs=1e-15)
            own = part.maps[0, -1 if head is None else head, MAPS.index(path)]
            np.testing.assert_allclose(own, mean, rtol=1e-8, atol=1e-15)


@pytest.mark.slow
def test_under_a_full_mask_the_value_and_key_paths_vanish_and_the_query_path_stays(
    run, masked, tmp_path
):
    assert main([str(run), str(masked), *SMALL, "--out", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "diagnostics.csv")
    of_mask = table[table["variant"] == "(c) Full diagonal mask"]
    value = of_mask.groupby("quantity")["value"]
    for name in ("diagonal_share", "value_diagonal", "key_diagonal"):
        assert value.max()[name] == 0  # exactly
    assert value.min()["query_diagonal"] > 0
    assert (table["quantity"] == "uniform_share").sum() == 2 * 2 * 3
    rows = pd.read_csv(tmp_path / "variants.csv")
    compared = rows[rows["variant"] == "(c) Full diagonal mask"]
    assert set(compared["reference"]) == {"(b) No regularization"}
    assert set(compared["paired_seeds"]) == {2}
    page = (tmp_path / "variants.md").read_text()
    assert "Frobenius norm" in page
    assert " | ".join(["seeds", *(entry.label for entry in SHOWN)]) in page
    assert set(table["quantity"]) == set(BY_NAME)
    assert set(rows["quantity"]) == {e.name for e in DIAGNOSTICS if e.compared}
    bounds = pd.read_csv(tmp_path / "certificates.csv")
    assert bounds["holds"].dropna().all()
    assert len(bounds) == 2 * 2 * 2 * 4  # runs, seeds, samples, certificates
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["complete"]
    measures = (*DIAGNOSTICS, *CURVES)
    assert record["quantities"] == {e.name: e.meaning for e in measures}
    assert {run["precision"] for run in record["runs"]} == {"float32"}
    with np.load(tmp_path / "maps.npz") as maps:
        names = [name for name in maps.files if name.startswith("(c)")]
        assert maps[names[0]].shape == (3, 5, 4, 4)
    for name in ("path-maps", "diagonal-share", "parroting"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


@pytest.mark.slow
def test_kept_weights_are_measured_by_training_step_and_damaged_parts_again(
    run, tmp_path, capsys
):
    out = tmp_path / "out"
    words = [str(run), "--weights", "kept", "--windows", "2", "--out", str(out)]
    assert main(words) == 0
    assert (out / "by-training-step.png").exists()
    table = pd.read_csv(out / "diagnostics.csv")
    assert sorted(set(table["step"])) == [0, 4, 8]
    assert not (out / "certificates.csv").exists()
    before = contents(out)
    damaged = sorted((out / "parts").glob("*.npz"))[0]
    damaged.write_bytes(damaged.read_bytes()[:100])
    capsys.readouterr()
    assert main(words) == 0
    assert capsys.readouterr().out.count("finished before") == 5
    again = contents(out)
    for name in ("diagnostics.csv", "variants.csv", "maps.npz"):
        assert again[name] == before[name]
    assert "--windows 2 there, 1 asked for" in refusal(
        capsys, attention, *words, "--windows", 1
    )
    assert main([*words, "--windows", "1", "--overwrite"]) == 0


@pytest.mark.slow
def test_attention_is_compared_with_that_of_resampled_windows_and_kept(
    run, masked, tmp_path, capsys
):
    words = [str(run), str(masked), *SMALL, "--out", str(tmp_path)]
    asked = [*words, "--resamples", "20", "--null", "gaussian"]
    assert main(asked) == 0
    table = pd.read_csv(tmp_path / "significance.csv")
    values = table.set_index(["variant", "seed", "head", "quantity"])["value"]
    plain, mask = "(b) No regularization", "(c) Full diagonal mask"
    for seed in (0, 1):
        assert values[plain, seed, "0", "edges"] == 2 * 3 * 16  # windows, nodes, T x T
        assert values[mask, seed, "0", "edges"] == 2 * 3 * 12
        assert np.isnan(values[mask, seed, "layer", "z_diagonal"])
        assert 0 <= values[plain, seed, "layer", "share_surviving_p_diagonal"] <= 1
    empty = table[table["value"].isna()]
    assert empty["note"].str.startswith("needs ").all()
    assert set(table["quantity"]) == set(QUANTITIES)
    page = (tmp_path / "significance.md").read_text()
    assert "20 resamples of the layer's own input windows" in page
    assert "minus (b), by seed | 2" in page
    assert (tmp_path / "significance.png").stat().st_size > 10_000
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["arguments"]["null"] == "gaussian"
    assert set(record["significance"]) == set(QUANTITIES)
    before = contents(tmp_path)
    capsys.readouterr()
    assert main(asked) == 0
    assert capsys.readouterr().out.count("finished before") == 4
    again = contents(tmp_path)
    assert again["significance.csv"] == before["significance.csv"]
    said = refusal(capsys, attention, *words, "--resamples", 40)
    assert "--resamples 20 there, 40 asked for" in said


@pytest.mark.slow
def test_what_cannot_be_measured_is_refused_by_name(tmp_path, capsys):
    run = train_runs.finished()
    kept = ("--weights", "kept", "--certificates", 2)
    for given, words in (
        ((tmp_path,), "is no training run: it holds no run.json"),
        ((run, *SMALL, "--windows", 10000), "--windows (10000) must be at least 1 and"),
        ((run, *SMALL, "--nodes", 4), "--nodes (4) must be at most the 3"),
        ((run, *kept), "--certificates (2) are of best weights only"),
        ((run, "--null", "shift"), "--null (shift) needs --resamples of at least 20"),
        ((run, "--resamples", 5), "--resamples must be 0 or at least 20, got 5"),
        ((run, run), "each folder once"),
        ((), "RUNS must name at least one"),
        ((run, "--windows", 0), "--windows must be at least 1"),
    ):
        said = refusal(capsys, attention, *given, "--out", tmp_path / "out")
        assert words in said
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    said = refusal(capsys, attention, run, "--out", tmp_path / "full")
    assert "it holds 'letter.txt'" in said
    assert (tmp_path / "full" / "letter.txt").read_text() == "dear"


def test_runs_that_lack_data_attention_kept_weights_or_their_end_are_refused(
    tmp_path, capsys
):
    trained = train_runs.finished()
    out = ("--out", tmp_path / "out")
    said = refusal(capsys, attention, trained, "--weights", "kept", *out)
    assert "--weights kept needs weights that were kept" in said

    def changed(name: str, **values: object) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        record = json.loads((trained / "run.json").read_text())
        record |= {"complete": values.pop("complete", True)}
        record["arguments"] |= values
        (folder / "run.json").write_text(json.dumps(record))
        return folder

    unfinished = changed("unfinished", complete=False)
    assert "is not complete" in refusal(capsys, attention, unfinished, *out)
    gone = tmp_path / "nowhere" / "speeds"
    moved = changed("moved", dataset="metr-la", data=str(gone), days=None)
    said = refusal(capsys, attention, moved, *out)
    assert f"{gone} does not exist; say with --data" in said
    convolution = {"model": "convolution", "heads": None, "taps": 3}
    plain = {"regularizer": "none", "penalty": None, "diagonal_dropout": None}
    said = refusal(capsys, attention, changed("taps", **convolution, **plain), *out)
    assert "has no attention layer: its temporal layers are of --model conv" in said
    assert not (tmp_path / "out").exists()
