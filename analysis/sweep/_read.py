"""The attention layers of files, captured where their models live."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np

from analysis.sweep._points import Inputs, Point
from analysis.sweep.options import SweepOptions
from models.runs.folder import digest
from sensitivity import LayerInput
from sensitivity.bounds import identity_note, plan_memory
from sensitivity.layers_file import load_layers


class ReadLayers:
    """All layers of some files, at the inputs that stand beside them."""

    def __init__(self, options: SweepOptions):
        self.options, self.points = options, []
        self.max_memory: str | int = options.measure.max_memory
        self._layers: dict[str, LayerInput] = {}
        for number, path in enumerate(options.layers):
            for place, layer in enumerate(load_layers(path)):
                name = f"file={number}-layer={place}"
                self._layers[name] = layer
                self.points.append(
                    Point(
                        name=name,
                        T=layer.x.shape[-2],
                        seed=0,
                        source=path.name,
                        position=_positions(layer),
                        regularizer="none",
                        heads=layer.weights.heads,
                        run=str(path),
                        layer=place,
                        residual=layer.residual,
                    )
                )

    def identity(self) -> dict[str, Any]:
        """SHA-256 of every file."""
        files = [digest(path.read_bytes()) for path in self.options.layers]
        return {"layers_sha256": files}

    def headline(self) -> str:
        """What is looked at, in words."""
        return f"{len(self._layers)} layer(s) of {len(self.options.layers)} file(s)"

    def notes(self) -> list[str]:
        """What whoever reads the numbers should know."""
        notes = []
        for point in self.points:
            layer = self._layers[point.name]
            words = f"layer {point.layer} of {Path(point.run).name}: {layer.name}"
            form = layer.weights.form
            words += f", with {', '.join(form.names)}" if form is not None else ""
            if layer.rows is not None:
                words += f"; {int((~layer.rows).sum())} row(s) of padding left out"
            notes.append(words)
        levels = self.options.measure.levels
        notes += sorted(
            {
                identity_note(layer.weights, level, layer.residual)
                for layer in self._layers.values()
                for level in levels
            }
        )
        return notes

    def size(self) -> int:
        """Bytes of measuring the largest layer."""
        measure = self.options.measure
        plan = functools.partial(
            plan_memory,
            norm=measure.norm,
            levels=measure.levels,
            engine=measure.engine,
            max_memory=self.max_memory,
        )
        dtype = np.dtype(measure.dtype)
        return max(
            plan(layer.x.shape, dtype, layer.weights) for layer in self._layers.values()
        )

    def inputs(self, point: Point) -> Inputs:
        """The layer of a point at its inputs."""
        layer = self._layers[point.name]
        x, rows = np.asarray(layer.x, self.options.measure.dtype), layer.rows
        if x.ndim == 2:  # one sample
            x, rows = x[None], None if rows is None else np.asarray(rows)[None]
        return Inputs(dataclasses.replace(layer, x=x, rows=rows), 0.0)


def _positions(layer: LayerInput) -> str:
    """What of its positions the layer itself knows."""
    form = layer.weights.form
    if form is not None and form.rotary is not None:
        return "rotary"
    return "none" if layer.score_bias.slopes is None else "alibi"
