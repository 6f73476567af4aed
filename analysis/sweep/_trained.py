"""The attention layers of trained forecasters, at what they really see."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from analysis.sweep._points import Inputs, Point
from analysis.sweep.options import SweepOptions
from models.layer_inputs import layer_inputs
from models.runs.command import words_of
from models.runs.folder import digest
from models.train.record import read_run
from models.train.restore import (
    Restored,
    Snapshot,
    best_models,
    kept_epochs,
    kept_models,
    restore,
    spread_nodes,
    spread_starts,
    spread_windows,
    weights_sha256,
)
from sensitivity import AttentionWeights, LayerInput
from sensitivity.arguments import ArgumentError
from sensitivity.bounds import identity_note, plan_memory
from sensitivity.memory import format_memory, parse_memory


class _Moment(NamedTuple):
    """Whose weights a point has."""

    run: int
    epoch: int | None  # after which they were kept; None: the best
    row: int  # of the seed


class TrainedLayers:
    """All attention layers of all seeds of some runs, on windows of their tests."""

    def __init__(self, options: SweepOptions):
        self.options, self.points = options, []
        self._runs = [_open(folder, options) for folder in options.checkpoint]
        self._moments: dict[str, _Moment] = {}
        self._weights: dict[_Moment, str] = {}
        for number, run in enumerate(self._runs):
            kept = options.weights == "kept"
            for epoch in kept_epochs(run.options.out) if kept else [None]:
                for row, snapshot in enumerate(_models(run, epoch)):
                    self._add(_Moment(number, epoch, row), snapshot)
        self._held = max(self._held_bytes(run) for run in self._runs)
        self.max_memory: str | int = self._budget - self._held
        self._last = functools.lru_cache(maxsize=1)(self._layers_of)

    def _add(self, moment: _Moment, snapshot: Snapshot) -> None:
        """Add the layers of one model; a seed that has stopped early comes once."""
        run = self._runs[moment.run]
        config, T = run.trainer.config, run.trainer.config.window
        self._weights[moment] = weights_sha256(snapshot.model)
        when = "best" if moment.epoch is None else f"step={snapshot.step}"
        for layer in range(config.layers):
            name = f"T={T}-run={moment.run}-{when}-seed={snapshot.seed}-layer={layer}"
            if name in self._moments:
                return
            self._moments[name] = moment
            self.points.append(
                Point(
                    name=name,
                    T=T,
                    seed=snapshot.seed,
                    source=Path(run.options.series.dataset).name,
                    position=config.position,
                    regularizer=config.temporal.regularizer,
                    heads=config.temporal.heads,
                    run=str(run.options.out),
                    layer=layer,
                    step=snapshot.step,
                    residual=config.temporal.residual,
                )
            )

    def identity(self) -> dict[str, Any]:
        """SHA-256 of the weights and of the data of every run."""
        weights, data = [], []  # digests of the same bytes as of 0.1.0
        for number, run in enumerate(self._runs):
            own = [sha for moment, sha in self._weights.items() if moment.run == number]
            weights.append(digest(repr(own).encode()))
            data.append(digest(run.prepared.series.values.tobytes()))
        return {"weights_sha256": weights, "runs_data_sha256": data}

    def headline(self) -> str:
        """What is looked at, in words."""
        options = self.options
        counts = sorted({len(self._nodes(run)) for run in self._runs})
        every = "all" if options.nodes is None else "evenly spaced"
        return (
            f"{len(self._runs)} run(s), {len(self.points)} attention layers (seeds, "
            f"training steps and places); {options.samples} test windows, "
            f"{' or '.join(map(str, counts))} nodes ({every}), weights: "
            f"{options.weights}"
        )

    def notes(self) -> list[str]:
        """What whoever reads the numbers should know."""
        notes = set()
        for run in self._runs:
            folder, temporal = run.options.out, run.trainer.config.temporal
            notes |= {
                identity_note(_first_weights(run), level, temporal.residual)
                for level in self.options.measure.levels
            }
            if temporal.regularizer == "dropout":
                notes.add("dropout of the diagonal is of training: here nothing drops")
            if self.options.nodes is not None:
                nodes = ", ".join(map(str, self._nodes(run)))
                notes.add(f"nodes looked at, counted from 0: {nodes}")
            if not read_run(folder, complete=False).complete:
                notes.add(f"{folder} is not complete: its weights so far")
        return sorted(notes)

    def size(self) -> int:
        """Bytes of what all layers see, and of measuring one of them."""
        measure, sizes = self.options.measure, []
        for run in self._runs:
            config, nodes = run.trainer.config, len(self._nodes(run))
            size = plan_memory(
                (self.options.samples, nodes, config.window, config.width),
                np.dtype(measure.dtype),
                _first_weights(run),
                norm=measure.norm,
                levels=measure.levels,
                engine=measure.engine,
                max_memory=self.max_memory,
            )
            sizes.append(size)
        return self._held + max(sizes)

    def inputs(self, point: Point) -> Inputs:
        """The layer of a point at its inputs."""
        moment = self._moments[point.name]
        run = self._runs[moment.run]
        starts = spread_starts(run.prepared, self.options.samples)
        steps = starts[:, None] + np.arange(run.prepared.window)
        missing = run.prepared.series.missing[steps][..., self._nodes(run)]
        return Inputs(self._last(moment)[point.layer], float(missing.mean()))

    def _layers_of(self, moment: _Moment) -> list[LayerInput]:
        """Send the windows through a model, as many at once as the budget allows."""
        run, windows = self._runs[moment.run], self.options.samples
        model = list(_models(run, moment.epoch))[moment.row].model
        if weights_sha256(model) != self._weights[moment]:
            raise ValueError(
                f"{run.options.out} was changed while it was looked at (epoch "
                f"{moment.epoch}); start again when its training has ended."
            )
        batch, parts = spread_windows(run.prepared, windows), []
        dtype = np.dtype(self.options.measure.dtype)
        at_once = max(1, (self._budget - self._held) // _forward_bytes(run))
        for first in range(0, windows, at_once):
            here = slice(first, first + at_once)
            part = jax.tree.map(lambda a, here=here: a[here], batch)
            parts.append(layer_inputs(model, part, self._nodes(run), dtype))
        return [
            dataclasses.replace(same[0], x=np.concatenate([one.x for one in same]))
            for same in zip(*parts, strict=True)
        ]

    def _held_bytes(self, run: Restored) -> int:
        """What is held while a layer is measured; refused if it leaves no room."""
        config, windows = run.trainer.config, self.options.samples
        size = np.dtype(self.options.measure.dtype).itemsize
        # What every layer sees, twice while windows are joined; and of the layer that
        # is measured some eighty numbers per row and head.
        each = 2 * config.layers * config.width + 80 * config.temporal.heads
        one = len(self._nodes(run)) * config.window * each * size
        least = _forward_bytes(run)
        if one * windows + least > self._budget:
            fit = max(0, self._budget - least) // one
            raise ArgumentError(
                "max_memory",
                f"({format_memory(self._budget)}) must be at least "
                f"{format_memory(one * windows + least)} for {windows} windows of "
                f"{run.options.out}; {fit} window(s) (--samples) would fit.",
            )
        return one * windows

    @property
    def _budget(self) -> int:
        return parse_memory(self.options.measure.max_memory)

    def _nodes(self, run: Restored) -> list[int]:
        return spread_nodes(run.trainer.config.nodes, self.options.nodes)


def _open(folder: Path, options: SweepOptions) -> Restored:
    """Read a run back, and check that what is asked for is there."""
    try:
        run = restore(read_run(folder, complete=False).options(options.data))
    except ValueError as error:
        raise ValueError(f"--checkpoint: {words_of(error)}") from error
    config, windows = run.trainer.config, len(run.prepared.split.test)
    if config.temporal.kind != "attention":
        raise ArgumentError(
            "checkpoint",
            f"{folder} must have attention layers, but its temporal layers are "
            f"{config.temporal.kind}s.",
        )
    if options.nodes is not None and options.nodes > config.nodes:
        rule = f"({options.nodes}) must be at most the {config.nodes} of {folder}."
        raise ArgumentError("nodes", rule)
    if options.samples > windows:
        rule = f"({options.samples}) must not exceed the {windows} test windows of "
        raise ArgumentError("samples", f"{rule}{folder}.")
    if options.weights == "kept" and not kept_epochs(folder):
        raise ArgumentError(
            "weights",
            f"kept needs runs of models.train --keep-epochs, but {folder} kept none.",
        )
    return run._replace(state=run.state._replace(optimizer=None))


def _forward_bytes(run: Restored) -> int:
    """About what one window takes on its way through the network."""
    config = run.trainer.config
    T, D, H = config.window, config.width, config.temporal.heads
    return 4 * config.nodes * T * (3 * H * T + (12 + config.layers) * D)


def _models(run: Restored, epoch: int | None) -> Iterator[Snapshot]:
    return best_models(run) if epoch is None else kept_models(run, epoch)


def _first_weights(run: Restored) -> AttentionWeights:
    mix: Any = next(iter(best_models(run))).model.temporal[0].mix  # attention: checked
    return mix.weights()
