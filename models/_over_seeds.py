"""Seeds as an axis: a function of one model applied to many, at once or in turn."""

from collections.abc import Callable
from typing import Any

import jax


def over_seeds(function: Callable, state: Any, at_once: int | None = None) -> Any:
    """Apply a function of one seed to all seeds, under jit.

    Args:
        function: Takes and returns arrays of one seed.
        state: Arrays with the seeds in front.
        at_once: Seeds side by side; by default all on an accelerator, and one after
            another on a CPU, where that is faster.

    Returns:
        What the function returns, with the seeds in front.

    Example:
        >>> import jax.numpy as jnp
        >>> over_seeds(lambda x: 2 * x, jnp.arange(3), at_once=2).tolist()
        [0, 2, 4]
    """
    seeds = len(jax.tree.leaves(state)[0])
    if at_once is None:
        at_once = 1 if jax.default_backend() == "cpu" else seeds
    if at_once >= seeds > 1:
        return jax.vmap(function)(state)
    return jax.lax.map(function, state, batch_size=at_once if at_once > 1 else None)
