"""Training as pure functions: an epoch is one compiled scan, seeds are an axis.

On accelerators all seeds are trained side by side, on a CPU one after another, which is
faster there.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from data import Batch, Scaler, WindowedSeries, gather
from models.config import ForecasterConfig
from models.early_stopping import Recipe, TrainState, first_state, stop_early
from models.errors import ErrorSums, error_sums, pooled_mae
from models.forecaster import Forecaster, parameter_count
from sensitivity.arguments import ArgumentError


class Held(NamedTuple):
    """What compiled functions are given: constants of theirs would be compiled."""

    arrays: WindowedSeries
    rest: Any  # what a model holds besides its weights, such as the road graph


class Trainer:
    """One model, its data on the device, and compiled functions of a `TrainState`.

    On accelerators that have a faster, coarser matrix product for float32, training
    uses it; what is reported (`evaluate`, `predict`) is computed at full precision.

    Attributes:
        config: The model.
        recipe: How it is trained.
        arrays: The data.
        compilations: How often each function has been traced, by name.
    """

    def __init__(
        self,
        config: ForecasterConfig,
        recipe: Recipe,
        arrays: WindowedSeries,
        scaler: Scaler,
        *,
        adjacency: np.ndarray | None = None,
        devices: int = 1,
        at_once: int | None = None,
    ):
        """Put the data on the devices.

        Args:
            config: The model.
            recipe: How it is trained.
            arrays: The data, S steps of N nodes.
            scaler: What turns forecasts into mph.
            adjacency: The road graph, for models that use it.
            devices: Number of devices that share every batch.
            at_once: Seeds that are trained side by side; by default all on an
                accelerator, and one after another on a CPU, where that is faster.

        Raises:
            ArgumentError: If there are fewer devices, or they do not divide the batch.
        """
        if not 1 <= devices <= len(jax.devices()):
            raise ArgumentError(
                "devices", f"must lie in [1, {len(jax.devices())}], got {devices}."
            )
        if recipe.batch_size % devices:
            rule = f"({recipe.batch_size}) must be a multiple of devices ({devices})."
            raise ArgumentError("batch_size", rule)
        mesh = Mesh(np.asarray(jax.devices()[:devices]), ("batch",))
        self._shared = NamedSharding(mesh, PartitionSpec())
        self._by_batch = NamedSharding(mesh, PartitionSpec("batch"))
        self.config, self.recipe = config, recipe
        self._at_once = at_once
        self.compilations: dict[str, int] = {}
        self._scaler = scaler
        clip = optax.clip_by_global_norm(recipe.clip)
        decay = optax.add_decayed_weights(recipe.weight_decay)
        # Gates do not decay, as in SparseBERT; that they are not clipped is ours.
        if config.temporal.regularizer == "learned-mask":
            clip, decay = (optax.masked(part, _but_gates) for part in (clip, decay))
        self._optimizer = optax.chain(clip, optax.scale_by_adam(), decay)
        self._build = lambda key: Forecaster(config, adjacency, rngs=nnx.Rngs(key))
        self._graph, _, rest = nnx.split(self._build(jax.random.key(0)), nnx.Param, ...)
        self._held = jax.device_put(Held(arrays, rest), self._shared)
        self.arrays = self._held.arrays
        self._epoch = self._jit("epoch", self._epoch_of_seeds, donate_argnums=1)
        self._evaluate = self._jit("evaluate", self._sums_of_seeds)
        self._predict = self._jit("predict", self._predict_batch)
        stop = functools.partial(stop_early, recipe)
        self._judge = self._jit("judge", jax.vmap(stop), donate_argnums=0)

    def _jit(self, name: str, function: Callable, **options: Any) -> Callable:
        """Compile a function and count how often it is traced."""

        @functools.wraps(function)
        def counted(*args: Any) -> Any:
            self.compilations[name] = self.compilations.get(name, 0) + 1
            return function(*args)

        return jax.jit(counted, **options)

    def init(self, seeds: list[int]) -> TrainState:
        """Draw the initial weights of every seed, for the state before training."""
        weights = [
            nnx.state(self._build(jax.random.split(jax.random.key(seed))[0]), nnx.Param)
            for seed in seeds
        ]
        return self.put(first_state(self._optimizer, weights, seeds))

    def parameters(self) -> int:
        """Number of weights of one seed's model."""
        return parameter_count(nnx.eval_shape(self._build, jax.random.key(0)))

    def put(self, state: TrainState) -> TrainState:
        """A state on the devices of this trainer."""
        return jax.device_put(state, self._shared)

    def epoch(
        self, state: TrainState, starts: Int[np.ndarray, " W"], rate: float
    ) -> tuple[TrainState, Float[Array, "S steps"]]:
        """Train every seed for one epoch; the state passed in is used up.

        Args:
            state: Where it goes on from.
            starts: Starts of the training windows.
            rate: Learning rate.

        Returns:
            The state after it, and the loss of every step, NaN for stopped seeds.

        Raises:
            ArgumentError: If there are fewer windows than a batch takes.
        """
        if len(starts) < self.recipe.batch_size:
            raise ArgumentError(
                "batch_size",
                f"({self.recipe.batch_size}) must not exceed the {len(starts)} "
                "training windows.",
            )
        return self._epoch(self._held, state, jnp.asarray(starts), jnp.float32(rate))

    def _epoch_of_seeds(
        self, held: Held, state: TrainState, starts: Array, rate: Array
    ) -> Any:
        def one(state: TrainState) -> tuple[TrainState, Array]:
            frozen = jnp.full(self.steps_in(len(starts)), jnp.nan, jnp.float32)
            return jax.lax.cond(
                state.stopped,
                lambda state: (state, frozen),
                lambda state: self._train(held, state, starts, rate),
                state,
            )

        return _over_seeds(one, state, self._at_once)

    def steps_in(self, windows: int) -> int:
        """Training steps in an epoch over so many windows."""
        every = windows // self.recipe.batch_size
        return every if self.recipe.steps is None else min(every, self.recipe.steps)

    def _train(self, held: Held, state: TrainState, starts: Array, rate: Array) -> Any:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.epoch)
        shuffle, drops = jax.random.split(key)
        steps, size = self.steps_in(len(starts)), self.recipe.batch_size
        batches = jax.random.permutation(shuffle, starts)[: steps * size]
        gradient = jax.value_and_grad(self._loss)

        def step(carry: tuple, each: tuple) -> tuple:
            params, optimizer = carry
            batch, number = each
            step_key = jax.random.fold_in(drops, number)
            loss, grads = gradient(params, held, batch, step_key)
            updates, optimizer = self._optimizer.update(grads, optimizer, params)
            params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
            return (params, optimizer), loss

        (params, optimizer), losses = jax.lax.scan(
            step,
            (state.params, state.optimizer),
            (batches.reshape(steps, size), jnp.arange(steps)),
        )
        state = state._replace(
            params=params, optimizer=optimizer, epoch=state.epoch + 1
        )
        return state, losses

    def _gather(self, held: Held, starts: Int[Array, " B"]) -> Batch:
        starts = jax.lax.with_sharding_constraint(starts, self._by_batch)
        return gather(held.arrays, starts, self.config.window, self.config.horizon)

    def _forecast(self, model: Forecaster, batch: Batch) -> Array:
        """Forecasts in mph, shape (B, H, N)."""
        scores = model(batch.speeds, batch.time_of_day, batch.average)
        return self._scaler.inverse(scores)

    def _loss(
        self, params: Any, held: Held, starts: Array, key: Array
    ) -> Float[Array, ""]:
        batch = self._gather(held, starts)
        model = nnx.merge(self._graph, params, held.rest)
        given = (batch.speeds, batch.time_of_day, batch.average)
        scores, penalty = model.with_penalty(*given, key)
        forecast = self._scaler.inverse(scores)
        return pooled_mae(error_sums(forecast, batch.targets)) + penalty

    def evaluate(self, params: Any, starts: Int[np.ndarray, " W"]) -> ErrorSums:
        """Sums of errors over windows, in evaluation mode.

        Args:
            params: Weights, seeds in front.
            starts: Starts of the windows.

        Returns:
            Float64 NumPy arrays of shape (S, H).
        """
        batches, real = _padded_batches(starts, self.recipe.batch_size)
        with jax.default_matmul_precision("highest"):
            sums = self._evaluate(self._held, params, batches, real)
        return sums.total(axis=1)

    def _sums_of_seeds(
        self, held: Held, params: Any, batches: Array, real: Array
    ) -> ErrorSums:
        def one(params: Any) -> ErrorSums:
            model = nnx.merge(self._graph, params, held.rest)

            def batch_sums(_: None, each: tuple[Array, Array]) -> tuple:
                starts, real = each
                batch = self._gather(held, starts)
                targets = jnp.where(real[:, None, None], batch.targets, 0.0)
                return None, error_sums(self._forecast(model, batch), targets)

            return jax.lax.scan(batch_sums, None, (batches, real))[1]

        return _over_seeds(one, params, self._at_once)

    def predict(
        self, params: Any, starts: Int[np.ndarray, " W"]
    ) -> Float[np.ndarray, "W H N"]:
        """Forecasts of one seed, in mph.

        Args:
            params: Weights of one seed, without a seed axis.
            starts: Starts of the windows.

        Returns:
            The speeds, float32.
        """
        batches, _ = _padded_batches(starts, self.recipe.batch_size)
        with jax.default_matmul_precision("highest"):
            parts = [
                np.asarray(self._predict(self._held, params, batch))
                for batch in batches
            ]
        return np.concatenate(parts)[: len(starts)]

    def _predict_batch(self, held: Held, params: Any, starts: Array) -> Array:
        model = nnx.merge(self._graph, params, held.rest)
        return self._forecast(model, self._gather(held, starts))

    def model(self, params: Any) -> Forecaster:
        """The forecaster with weights of one seed, for looking into it."""
        return nnx.merge(self._graph, params, self._held.rest)

    def judge(self, state: TrainState, mae: Float[np.ndarray, " S"]) -> TrainState:
        """Keep the best weights, and stop seeds that no longer improve."""
        return self._judge(state, jnp.asarray(mae, jnp.float32))


def _but_gates(params: Any) -> Any:
    """True for all weights but the gates of a learned mask."""
    return jax.tree.map_with_path(
        lambda path, _: "gates" not in jax.tree_util.keystr(path), params
    )


def _over_seeds(function: Callable, state: Any, at_once: int | None) -> Any:
    """Apply a function of one seed to all, so many side by side; None is as above."""
    seeds = len(jax.tree.leaves(state)[0])
    if at_once is None:
        at_once = 1 if jax.default_backend() == "cpu" else seeds
    if at_once >= seeds > 1:
        return jax.vmap(function)(state)
    return jax.lax.map(function, state, batch_size=at_once if at_once > 1 else None)


def _padded_batches(
    starts: Int[np.ndarray, " W"], size: int
) -> tuple[Int[np.ndarray, "batches B"], Bool[np.ndarray, "batches B"]]:
    """Windows in batches; the first fill up the last batch, and are not real there."""
    count = -(-len(starts) // size)
    padded = np.resize(starts, (count, size)).astype(np.int32)
    return padded, np.arange(count * size).reshape(count, size) < len(starts)
