"""The learning rate of every epoch is the reference's."""

import math

import numpy as np
import pytest

from models.schedule import learning_rate


def test_the_warm_up_is_a_straight_line_from_a_tenth():
    rates = [learning_rate(epoch, 150, peak=2e-4) for epoch in range(6)]
    expected = 2e-4 * np.array([0.1, 0.28, 0.46, 0.64, 0.82, 1.0])
    np.testing.assert_allclose(rates, expected, rtol=1e-12)


def test_the_cosine_falls_from_the_peak_to_the_floor():
    def rate(epoch: int) -> float:
        return learning_rate(epoch, 105, peak=1.0, floor=0.2)

    assert rate(5) == 1.0
    assert math.isclose(rate(55), 0.6)  # half way in time, half way down
    assert math.isclose(rate(30), 0.2 + 0.4 * (1 + math.cos(math.pi / 4)))
    assert math.isclose(rate(105), 0.2)
    assert all(rate(epoch) > rate(epoch + 1) for epoch in range(5, 105))


def test_a_run_shorter_than_the_warm_up_never_gets_to_the_peak():
    rates = [learning_rate(epoch, 3, peak=1.0) for epoch in range(3)]
    np.testing.assert_allclose(rates, [0.1, 0.28, 0.46])


def test_without_a_warm_up_the_peak_comes_first():
    assert learning_rate(0, 10, peak=0.5, warmup=0) == 0.5


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
    actual = [learning_rate(epoch, epochs, peak=2e-4) for epoch in range(epochs)]
    np.testing.assert_allclose(actual, expected, rtol=1e-9)
