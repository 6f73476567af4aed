"""Space-time Jacobians of whole networks against plain ones."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensitivity.network import plan_memory, space_time_norms
from sensitivity.network_estimate import estimate_influence

T, N, C, H, M, F = 4, 3, 2, 3, 2, 2


def network(x):
    """(T, N, C) to (H, M, F), everything mixed."""
    rng = np.random.default_rng(0)
    mix = jnp.asarray(rng.normal(size=(H, M, F, T, N, C)), x.dtype)
    return jnp.tanh(jnp.einsum("hmftnc,tnc->hmf", mix, x**2))


def x():
    return np.random.default_rng(1).normal(size=(T, N, C))


def plain(norm):
    """Norms of the blocks of the whole Jacobian."""
    with jax.enable_x64(True):
        blocks = np.asarray(jax.jacrev(network)(jnp.asarray(x())))
    blocks = np.moveaxis(blocks, 2, 4)  # (H, M, T, N, F, C)
    order = "fro" if norm == "frobenius" else 2
    return np.linalg.norm(blocks, order, axis=(-2, -1))


@pytest.mark.parametrize("norm", ["frobenius", "spectral"])
def test_all_pairs_are_those_of_jacrev(norm):
    found = space_time_norms(network, x(), norm)
    np.testing.assert_allclose(found, plain(norm), rtol=1e-10)


def test_chosen_pairs_are_those_of_all():
    outputs, inputs = [(2, 1), (0, 0)], [(3, 2), (0, 1), (1, 1)]
    found = space_time_norms(network, x(), outputs=outputs, inputs=inputs)
    whole = plain("frobenius")
    expected = [[whole[h, m, t, n] for t, n in inputs] for h, m in outputs]
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert space_time_norms(network, x(), outputs=outputs).shape == (2, T, N)
    assert space_time_norms(network, x(), inputs=inputs).shape == (H, M, 3)


def test_a_small_budget_changes_the_plan_and_no_number():
    at_once, size = plan_memory(network, x())
    assert at_once == H * M
    few, smaller = plan_memory(network, x(), max_memory=size - 1)
    assert few < at_once
    assert smaller < size
    found = space_time_norms(network, x(), max_memory=size - 1)
    np.testing.assert_allclose(found, plain("frobenius"), rtol=1e-10)
    with pytest.raises(ValueError, match=r"max_memory \(10.0 B\) must be at least"):
        space_time_norms(network, x(), max_memory=10)


@pytest.mark.slow
def test_the_estimate_is_within_three_errors_nearly_always():
    exact = (plain("frobenius") ** 2).sum((0, 1))
    by_step = (plain("frobenius") ** 2).sum(1)
    z = []
    for seed in range(20):
        one = estimate_influence(network, x(), probes=200, seed=seed)
        z.append((one.squared[0] - exact) / one.error[0])
        steps = estimate_influence(network, x(), probes=200, seed=seed, by_step=True)
        z.append(((steps.squared - by_step) / steps.error).ravel())
    z = np.concatenate([np.ravel(part) for part in z])
    assert (np.abs(z) < 3).mean() > 0.99
    assert 0.8 < z.std() < 1.2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"x": np.zeros((2, 3))}, r"x must be real numbers of shape \(T, N, C\)"),
        ({"x": np.full((T, N, C), np.nan)}, "x must be finite"),
        ({"norm": "nuclear"}, "norm must be one of"),
        (
            {"outputs": [(H, 0)]},
            r"outputs must lie within 3 steps and 2 nodes.*\(3, 0\)",
        ),
        ({"inputs": [(0, -1)]}, r"inputs must lie within 4 steps .* got \(0, -1\)"),
        ({"outputs": []}, r"outputs must be a list of \(time, node\)"),
        ({"forecast": lambda x: x.sum(0)}, "forecast must return one array of shape"),
        ({"forecast": lambda x: jnp.sqrt(x * 0)}, "must have a finite Jacobian at x"),
        ({"forecast": lambda x: x[:0]}, r"at least one step, node and feature.*\(0,"),
        ({"forecast": lambda x: x[..., :0]}, r"and feature, got shape \(4, 3, 0\)"),
        ({"forecast": lambda x: x.astype(int)}, "floating numbers, which have a Jaco"),
        ({"max_memory": "lots"}, "max_memory must be a positive amount"),
    ],
)
def test_what_cannot_be_is_refused_by_name(arguments, said):
    given: Any = {"forecast": network, "x": x()} | arguments
    with pytest.raises(ValueError, match=said):
        space_time_norms(**given)


def test_one_probe_has_no_error_and_is_refused():
    with pytest.raises(ValueError, match="probes must be at least 2, got 1"):
        estimate_influence(network, x(), probes=1)


@pytest.mark.parametrize("probes", [2.5, 10.0, True, "9"])
def test_a_number_of_probes_that_is_no_integer_is_refused(probes):
    with pytest.raises(ValueError, match="probes must be an integer, got"):
        estimate_influence(network, x(), probes=probes)
