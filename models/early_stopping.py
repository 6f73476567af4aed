"""What training goes on from, and when a seed stops."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, UInt32


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a forecaster is trained, but for the learning rate, which comes by epoch.

    Attributes:
        batch_size: Windows B in a training step; the last, short batch is left out.
        steps: Training steps in an epoch, or None for every batch there is.
        weight_decay: Decoupled weight decay of AdamW.
        clip: Largest global 2-norm of the gradient.
        patience: Epochs without improvement after which a seed stops.
        delta: Fall of the validation MAE that counts as improvement, in mph.
    """

    batch_size: int = 128
    steps: int | None = None
    weight_decay: float = 0.01
    clip: float = 5.0
    patience: int = 20
    delta: float = 1e-4


class TrainState(NamedTuple):
    """All that training goes on from; every array has the seeds in front.

    Attributes:
        params: Weights.
        optimizer: State of the optimiser.
        best: Weights of the best epoch so far.
        best_mae: Their validation MAE, in mph.
        since_best: Epochs since then.
        stopped: Whether the seed has stopped early; it is frozen then.
        epoch: Epochs done.
        key: Data of the key that shuffles and dropout are drawn from.
    """

    params: Any
    optimizer: Any
    best: Any
    best_mae: Float[Array, " S"]
    since_best: Int[Array, " S"]
    stopped: Bool[Array, " S"]
    epoch: Int[Array, " S"]
    key: UInt32[Array, "S 2"]


def first_state(
    optimizer: optax.GradientTransformation, weights: list[Any], seeds: list[int]
) -> TrainState:
    """The state before the first epoch.

    Weights are drawn outside of jit, an operation at a time: a compiled program of all
    draws took longer to compile than the training itself.

    Args:
        optimizer: What follows the gradients.
        weights: Initial weights of every seed.
        seeds: The seeds; of each, the second half of its key is for training.

    Returns:
        The state, seeds in front.
    """

    def one(params: Any, seed: Array) -> TrainState:
        return TrainState(
            params=params,
            optimizer=optimizer.init(params),
            best=params,
            best_mae=jnp.asarray(jnp.inf, jnp.float32),
            since_best=jnp.zeros((), jnp.int32),
            stopped=jnp.zeros((), bool),
            epoch=jnp.zeros((), jnp.int32),
            key=jax.random.key_data(jax.random.split(jax.random.key(seed))[1]),
        )

    stacked = jax.tree.map(lambda *parts: np.stack(parts), *weights)
    return jax.jit(jax.vmap(one))(stacked, np.asarray(seeds, np.uint32))


def stop_early(recipe: Recipe, state: TrainState, mae: Float[Array, ""]) -> TrainState:
    """Keep the best weights of one seed, and stop it where it no longer improves.

    Args:
        recipe: What counts as improvement, and the patience.
        state: Of one seed, after an epoch; one that has stopped stays as it is.
        mae: Its validation MAE, in mph.

    Returns:
        The state.
    """
    active = ~state.stopped
    better = active & (mae < state.best_mae - recipe.delta)
    since = jnp.where(better, 0, state.since_best + active)

    def keep(new: Array, old: Array) -> Array:
        return jnp.where(better, new, old)

    return state._replace(
        best=jax.tree.map(keep, state.params, state.best),
        best_mae=keep(mae, state.best_mae),
        since_best=since,
        stopped=state.stopped | (active & (since >= recipe.patience)),
    )
