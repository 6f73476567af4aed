"""The attention layers of trained forecasters, at what they really see."""

import functools
import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from models.temporal import TemporalAttention
from models.train.restore import (
    Restored,
    best_models,
    kept_epochs,
    kept_models,
    read_options,
    restore,
    spread_nodes,
    spread_windows,
    weights_sha256,
)
from sensitivity.bounds import identity_note
from sensitivity.memory import format_memory, parse_memory
from sensitivity.sweep.options import SweepOptions
from sensitivity.sweep.points import Inputs, Point
from sensitivity.sweep.sources import work_bytes


class TrainedLayers:
    """All attention layers of all seeds of some runs, on windows of their test split.

    Attributes:
        points: A layer per run, training step, seed and place.
    """

    def __init__(self, options: SweepOptions):
        """Read the runs.

        Args:
            options: The sweep.

        Raises:
            ValueError: If a folder is no run or one of another version, its data or
                weights cannot be read, it has no attention, fewer windows or nodes than
                asked for, or no weights were kept where they are asked for.
        """
        self.options, self.points = options, []
        self._runs = [_open(folder, options) for folder in options.checkpoint]
        self._snapshots: dict[str, tuple[int, int | None, int]] = {}
        for number, run in enumerate(self._runs):
            for epoch in _epochs(run, options):
                self._add(number, run, epoch)
        self._seen = functools.lru_cache(maxsize=1)(self._inputs_of_model)

    def _add(self, number: int, run: Restored, epoch: int | None) -> None:
        """Add the points of one run at one moment of its training."""
        given, config = run.options, run.trainer.config
        for row, (seed, step, _) in enumerate(_models(run, epoch)):
            for layer in range(config.layers):
                at = f"step={step}" if epoch is not None else "best"
                name = f"T={config.window}-run={number}-{at}-seed={seed}-layer={layer}"
                self._snapshots[name] = (number, epoch, row)
                self.points.append(
                    Point(
                        name=name,
                        T=config.window,
                        seed=seed,
                        source=given.series.dataset,
                        position=config.position,
                        regularizer=config.temporal.regularizer,
                        heads=config.temporal.heads,
                        run=str(given.out),
                        layer=layer,
                        step=step,
                    )
                )

    def identity(self) -> dict[str, Any]:
        """SHA-256 of the weights and of the data of every run."""
        found: dict[str, Any] = {"weights_sha256": [], "runs_data_sha256": []}
        for run in self._runs:
            digest = hashlib.sha256()
            for epoch in _epochs(run, self.options):
                for snapshot in _models(run, epoch):
                    digest.update(weights_sha256(snapshot.model).encode())
            found["weights_sha256"].append(digest.hexdigest())
            values = run.prepared.series.values
            found["runs_data_sha256"].append(
                hashlib.sha256(values.tobytes()).hexdigest()
            )
        return found

    def headline(self) -> str:
        """What is looked at, in words."""
        options, nodes = self.options, self._nodes(self._runs[0])
        every = "all" if options.nodes is None else "of each"
        return (
            f"{len(self._runs)} run(s), {len(self.points)} attention layers (seeds, "
            f"training steps and places); {options.samples} test windows, "
            f"{len(nodes)} nodes ({every}), weights: {options.weights}"
        )

    def notes(self) -> list[str]:
        """What whoever reads the numbers should know."""
        notes = set()
        for number, run in enumerate(self._runs):
            layer = next(_models(run, _epochs(run, self.options)[0])).model.temporal[0]
            assert isinstance(layer.mix, TemporalAttention)
            weights = layer.mix.weights()
            notes |= {
                identity_note(weights, level) for level in self.options.measure.levels
            }
            if not layer.residual:
                notes.add(
                    f"{self.options.checkpoint[number]} has no residual; Eq. 8 has "
                    "one, and its diagonal lines are judged with the identity as for "
                    "the others"
                )
            if self.options.nodes is not None:
                nodes = ", ".join(map(str, self._nodes(run)))
                notes.add(f"nodes looked at, counted from 0: {nodes}")
        return sorted(notes)

    def size(self) -> int:
        """Bytes that the work arrays are estimated to take.

        Returns:
            The bytes.

        Raises:
            ValueError: If that is more than the budget.
        """
        measure, sizes = self.options.measure, []
        budget = parse_memory(measure.max_memory)
        for run in self._runs:
            config = run.trainer.config
            steps = self.options.samples * config.window * config.width
            seen = 4 * config.layers * config.nodes * steps
            if seen > budget:
                raise ValueError(
                    f"max_memory ({measure.max_memory}) must be at least "
                    f"{format_memory(seen)} for the inputs of the {config.layers} "
                    f"layers of {run.options.out} on {self.options.samples} windows; "
                    "fewer --samples need less."
                )
            layer = next(_models(run, _epochs(run, self.options)[0])).model.temporal[0]
            shape = (self.options.samples, len(self._nodes(run)))
            shape = (*shape, config.window, config.width)
            weights = layer.mix.weights()
            sizes.append(seen + work_bytes(shape, weights, measure))
        return max(sizes)

    def inputs(self, point: Point) -> Inputs:
        """The layer of a point, and its inputs."""
        number, epoch, row = self._snapshots[point.name]
        run, dtype = self._runs[number], self.options.measure.dtype
        model, seen, filled_share = self._seen(number, epoch, row)
        mix = model.temporal[point.layer].mix
        assert isinstance(mix, TemporalAttention)
        x = np.moveaxis(np.asarray(seen[point.layer])[self._nodes(run)], 0, 1)
        weights = jax.tree.map(lambda a: np.asarray(a, dtype), mix.weights())
        return Inputs(x.astype(dtype), weights, mix.score_bias(), filled_share)

    def _inputs_of_model(self, number: int, epoch: int | None, row: int) -> tuple:
        """A model, what its layers see (N, S, T, D), and the share that was filled."""
        run = self._runs[number]
        model = list(_models(run, epoch))[row].model
        batch = spread_windows(run.prepared, self.options.samples)
        seen = model.temporal_inputs(batch.speeds, batch.time_of_day, batch.average)
        return model, seen, _filled_share(run, self.options.samples)

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
    run = restore(read_options(folder, options.data))
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
    return run


def _epochs(run: Restored, options: SweepOptions) -> list[int | None]:
    """The kept epochs that are looked at; None is the best weights."""
    return [*kept_epochs(run.options.out)] if options.weights == "kept" else [None]


def _models(run: Restored, epoch: int | None) -> Any:
    return best_models(run) if epoch is None else kept_models(run, epoch)


def _filled_share(run: Restored, windows: int) -> float:
    """Share of the readings in the windows that were missing and filled."""
    test = run.prepared.split.test
    starts = test[np.linspace(0, len(test) - 1, windows).round().astype(int)]
    steps = starts[:, None] + np.arange(run.prepared.window)
    return float(run.prepared.series.missing[steps].mean())
