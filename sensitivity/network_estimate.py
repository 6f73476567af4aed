"""How much every input of a large network moves its outputs, estimated by probes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sensitivity._network_inputs import Forecast, prepared
from sensitivity.arguments import ArgumentError, check_at_least


class InfluenceEstimate(NamedTuple):
    """Squared influence of each input on groups of outputs, estimated.

    Attributes:
        squared: Estimates, shape (G, T, N); not negative.
        error: Their standard errors, shape (G, T, N).
    """

    squared: Float[np.ndarray, "G T N"]
    error: Float[np.ndarray, "G T N"]


def estimate_influence(
    forecast: Forecast,
    x: Float[Any, "T N C"],
    *,
    probes: int = 256,
    seed: int = 0,
    by_step: bool = False,
) -> InfluenceEstimate:
    r"""Hutchinson's estimate of how much each input moves all outputs together.

    .. math:: \sum_{a \in g} \left\| \frac{\partial y_a}{\partial x[t, n]} \right\|_F^2
        = \mathbb{E}_r \left\| (J^\top r)[t, n] \right\|^2

    with random signs r on the outputs of the group g and zeros elsewhere. A probe costs
    one vector-Jacobian product, however many outputs there are; the standard error of
    the mean over probes falls as one over the root of their number.

    Args:
        forecast: Any function of jax from (T, N, C) to (T', N', F).
        x: The input, shape (T, N, C).
        probes: Number of random vectors for each group.
        seed: Seed of the signs.
        by_step: Whether each output step t' is a group of its own (G = T'), or all
            outputs are one (G = 1).

    Returns:
        The estimates.

    Raises:
        ValueError: If a shape does not fit or a value is not finite.
        ArgumentError: If ``probes`` is no integer or below 2.

    References:
        Hutchinson, A stochastic estimator of the trace, 1990.
    """
    if isinstance(probes, bool) or not isinstance(probes, int | np.integer):
        raise ArgumentError("probes", f"must be an integer, got {probes!r}.")
    check_at_least(2, probes=probes)
    with prepared(forecast, x) as (x, shape):
        steps = np.arange(shape[0])
        groups = np.eye(shape[0]) if by_step else np.ones((1, len(steps)))

        @jax.jit
        def squares(x: Array, group: Array, key: Array) -> Array:
            y, pull = jax.vjp(forecast, x)
            signs = jax.random.rademacher(key, y.shape, y.dtype)
            (gradient,) = pull(signs * group.astype(y.dtype)[:, None, None])
            return (gradient**2).sum(-1)

        sums, sums_of_squares = [], []
        for number, group in enumerate(groups):
            base = jax.random.fold_in(jax.random.key(seed), number)
            total = total_of_squares = 0.0
            for key in jax.random.split(base, probes):
                found = np.asarray(squares(x, jnp.asarray(group), key), np.float64)
                total, total_of_squares = total + found, total_of_squares + found**2
            sums.append(total)
            sums_of_squares.append(total_of_squares)
    mean = np.stack(sums) / probes
    spread = np.stack(sums_of_squares) / probes - mean**2
    error = np.sqrt(np.maximum(spread, 0) / (probes - 1))
    if not np.isfinite(mean).all():
        raise ValueError("forecast must have a finite Jacobian at x; it has not.")
    return InfluenceEstimate(mean, error)
