"""What measuring a layer takes in memory, said before anything is computed."""

from collections.abc import Sequence

import jax
import numpy as np

from sensitivity._closed_form import plan_heads, plan_layer
from sensitivity.autodiff import plan_autodiff
from sensitivity.norms import Norm
from sensitivity.weights import AttentionWeights


def work_bytes(
    shape: Sequence[int],
    weights: AttentionWeights,
    *,
    dtype: str = "float64",
    norm: Norm = "spectral",
    levels: Sequence[str] = ("head", "layer"),
    engine: str = "closed_form",
    max_memory: str | int = "1GiB",
) -> int:
    """Bytes of work arrays that `sensitivity.bounds.measure` is estimated to take.

    Args:
        shape: Of the inputs, (..., T, D).
        weights: The layer.
        dtype: What is computed in.
        norm: As for `measure`.
        levels: As for `measure`.
        engine: As for `measure`.
        max_memory: The budget.

    Returns:
        The bytes; the results are not counted.

    Raises:
        ValueError: If not even the smallest block fits the budget.

    Example:
        >>> from sensitivity import AttentionWeights
        >>> kernel = np.zeros((4, 1, 4))
        >>> weights = AttentionWeights(query=kernel, key=kernel, value=kernel)
        >>> work_bytes((8, 4), weights) < work_bytes((16, 4), weights)
        True
    """
    x = jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
    plans = [plan_heads(x, weights, norm, max_memory)]
    if engine == "autodiff":
        plans.append(plan_autodiff(x, weights, "layer" not in levels, max_memory))
    elif weights.heads > 1 and "layer" in levels:
        plans.append(plan_layer(x, weights, norm, max_memory))
    return max(plan.size for plan in plans)
