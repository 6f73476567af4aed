"""The calls that are timed: epochs of our training, of PyTorch's, and of input only."""

import dataclasses
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from analysis.benchmark._torch_forecaster import torch_forecaster, torch_training_step
from data import Batch, Prepared, TrafficSeries, gather, prepare
from models.config import ForecasterConfig, TemporalConfig
from models.early_stopping import Recipe
from models.train.options import PRESETS
from models.training import Trainer

SEED = 0
MISSING_SHARE = 0.0775  # METR-LA's
TRIAL = "trial"  # such a size reaches no target
_METR_LA_STEPS, _WEEK_STEPS = 34_272, 2_016
_LARGE_BATCH = 32  # the paper's 128 windows of 207 nodes need some 27 GiB in a step
_RATE = 1e-3  # constant: what is timed does not depend on it


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A model, and the shape of the data that it is trained on."""

    name: str  # how a table calls it
    config: ForecasterConfig
    batch: int  # windows in a training step
    series: int  # time steps


def size_of(part: str, quick: bool) -> Size:
    """The reference's sizes on 29 or 207 nodes, or the small preset, or a trial."""
    if quick:
        config = ForecasterConfig(
            nodes=5, width=8, layers=1, temporal=TemporalConfig(heads=2)
        )
        return Size(name=TRIAL, config=config, batch=4, series=240)
    small = part in ("seeds", "input", "cures")
    preset = PRESETS["small" if small else "paper"]
    nodes, steps = (207, _WEEK_STEPS) if part == "large" else (29, _METR_LA_STEPS)
    data = preset.series
    config = preset.model.config(
        nodes=nodes, window=data.window, horizon=data.horizon, time_of_week=False
    )
    return Size(
        name="small preset" if small else "reference",
        config=config,
        batch=preset.fit.batch_size if small else _LARGE_BATCH,
        series=steps,
    )


def random_data(size: Size) -> Prepared:
    """Speeds that are noise, with as many missing as in METR-LA, ready to train on."""
    random = np.random.default_rng(SEED)
    shape = (size.series, size.config.nodes)
    missing = random.random(shape) < MISSING_SHARE
    speeds = np.where(missing, 0.0, random.uniform(5.0, 70.0, shape))
    series = TrafficSeries(
        values=speeds,
        missing=missing,
        time=pd.date_range("2012-03-01", periods=size.series, freq="5min"),
        sensor_ids=tuple(str(node) for node in range(size.config.nodes)),
        name="random",
    )
    return prepare(series, window=size.config.window, horizon=size.config.horizon)


class Epochs:
    """Epochs of `Trainer`, compiled ahead; a call does the next one and waits."""

    def __init__(
        self,
        prepared: Prepared,
        size: Size,
        *,
        steps: int | None,  # in an epoch; None: every batch there is
        seeds: int = 1,
        devices: int = 1,
        at_once: int | None = None,  # seeds side by side; None: the trainer's choice
    ):
        trainer = Trainer(
            size.config,
            Recipe(batch_size=size.batch, steps=steps),
            prepared.arrays,
            prepared.scaler,
            devices=devices,
            at_once=at_once,
        )
        self._starts = prepared.split.train
        self.steps = trainer.steps_in(len(self._starts))
        self._state = trainer.init(list(range(seeds)))
        self.losses = jnp.zeros((seeds, 0))  # of the last epoch's steps, in mph
        start = time.perf_counter()
        self._epoch = (
            jax.jit(trainer.epoch, donate_argnums=0)
            .lower(self._state, self._starts, _RATE)
            .compile()
        )
        self.compile_seconds = time.perf_counter() - start
        plan = self._epoch.memory_analysis()
        # Between arguments and results; None where XLA does not say.
        self.planned_bytes = None if plan is None else plan.temp_size_in_bytes

    def __call__(self) -> None:
        """Run the next epoch."""
        self._state, self.losses = self._epoch(self._state, self._starts, _RATE)
        jax.block_until_ready((self._state, self.losses))

    def program(self) -> str:
        """The compiled program, as HLO text."""
        return self._epoch.as_text() or ""


class Batches:
    """The input pipeline alone: shuffle, cut every batch of an epoch, and add it up.

    A barrier keeps XLA from fusing the sum into the cutting, so that every batch is
    really written down, as for a training step.
    """

    def __init__(self, prepared: Prepared, size: Size):
        starts, arrays = jnp.asarray(prepared.split.train), prepared.arrays
        window, horizon = size.config.window, size.config.horizon
        self.steps = len(starts) // size.batch

        def epoch(key: jax.Array) -> jax.Array:
            shuffled = jax.random.permutation(key, starts)[: self.steps * size.batch]

            def add(total: jax.Array, each: jax.Array) -> tuple[jax.Array, None]:
                batch = gather(arrays, each, window, horizon)
                parts = jax.tree.leaves(jax.lax.optimization_barrier(batch))
                return total + sum(part.sum() for part in parts), None

            batches = shuffled.reshape(self.steps, size.batch)
            return jax.lax.scan(add, jnp.zeros((), jnp.float32), batches)[0]

        self._key = jax.random.key(SEED)
        self.total = jnp.zeros(())  # of all numbers of all batches
        start = time.perf_counter()
        self._epoch = jax.jit(epoch).lower(self._key).compile()
        self.compile_seconds = time.perf_counter() - start

    def __call__(self) -> None:
        """Go through an epoch's batches."""
        self.total = jax.block_until_ready(self._epoch(self._key))


def torch_steps(prepared: Prepared, size: Size, steps: int) -> Callable[[], None]:
    """The same in PyTorch, of one batch: a call does so many steps."""
    starts, config = prepared.split.train[: size.batch], size.config
    arrays = gather(prepared.arrays, starts, config.window, config.horizon)
    step = torch_training_step(
        torch_forecaster(config),
        Recipe(batch_size=size.batch),
        prepared.scaler,
        Batch(*jax.tree.map(np.asarray, arrays)),
        _RATE,
    )

    def call() -> None:
        for _ in range(steps):
            step()

    return call
