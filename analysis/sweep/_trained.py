"""The attention layers of trained forecasters, at what they really see."""

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from analysis.sweep._points import Inputs, Point
from analysis.sweep._sources import work_bytes
from analysis.sweep.options import SweepOptions
from models.layers import narrow
from models.temporal import TemporalAttention, TemporalLayer
from models.train.folder import read_record
from models.train.record import read_options
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
from sensitivity.bounds import identity_note
from sensitivity.memory import format_memory, parse_memory


class _Moment(NamedTuple):
    """Whose weights a point has: run, kept epoch (None: the best), row of the seed."""

    run: int
    epoch: int | None
    row: int


class TrainedLayers:
    """All attention layers of all seeds of some runs, on windows of their test split.

    Attributes:
        points: A layer per run, training step, seed and place.
        max_memory: Bytes left for measuring a point.
    """

    def __init__(self, options: SweepOptions):
        """Read the runs.

        Args:
            options: The sweep.

        Raises:
            ValueError: If a folder is no run or one of another version, its data or
                weights cannot be read, it has no attention, fewer windows or nodes than
                asked for, no weights were kept where they are asked for, or what its
                layers see does not fit into the budget.
        """
        self.options, self.points = options, []
        self._runs = [_open(folder, options) for folder in options.checkpoint]
        self._moments: dict[str, _Moment] = {}
        self._weights: dict[_Moment, str] = {}
        for number, run in enumerate(self._runs):
            epochs: list[int | None] = [None]
            if options.weights == "kept":
                epochs = [*kept_epochs(run.options.out)]
            for epoch in epochs:
                for row, snapshot in enumerate(_models(run, epoch)):
                    self._add(_Moment(number, epoch, row), snapshot)
        self._seen = functools.lru_cache(maxsize=1)(self._inputs_of_model)
        self._held = max(self._held_bytes(run) for run in self._runs)
        self.max_memory: str | int = self._left()

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
        found: dict[str, Any] = {"weights_sha256": [], "runs_data_sha256": []}
        for number, run in enumerate(self._runs):
            own = [sha for moment, sha in self._weights.items() if moment.run == number]
            found["weights_sha256"].append(
                hashlib.sha256(repr(own).encode()).hexdigest()
            )
            values = run.prepared.series.values.tobytes()
            found["runs_data_sha256"].append(hashlib.sha256(values).hexdigest())
        return found

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
            folder, layer = run.options.out, self._first_layer(run)
            weights = _attention(layer).weights()
            notes |= {
                identity_note(weights, level, layer.residual)
                for level in self.options.measure.levels
            }
            if run.trainer.config.temporal.regularizer == "dropout":
                notes.add("dropout of the diagonal is of training: here nothing drops")
            if self.options.nodes is not None:
                nodes = ", ".join(map(str, self._nodes(run)))
                notes.add(f"nodes looked at, counted from 0: {nodes}")
            if not (read_record(folder) or {}).get("complete"):
                notes.add(f"{folder} is not complete: its weights so far")
        return sorted(notes)

    def size(self) -> int:
        """Bytes that the work arrays are estimated to take.

        Returns:
            The bytes: of what all layers see, and of measuring one of them.

        Raises:
            ValueError: If that is more than the budget.
        """
        sizes = []
        for run in self._runs:
            config = run.trainer.config
            shape = (self.options.samples, len(self._nodes(run)))
            shape = (*shape, config.window, config.width)
            weights = _attention(self._first_layer(run)).weights()
            measure = self.options.measure
            sizes.append(work_bytes(shape, weights, measure, self.max_memory))
        return self._held + max(sizes)

    def inputs(self, point: Point) -> Inputs:
        """The layer of a point, and its inputs."""
        moment = self._moments[point.name]
        run, dtype = self._runs[moment.run], self.options.measure.dtype
        model, seen, filled_share = self._seen(moment)
        mix = _attention(model.temporal[point.layer])
        x = np.moveaxis(seen[point.layer][self._nodes(run)], 0, 1)
        # As the layer rounds them before it computes.
        own = narrow((x, mix.weights()), run.trainer.config.precision)
        x, weights = jax.tree.map(lambda a: np.asarray(a, dtype), own)
        return Inputs(x, weights, mix.score_bias(), filled_share)

    def _inputs_of_model(self, moment: _Moment) -> tuple:
        """Send the windows through a model.

        Returns:
            The model, what its layers see (N, S, T, D), and the share that was filled.

        Raises:
            ValueError: If the run has been changed since it was opened.
        """
        run, windows = self._runs[moment.run], self.options.samples
        model = list(_models(run, moment.epoch))[moment.row].model
        if weights_sha256(model) != self._weights[moment]:
            raise ValueError(
                f"{run.options.out} was changed while it was looked at (epoch "
                f"{moment.epoch}); start again when its training has ended."
            )
        batch, parts = spread_windows(run.prepared, windows), []
        at_once = max(1, self._left() // _forward_bytes(run))
        for first in range(0, windows, at_once):
            here = slice(first, first + at_once)
            part = jax.tree.map(lambda a, here=here: a[here], batch)
            with jax.default_matmul_precision("highest"):
                seen = model.temporal_inputs(
                    part.speeds, part.time_of_day, part.average
                )
            parts.append([np.asarray(x) for x in seen])
        layers = [np.concatenate(of_layer, 1) for of_layer in zip(*parts, strict=True)]
        starts = spread_starts(run.prepared, windows)
        steps = starts[:, None] + np.arange(run.prepared.window)
        missing = run.prepared.series.missing[steps][..., self._nodes(run)]
        return model, layers, float(missing.mean())

    def _held_bytes(self, run: Restored) -> int:
        """What is held while a layer is measured: inputs, and the results of a layer.

        Returns:
            Bytes.

        Raises:
            ValueError: If that is more than the budget.
        """
        config, windows = run.trainer.config, self.options.samples
        budget = parse_memory(self.options.measure.max_memory)
        size = np.dtype(self.options.measure.dtype).itemsize
        steps, H = config.window, config.temporal.heads
        # A copy of what one layer sees, and some eighty numbers per row and head.
        one = len(self._nodes(run)) * steps * (config.width + 80 * H) * size
        one += 4 * config.layers * config.nodes * steps * config.width
        least = _forward_bytes(run)
        if one * windows + least > budget:
            fit = max(0, budget - least) // one
            raise ValueError(
                f"max_memory ({format_memory(budget)}) must be at least "
                f"{format_memory(one * windows + least)} for {windows} windows of "
                f"{run.options.out}; {fit} window(s) (--samples) would fit."
            )
        return one * windows

    def _left(self) -> int:
        """Bytes of the budget that are left for measuring a point."""
        return parse_memory(self.options.measure.max_memory) - self._held

    def _first_layer(self, run: Restored) -> TemporalLayer:
        return next(iter(best_models(run))).model.temporal[0]

    def _nodes(self, run: Restored) -> list[int]:
        """The nodes of a run that are looked at."""
        return spread_nodes(run.trainer.config.nodes, self.options.nodes)


def _open(folder: Path, options: SweepOptions) -> Restored:
    """Read a run back, and check that what is asked for is there.

    Returns:
        The run.

    Raises:
        ValueError: If it is not.
    """
    try:
        run = restore(read_options(folder, options.data))
    except ValueError as error:
        raise ValueError(f"--checkpoint: {error}") from error
    config = run.trainer.config
    if config.temporal.kind != "attention":
        raise ValueError(
            f"--checkpoint {folder} must have attention layers, but its temporal "
            f"layers are {config.temporal.kind}s."
        )
    try:
        spread_nodes(config.nodes, options.nodes)
    except ValueError as error:
        raise ValueError(f"--{error}") from None
    windows = len(run.prepared.split.test)
    if options.samples > windows:
        raise ValueError(
            f"--samples ({options.samples}) must not exceed the {windows} test windows "
            f"of {folder}."
        )
    if options.weights == "kept" and not kept_epochs(folder):
        raise ValueError(
            f"--weights kept needs runs of models.train --keep-epochs, but {folder} "
            "kept none."
        )
    return run._replace(state=run.state._replace(optimizer=None))


def _forward_bytes(run: Restored) -> int:
    """About what one window takes on its way through the network."""
    config = run.trainer.config
    T, D, H = config.window, config.width, config.temporal.heads
    return 4 * config.nodes * T * (3 * H * T + 12 * D)


def _models(run: Restored, epoch: int | None) -> Iterator[Snapshot]:
    return best_models(run) if epoch is None else kept_models(run, epoch)


def _attention(layer: Any) -> TemporalAttention:
    assert isinstance(layer.mix, TemporalAttention)
    return layer.mix
