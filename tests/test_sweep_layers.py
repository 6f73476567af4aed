"""Sweeps of layers that were captured elsewhere, and came in a file."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from sensitivity import LayerInput, ScoreBias, check_bounds
from sensitivity.layers_file import save_layers
from tests.helpers import FOLDED, make_layer, refusal
from tests.sweep_runs import sweep
from tests.test_form_bounds import everything


@pytest.fixture
def layers() -> list[LayerInput]:
    """A plain layer, and one of many forms whose last steps are padding."""
    x, weights = make_layer(2, FOLDED)
    plain = LayerInput(x=x, weights=weights, name="plain", residual=True)
    form = everything(FOLDED)
    form = dataclasses.replace(form, added=np.abs(form.added))
    rows = np.arange(FOLDED.T) < 4
    formed = LayerInput(
        x=x[None],
        weights=dataclasses.replace(weights, form=form),
        score_bias=ScoreBias(array=np.where(rows, 0.0, -np.inf)),
        name="formed",
        rows=rows[None],
    )
    return [plain, formed]


def test_every_layer_of_a_file_is_judged_on_its_real_rows(layers, tmp_path, capsys):
    path, out = tmp_path / "layers.npz", tmp_path / "out"
    save_layers(path, layers)
    assert sweep(out, "--layers", path) == 0
    said = capsys.readouterr().out
    assert "2 layer(s) of 1 file(s)" in said
    assert "layer 1 of layers.npz: formed, with sink, gain, added, input_norm" in said
    table = pd.read_csv(out / "verdicts-by-layer.csv", dtype={"head": str})
    assert set(table["head"]) == {"0", "1", "2"}
    for number, layer in enumerate(layers):
        expected = check_bounds(
            layer.x, layer.weights, score_bias=layer.score_bias, rows=layer.rows
        )
        mine = table[table["layer"] == number]
        for row in expected.to_dict("records"):
            own = mine[mine["statement"] == row["statement"]]
            assert own["rows"].sum() == row["rows"]
            assert own["rows_holding"].sum() == row["rows_holding"]
    notes = json.loads((out / "run.json").read_text())["notes"]
    assert any("2 row(s) of padding left out" in note for note in notes)
    assert sorted(p.name for p in out.glob("*.png")) == ["verdict-share.png"]


def test_files_that_cannot_be_are_refused_by_name(layers, tmp_path, capsys):
    path = tmp_path / "layers.npz"
    save_layers(path, layers)
    for arguments, words in (
        (("--layers", path, "--T", "8"), "--T is for random layers; those of --layers"),
        (("--layers", path, "--samples", "2"), "--samples is for random layers"),
        (("--layers", path, path), "--layers must not repeat one"),
        (("--layers", path, "--checkpoint", "."), "must not be given with --checkp"),
        (("--layers", tmp_path / "no.npz"), "--layers must be a file that can be read"),
    ):
        assert words in refusal(capsys, sweep, tmp_path / "out", *arguments)
        assert not (tmp_path / "out").exists()
