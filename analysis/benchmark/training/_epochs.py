"""The calls that are timed: epochs of our training, of PyTorch's, and of input only."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from analysis.benchmark._torch_forecaster import torch_forecaster, torch_training_step
from analysis.benchmark.training._sizes import SEED, Size
from data import Batch, Prepared, gather
from models.early_stopping import Recipe
from models.training import Trainer

_RATE = 1e-3  # constant: what is timed does not depend on it


class Epochs:
    """Epochs of `Trainer`, compiled ahead; a call runs the next one and waits for it.

    Attributes:
        steps: Training steps in an epoch.
        compile_seconds: Tracing, lowering and compiling.
        planned_bytes: Memory that the compiled program plans for what it computes
            between its arguments and results; None where XLA does not say.
        losses: Of the last epoch, shape (S, steps), in mph.
    """

    def __init__(
        self,
        prepared: Prepared,
        size: Size,
        *,
        steps: int | None,
        seeds: int = 1,
        devices: int = 1,
        at_once: int | None = None,
    ):
        """Compile.

        Args:
            prepared: The data.
            size: The model and its batch.
            steps: Training steps in an epoch, or None for every batch there is.
            seeds: Seeds that are trained.
            devices: Devices that share every batch.
            at_once: Seeds that are trained side by side; None is the trainer's choice.
        """
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
        self.losses = jnp.zeros((seeds, 0))
        start = time.perf_counter()
        self._epoch = (
            jax.jit(trainer.epoch, donate_argnums=0)
            .lower(self._state, self._starts, _RATE)
            .compile()
        )
        self.compile_seconds = time.perf_counter() - start
        plan = self._epoch.memory_analysis()
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

    Attributes:
        steps: Batches in an epoch.
        compile_seconds: Tracing, lowering and compiling.
        total: Sum of all numbers of all batches.
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
        self.total = jnp.zeros(())
        start = time.perf_counter()
        self._epoch = jax.jit(epoch).lower(self._key).compile()
        self.compile_seconds = time.perf_counter() - start

    def __call__(self) -> None:
        """Go through an epoch's batches."""
        self.total = jax.block_until_ready(self._epoch(self._key))


def torch_steps(prepared: Prepared, size: Size, steps: int) -> Callable[[], None]:
    """The same model, data and optimiser in PyTorch; every step takes the same batch.

    Args:
        prepared: The data.
        size: The model and its batch.
        steps: Training steps in a call.

    Returns:
        A call that does them.
    """
    starts, config = prepared.split.train[: size.batch], size.config
    arrays = gather(prepared.arrays, starts, config.window, config.horizon)
    batch = jax.tree.map(np.asarray, arrays)
    step = torch_training_step(
        torch_forecaster(config),
        Recipe(batch_size=size.batch),
        prepared.scaler,
        Batch(*batch),
        _RATE,
    )

    def call() -> None:
        for _ in range(steps):
            step()

    return call
