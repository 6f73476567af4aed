"""A step is AdamW on clipped gradients, an epoch a shuffle, its rate a cosine."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data import prepare
from models.config import ForecasterConfig, GraphConfig, TemporalConfig
from models.early_stopping import Recipe, TrainState
from models.schedule import learning_rate
from models.training import Held, Trainer
from tests import train_runs
from tests.helpers import compiles_fast
from tests.train_runs import made, walk

command_line = train_runs.command_line


@pytest.fixture(scope="module", autouse=True)
def quick(command_line):
    """Nothing here is about speed."""
    with compiles_fast():
        yield


SMALLEST = ForecasterConfig(
    **{"nodes": 3, "window": 3, "horizon": 2, "width": 3, "layers": 1},
    **{"position": "none", "dropout": 0.0},
    temporal=TemporalConfig(kind="convolution", taps=1),
    graph=GraphConfig(kind="diagonal", hops=1, embedding=1),
)
RECIPE = Recipe(batch_size=8, weight_decay=0.3, clip=6.0)
SILENT = 150  # from this step on no sensor reads anything
# Windows and rate of every step: an epoch over one batch is one step on known windows.
STEPS = [(range(0, 8), 0.03), (range(40, 48), 0.1), (range(90, 98), 0.01)]


def trainer_of(kind: type[Trainer], recipe: Recipe) -> Trainer:
    """A trainer of the smallest forecaster, on readings that end early."""
    series = walk()
    missing = series.missing.copy()
    missing[SILENT:] = True
    series = dataclasses.replace(
        series, values=np.where(missing, 0.0, series.values), missing=missing
    )
    prepared = prepare(series, window=SMALLEST.window, horizon=SMALLEST.horizon)
    return kind(SMALLEST, recipe, prepared.arrays, prepared.scaler)


# --- a step -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trainer():
    """One for all tests, so that it is compiled once."""
    return trainer_of(Trainer, RECIPE)


def first_state(trainer: Trainer) -> TrainState:
    """The state of one seed, none of its weights 0."""
    state = trainer.init([0])
    return state._replace(params=jax.tree.map(lambda p: p + 0.2, state.params))


def weights_of(state: TrainState) -> list[np.ndarray]:
    """The weights in float64, leaf by leaf."""
    return [np.asarray(leaf[0], np.float64) for leaf in jax.tree.leaves(state.params)]


def stepped(
    trainer: Trainer, state: TrainState, windows: Sequence[int], rate: float
) -> TrainState:
    """The state after one step on these windows."""
    return trainer.epoch(state, np.array(windows, np.int32), rate)[0]


def adamw(weights: list[np.ndarray], gradient: Callable) -> list[float]:
    """Do the steps in place, by the book; the norms of the gradients."""
    mean, square = ([np.zeros_like(w) for w in weights] for _ in range(2))
    norms = []
    for number, (windows, rate) in enumerate(STEPS, 1):
        gradients = gradient(weights, windows)
        norm = np.sqrt(sum((g**2).sum() for g in gradients))
        norms.append(float(norm))
        for k, g in enumerate(gradients):
            g = g * min(1, RECIPE.clip / norm)
            mean[k] = 0.9 * mean[k] + 0.1 * g
            square[k] = 0.999 * square[k] + 0.001 * g**2
            m, v = mean[k] / (1 - 0.9**number), square[k] / (1 - 0.999**number)
            decay = RECIPE.weight_decay * weights[k]
            weights[k] = weights[k] - rate * (m / (np.sqrt(v) + 1e-8) + decay)
    return norms


def test_steps_are_adamw_on_gradients_clipped_by_their_global_norm(trainer):
    state = first_state(trainer)
    structure, weights = jax.tree.structure(state.params), weights_of(state)
    compiled = jax.jit(jax.grad(trainer._loss))

    def gradient(weights: list[np.ndarray], windows: range) -> list[np.ndarray]:
        params = structure.unflatten([jnp.asarray(w, jnp.float32) for w in weights])
        found = compiled(params, trainer._held, np.array(windows), jax.random.key(0))
        return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(found)]

    norms = adamw(weights, gradient)
    assert min(norms) < RECIPE.clip < max(norms)  # some are clipped, some are not
    for windows, rate in STEPS:
        state = stepped(trainer, state, windows, rate)
    for found, expected in zip(weights_of(state), weights, strict=True):
        # Gradients are float32: weights move by 0.1 and agree to 1e-6 or so.
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_without_a_gradient_every_weight_decays_and_does_nothing_else(trainer):
    before = weights_of(first_state(trainer))
    after = stepped(trainer, first_state(trainer), range(SILENT, SILENT + 8), 0.1)
    kept = 1 - 0.1 * RECIPE.weight_decay
    for found, weight in zip(weights_of(after), before, strict=True):
        assert weight.all()
        np.testing.assert_allclose(found, kept * weight, rtol=1e-6)


def test_a_step_is_proportionate_to_the_rate(trainer):
    before = weights_of(first_state(trainer))
    none, one, three = (
        weights_of(stepped(trainer, first_state(trainer), range(8), rate))
        for rate in (0.0, 0.1, 0.3)
    )
    for at_rest, near, far, start in zip(none, one, three, before, strict=True):
        np.testing.assert_array_equal(at_rest, start)
        assert (near != start).all()
        np.testing.assert_allclose(far - start, 3 * (near - start), rtol=0, atol=1e-6)


def test_the_recipe_is_the_one_asked_for():
    asked = ("--weight-decay", 0.3, "--steps-per-epoch", 5, "--patience", 7)
    recipe = Recipe(batch_size=16, steps=5, weight_decay=0.3, patience=7)
    assert made(*asked).trainer.recipe == recipe


# --- an epoch -----------------------------------------------------------------------

STARTS = np.arange(3, 23, dtype=np.int32)


class Telling(Trainer):
    """Its loss tells which windows a step sees: window n counts 2**n."""

    def _loss(self, params: Any, held: Held, starts: Any, key: Any) -> jax.Array:
        return (1 << starts).sum().astype(jnp.float32)


def told(steps: int | None, seeds: list[int], epochs: int) -> np.ndarray:
    """Which of the windows is in which batch, shape (epochs, seeds, steps, windows)."""
    trainer = trainer_of(Telling, Recipe(batch_size=6, steps=steps))
    state, codes = trainer.init(seeds), []
    for _ in range(epochs):
        state, losses = trainer.epoch(state, STARTS, 0.1)
        codes.append(np.asarray(losses).astype(int))
    return np.array(codes)[..., None] >> STARTS & 1


@pytest.mark.parametrize(("steps", "expected"), [(None, 3), (2, 2), (9, 3)])
def test_an_epoch_has_full_batches_only_and_no_window_twice(steps, expected):
    batches = told(steps, seeds=[0, 1], epochs=2)
    assert batches.shape == (2, 2, expected, 20)
    assert (batches.sum(-1) == 6).all()  # fewer, were one in it twice
    assert batches.sum(-2).max() == 1


def test_every_epoch_and_every_seed_is_shuffled_anew():
    epochs = told(None, seeds=[0, 1], epochs=3)
    batches = {batch.tobytes() for batch in epochs.reshape(-1, 20)}
    assert len(batches) == 3 * 2 * 3
    assert epochs.any(axis=(0, 2)).all()  # what one leaves out, another sees
    again = told(None, seeds=[1], epochs=1)
    np.testing.assert_array_equal(again[0, 0], epochs[0, 1])


# --- the rate of an epoch -----------------------------------------------------------


def rates(epochs: int, **settings: Any) -> list[float]:
    """Those of every epoch of a run."""
    return [learning_rate(epoch, epochs, **settings) for epoch in range(epochs)]


def test_the_rate_rises_from_a_tenth_and_falls_on_a_cosine():
    found = rates(105, peak=1.0, floor=0.2)
    np.testing.assert_allclose(found[:6], [0.1, 0.28, 0.46, 0.64, 0.82, 1], rtol=1e-12)
    assert found[5] == 1.0
    at_a_quarter = 0.2 + 0.4 * (1 + np.cos(np.pi / 4))
    np.testing.assert_allclose([found[55], found[30]], [0.6, at_a_quarter], rtol=1e-12)
    assert learning_rate(105, 105, peak=1.0, floor=0.2) == pytest.approx(0.2)
    assert all(
        later < earlier for earlier, later in zip(found[5:-1], found[6:], strict=True)
    )


@pytest.mark.parametrize("epochs", [3, 20, 150])  # 3: the peak is never reached
@pytest.mark.parametrize("warmup", [0, 1, 5])
def test_rates_are_those_of_optax_to_rounding(epochs, warmup):
    peak, left = 2e-4, max(epochs - warmup, 1)
    theirs = optax.cosine_decay_schedule(peak, left, alpha=1e-6 / peak)
    if warmup:
        rise = optax.linear_schedule(0.1 * peak, peak, warmup)
        theirs = optax.join_schedules([rise, theirs], [warmup])
    with jax.enable_x64(True):
        expected = [np.asarray(theirs(epoch)) for epoch in range(epochs)]
    actual = rates(epochs, peak=peak, warmup=warmup)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


@pytest.mark.parametrize("epochs", [150, 20])
def test_rates_are_those_of_the_schedulers_of_the_reference(epochs):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    lr_scheduler = torch.optim.lr_scheduler
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=2e-4)
    parts = [
        lr_scheduler.LinearLR(optimizer, 0.1, 1.0, total_iters=5),
        lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=0),
        lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs - 5, eta_min=1e-6),
    ]
    scheduler = lr_scheduler.SequentialLR(optimizer, parts, milestones=[5, 5])
    expected = []
    for _ in range(epochs):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(rates(epochs, peak=2e-4), expected, rtol=1e-9)
