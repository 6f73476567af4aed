"""The training step in PyTorch that ours is timed against.

That its forecaster is ours, weight by weight, is shown in ``tests/test_torch_twin.py``.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from analysis.benchmark._torch_forecaster import torch_forecaster, torch_training_step
from analysis.benchmark.training._epochs import random_data, size_of
from data import gather
from models.config import ForecasterConfig, GraphConfig, TemporalConfig
from models.early_stopping import Recipe
from models.errors import error_sums, pooled_mae

SIZE = size_of("step", quick=True)


def windows(prepared):
    """The first windows of the data, as NumPy arrays."""
    return jax.tree.map(np.asarray, gather(prepared.arrays, np.arange(4), 12, 12))


def test_its_loss_is_ours_and_falls_as_its_weights_move():
    torch = pytest.importorskip("torch")
    prepared = random_data(SIZE)
    batch, model = windows(prepared), torch_forecaster(SIZE.config).eval()
    assert (batch.targets == 0).any()  # missing readings count for nothing
    scores = model(torch.tensor(batch.speeds), torch.tensor(batch.time_of_day))
    forecast = prepared.scaler.inverse(jnp.asarray(scores.detach().numpy()))
    expected = pooled_mae(error_sums(forecast, jnp.asarray(batch.targets)))
    recipe = Recipe(batch_size=4)
    step = torch_training_step(model, recipe, prepared.scaler, batch, 1e-3)
    losses = [step() for _ in range(3)]
    assert losses[0] == pytest.approx(float(expected), rel=1e-5)
    assert losses[2] < losses[1] < losses[0]


def test_its_gradient_is_clipped_and_its_weights_decay_as_the_recipe_says():
    torch = pytest.importorskip("torch")
    prepared = random_data(SIZE)
    model = torch_forecaster(SIZE.config).eval()
    before = model.lift.weight.detach().clone()
    recipe = Recipe(batch_size=4, clip=1e-30, weight_decay=0.5)
    step = torch_training_step(model, recipe, prepared.scaler, windows(prepared), 0.1)
    step()  # the gradient is clipped to nothing: only the decay is left
    norm = torch.sqrt(sum((p.grad**2).sum() for p in model.parameters()))
    assert float(norm) < 1e-20
    torch.testing.assert_close(model.lift.weight.detach(), before * (1 - 0.1 * 0.5))


def test_it_drops_units_in_training_only():
    torch = pytest.importorskip("torch")
    batch, model = windows(random_data(SIZE)), torch_forecaster(SIZE.config)
    seen = torch.tensor(batch.speeds), torch.tensor(batch.time_of_day)
    assert not torch.equal(model(*seen), model(*seen))
    model.eval()
    assert torch.equal(model(*seen), model(*seen))


@pytest.mark.parametrize(
    "other",
    [
        {"temporal": TemporalConfig(heads=2, regularizer="mask")},
        {"graph": GraphConfig(kind="diagonal")},
        {"stack": "time-then-space"},
        {"time_of_week": True},
    ],
)
def test_a_forecaster_that_is_not_written_in_pytorch_is_refused(other):
    with pytest.raises(ValueError, match="config must be the reference's"):
        torch_forecaster(ForecasterConfig(nodes=5, width=8, **other))
