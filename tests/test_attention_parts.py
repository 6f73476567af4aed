"""What becomes of measured attention: certificates, pictures, the folder's files."""

import dataclasses
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.attention._certificates import certify
from analysis.attention._measure import MAPS, LayerInput, Part, measure
from analysis.attention._results import Measured, _panels
from analysis.attention._sources import Source
from analysis.attention._store import AttentionFolder
from analysis.attention.options import AttentionOptions
from analysis.plots.attention import path_maps
from analysis.plots.training import attention_maps
from sensitivity import AttentionWeights, ScoreBias
from sensitivity.certificates import certificates

T, D = 4, 3


def layer(residual: bool, nodes: int = 2, windows: int = 2, **bias: Any) -> LayerInput:
    """A random layer of one head."""
    rng = np.random.default_rng(0)
    weights = AttentionWeights(*rng.normal(size=(3, D, 1, D)))
    x = rng.normal(size=(nodes, windows, T, D))
    return LayerInput(x, weights, ScoreBias(**bias), residual)


@pytest.mark.parametrize("residual", [True, False])
def test_certificates_are_of_the_layer_as_it_is_trained(residual):
    own = layer(residual, nodes=1, windows=1)
    table = certify([own], [0], 1)
    with_it, without = (
        certificates(own.x[0], own.weights, own.score_bias, residual=choice)
        for choice in (True, False)
    )
    expected, other = (with_it, without) if residual else (without, with_it)
    np.testing.assert_allclose(table["exact"], expected["exact"], rtol=1e-12)
    assert abs(table["exact"].iloc[0] / other["exact"].iloc[0] - 1) > 1e-3


@pytest.mark.slow
def test_certificates_name_their_layer_window_and_node_from_0():
    layers = [layer(True), layer(False)]
    table = certify(layers, [2, 5], 4)
    places = table[["layer", "window_index", "node"]].drop_duplicates()
    assert places.to_numpy().tolist() == [
        [number, b, n] for number in (0, 1) for b in (0, 1) for n in (2, 5)
    ]
    # ... and the numbers are of what is at that place.
    row = table[(table["window_index"] == 1) & (table["node"] == 2)].iloc[0]
    x = layers[0].x[:1, 1]
    exact = certificates(x, layers[0].weights, layers[0].score_bias, residual=True)[
        "exact"
    ]
    assert row["exact"] == pytest.approx(exact.iloc[0], rel=1e-12)


@pytest.mark.slow
def test_zero_scores_have_entropy_one_whatever_the_mask_forbids():
    for diagonal in (0.0, -np.inf):
        own = layer(False, diagonal=diagonal)
        flat = dataclasses.replace(own.weights, query=np.zeros((D, 1, D)))
        own = own._replace(weights=flat)
        table = measure([own], "frobenius").table
        found = table[table["quantity"] == "entropy"]["value"]
        np.testing.assert_allclose(found, 1, rtol=1e-12)


def source(label: str, window: int = T) -> Source:
    """A run of which only the window counts."""
    run: Any = SimpleNamespace(arguments={"window": window})
    options: Any = None
    return Source(run, options, label, "")


def parts(*keys: tuple[int, int]) -> Measured:
    """Maps of 2 layers that are all seed + step + layer / 10."""
    found = {}
    for seed, step in keys:
        maps = np.empty((2, 3, len(MAPS), T, T))
        maps[0], maps[1] = seed + step, seed + step + 0.1
        found[seed, step] = Part(pd.DataFrame(), maps)
    return Measured(found, {}, 1)


def test_path_maps_are_means_over_seeds_of_the_last_kept_step():
    for keys in (((0, 0), (0, 10), (2, 0), (2, 10)), ((2, 10), (0, 10), (0, 0))):
        title, rows = _panels([(source("b"), parts(*keys))])
        assert "b, mean over seeds" in title
        assert list(rows) == ["layer 0", "layer 1"]
        for name, value in (("layer 0", 11), ("layer 1", 11.1)):
            for path in MAPS:
                np.testing.assert_allclose(rows[name][path], value, rtol=1e-12)


def test_several_variants_show_their_last_layer():
    pairs = [(source("b"), parts((0, 1))), (source("c"), parts((0, 3)))]
    title, rows = _panels(pairs)
    assert "last layer" in title
    assert rows["b"]["value"][0, 0] == pytest.approx(1.1)
    assert rows["c"]["value"][0, 0] == pytest.approx(3.1)


def test_maps_count_steps_from_0_and_say_where_their_scale_is_cut():
    table = np.full((T, T), 0.25)
    wide = table.copy()
    wide[0, 0] = 1e-6
    for least, extend in ((table, "neither"), (wide, "min")):
        maps = dict.fromkeys(MAPS, table) | {"key": least}
        figure = path_maps({"b": maps}, "title", "frobenius")
        figure.canvas.draw()
        images = [ax.images[0] for ax in figure.axes if ax.images]
        assert {image.get_extent()[0] for image in images} == {-0.5}
        bars = [image.colorbar for image in images if image.colorbar is not None]
        assert [bar.extend for bar in bars] == ["neither", extend]
    (image,) = [ax.images[0] for ax in attention_maps({"b": table}, "").axes[:1]]
    assert tuple(image.get_extent()) == (-0.5, 3.5, 3.5, -0.5)


def test_files_of_an_earlier_call_that_are_not_written_again_go(tmp_path):
    options = AttentionOptions(runs=(tmp_path / "run",), out=tmp_path / "out")
    first = AttentionFolder(options)
    (options.out / "parts" / "measured-0.npz").write_bytes(b"")
    for name in ("a.csv", "by-length.png"):
        first.write(name, "old")
    assert first.finish() == ["a.csv", "by-length.png"]
    (options.out / "mine.txt").write_text("not the command's")
    second = AttentionFolder(options)
    second.write("a.csv", "new")  # interrupted here, nothing is forgotten
    third = AttentionFolder(options)
    third.write("a.csv", "new")
    assert third.finish() == ["a.csv"]
    names = {path.name for path in options.out.iterdir()}
    assert names == {"a.csv", "mine.txt", "parts", "run.json"}
    record = json.loads((options.out / "run.json").read_text())
    assert record["files"] == ["a.csv"]
    assert record["complete"]
