"""What becomes of measured attention: certificates, pictures, the folder's files."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.attention._measure import MAPS, Part, certify
from analysis.attention._parts import Measured, delete_old_parts
from analysis.attention._results import _panels
from analysis.attention._sources import Source
from analysis.attention.options import AttentionOptions
from analysis.diagnostics.registry import PANELS, drawn_in
from analysis.plots.attention import dots, path_maps
from analysis.plots.attention_courses import by_length, by_training_step
from analysis.plots.training import attention_maps
from analysis.variants import some_layers
from models.runs.folder import RunFolder
from sensitivity import AttentionWeights, LayerInput, ScoreBias
from sensitivity.certificates import certificates

T, D = 4, 3


def layer(residual: bool, windows: int = 2, nodes: int = 2) -> LayerInput:
    """A random layer of one head."""
    rng = np.random.default_rng(0)
    weights = AttentionWeights(*rng.normal(size=(3, D, 1, D)))
    x = rng.normal(size=(windows, nodes, T, D))
    return LayerInput(x=x, weights=weights, residual=residual)


@pytest.mark.parametrize("residual", [True, False])
def test_certificates_are_of_the_layer_as_it_is_trained(residual):
    own = layer(residual, 1, 1)
    table = certify([own], [0], 1)
    expected, other = (
        certificates(own.x[0], own.weights, ScoreBias(), residual=choice)["exact"]
        for choice in (residual, not residual)
    )
    np.testing.assert_allclose(table["exact"], expected, rtol=1e-12)
    assert abs(table["exact"].iloc[0] / other.iloc[0] - 1) > 1e-3


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
    x = layers[0].x[1, :1]
    exact = certificates(x, layers[0].weights, ScoreBias(), residual=True)["exact"]
    assert row["exact"] == pytest.approx(exact.iloc[0], rel=1e-12)


def source(label: str) -> Source:
    """A run of which only the window counts."""
    run: Any = SimpleNamespace(arguments={"window": T})
    options: Any = None
    return Source(run, options, label, "")


def parts(*keys: tuple[int, int]) -> Measured:
    """Maps of 2 layers that are all seed + step + layer / 10."""
    found = {}
    for seed, step in keys:
        maps = np.empty((2, 3, len(MAPS), T, T))
        maps[0], maps[1] = seed + step, seed + step + 0.1
        found[seed, step] = Part(pd.DataFrame(), pd.DataFrame(), maps)
    return Measured(found, {}, {}, 1)


def test_path_maps_are_means_over_seeds_of_the_last_kept_step():
    for keys in (((0, 0), (0, 10), (2, 0), (2, 10)), ((2, 10), (0, 10), (0, 0))):
        title, rows = _panels([(source("b"), parts(*keys))])
        assert "b, mean over seeds" in title
        assert list(rows) == ["layer 0", "layer 1"]
        for name, value in (("layer 0", 11), ("layer 1", 11.1)):
            for path in MAPS:
                np.testing.assert_allclose(rows[name][path], value, rtol=1e-12)


def test_several_variants_show_their_last_layer_and_one_seed_is_no_mean():
    pairs = [(source("b"), parts((0, 1))), (source("c"), parts((0, 3)))]
    title, rows = _panels(pairs)
    assert "last layer, one seed" in title
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


def measured(seeds: int, lengths: tuple[int, ...] = (T,)) -> pd.DataFrame:
    """Rows of ``diagnostics.csv`` of one layer."""
    rows = [
        {"T": length, "variant": "b", "seed": seed, "step": step, "layer": 0}
        | {"head": "layer", "quantity": entry.name, "value": 1 + seed / 10}
        for length in lengths
        for seed in range(seeds)
        for step in (0, 3)
        for panel in PANELS
        for entry in drawn_in(panel)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("seeds", "drawn"), [(1, "a seed"), (2, "mean"), (3, "95 %")])
def test_a_legend_says_what_is_drawn_and_nothing_else(seeds, drawn):
    table = measured(seeds)
    over = table.groupby(["T", "variant", "quantity"], as_index=False)["value"].mean()
    ends = {"low": 0.9, "high": 1.3} if seeds > 2 else {"low": np.nan, "high": np.nan}
    means = over.assign(mean=over["value"], **ends, seeds=seeds, layer="0")
    for panel in PANELS:
        legend = dots(panel, table, means, "note").legends[0]
        words = [text.get_text() for text in legend.get_texts()]
        for entry in drawn_in(panel):
            own = [word for word in words if word.startswith(f"{entry.label}: ")]
            assert len(own) == seeds
            assert drawn in own[-1]


def test_courses_have_a_row_for_every_panel_and_a_line_for_every_diagnostic():
    longer = measured(2, (4, 8))
    for figure, seeds in (
        *((by_training_step(measured(count), ""), count) for count in (1, 2)),
        (by_length(longer[longer["step"] == 3], ""), 2),
    ):
        said = figure.get_suptitle()
        assert ("one seed" in said) == (seeds == 1)
        assert [ax.get_ylabel() for ax in figure.axes] == [p.title for p in PANELS]
        for ax, panel in zip(figure.axes, PANELS, strict=True):
            legend = ax.get_legend()
            assert legend is not None
            words = " ".join(text.get_text() for text in legend.get_texts())
            for entry in drawn_in(panel):
                assert f"{entry.label}, layer 0" in words


def test_layers_to_show_are_few_and_evenly_spaced():
    assert some_layers(range(12)) == [0, 6, 11]


def test_a_folder_of_0_1_0_goes_on_without_its_parts(tmp_path):
    options = AttentionOptions(runs=(tmp_path / "run",), out=tmp_path / "out")
    old = {"command": "analysis.attention", "settings": options.settings()}
    (options.out / "parts").mkdir(parents=True)
    (options.out / "run.json").write_text(json.dumps(old | {"files": ["old.csv"]}))
    (options.out / "old.csv").write_text("of 0.1.0")
    for name in (f"measured-{'0a' * 16}.npz", f"certificates-{'1b' * 16}.csv"):
        (options.out / "parts" / name).write_bytes(b"")
    with RunFolder(options.out, "analysis.attention", options.settings()) as folder:
        folder.keep("measured-0", "ab" * 32, "new", ".npz")
        assert delete_old_parts(folder) == 2
        assert folder.part("measured-0", "ab" * 32).content == b"new"
        folder.write("a.csv", "new")
        assert folder.finish() == ["a.csv"]
    assert not (options.out / "old.csv").exists()
    other = AttentionOptions(runs=options.runs, windows=2).settings()
    with pytest.raises(ValueError, match="--windows 8 there, 2 asked for"):
        RunFolder(options.out, "analysis.attention", other)
