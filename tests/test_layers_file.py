"""A file of layers: what is written is read, and what is none is refused."""

import dataclasses

import jax
import numpy as np
import pytest

from sensitivity import LayerInput, ScoreBias, path_norms
from sensitivity.arguments import ArgumentError
from sensitivity.captured import Capture
from sensitivity.layers_file import load_layers, save_layers
from tests.helpers import FOLDED, make_layer
from tests.test_forms import make_form


@pytest.fixture
def layer() -> LayerInput:
    """A layer with all there is."""
    x, weights = make_layer(2, FOLDED)
    weights = dataclasses.replace(weights, form=make_form("all", FOLDED))
    bias = ScoreBias(
        diagonal=-0.1, causal=True, array=np.zeros((6, 6)), window=4, slopes=np.ones(3)
    )
    return LayerInput(
        x=x,
        weights=weights,
        score_bias=bias,
        residual=False,
        name="encoder.0",
        rows=np.arange(6) < 5,
        output=np.ones((6, 6)),
        labels=np.array([*"abcdef"]),
    )


def test_what_is_written_is_read(layer, tmp_path):
    plain = dataclasses.replace(layer, rows=None, labels=None, name="b", output=None)
    save_layers(tmp_path / "layers.npz", [layer, plain])
    first, second = load_layers(tmp_path / "layers.npz")
    for one, other in ((first, layer), (second, plain)):
        assert (one.name, one.residual) == (other.name, other.residual)
        assert one.weights.form.names == other.weights.form.names
        assert (one.score_bias.window, one.score_bias.causal) == (4, True)
        for part in ("weights", "score_bias"):
            jax.tree.map(
                np.testing.assert_array_equal, getattr(one, part), getattr(other, part)
            )
    np.testing.assert_array_equal(first.labels, [*"abcdef"])
    np.testing.assert_array_equal(first.rows, layer.rows)
    assert (second.rows, second.labels, second.output) == (None, None, None)
    one, other = (
        path_norms(own.x, own.weights, score_bias=own.score_bias, residual=False)
        for own in (first, layer)
    )
    np.testing.assert_array_equal(one.total, other.total)


def test_labels_are_those_of_the_steps(layer, tmp_path):
    capture = Capture([dataclasses.replace(layer, labels=None)])
    capture.save(tmp_path / "layers.npz", labels=[*"uvwxyz"])
    (found,) = load_layers(tmp_path / "layers.npz")
    np.testing.assert_array_equal(found.labels, [*"uvwxyz"])
    with pytest.raises(ValueError, match=r"labels must have shape \(6,\) or"):
        capture.save(tmp_path / "layers.npz", labels=[*"uvw"])
    with pytest.raises(ArgumentError, match="must hold at least one layer"):
        Capture().save(tmp_path / "layers.npz")


def test_what_is_no_file_of_layers_is_refused(layer, tmp_path):
    path = tmp_path / "layers.npz"
    with pytest.raises(ArgumentError, match="a file that can be read"):
        load_layers(path)
    path.write_text("<html>")
    with pytest.raises(ArgumentError, match="must be a whole .npz file"):
        load_layers(path)
    np.savez(path, x=np.ones(2))
    with pytest.raises(ArgumentError, match="as `save_layers` writes it, .* holds x"):
        load_layers(path)
    save_layers(path, [layer])
    whole = path.read_bytes()
    for cut in (10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:cut])
        with pytest.raises(ArgumentError, match="must be a whole .npz file"):
            load_layers(path)
    path.write_bytes(whole)
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **arrays | {"version": np.array(2)})  # pyright: ignore
    with pytest.raises(ArgumentError, match="a file of version 1, got 2"):
        load_layers(path)
    del arrays["0.weights.key"]
    np.savez(path, **arrays)  # pyright: ignore
    with pytest.raises(ArgumentError, match=r"must hold whole layers, .* 'key'"):
        load_layers(path)
