"""End to end: how much every input of a space-time network moves every output.

A forecaster maps (T, N, C) to (T', N', F): C channels at T steps of N nodes to F
features at T' steps of N' nodes. Its Jacobian has a block (F, C) for every pair of an
output (t', n') and an input (t, n); what is asked for here is the norm of each.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sensitivity._network_inputs import Forecast, Places, places_of, prepared
from sensitivity.memory import format_memory, parse_memory, too_little
from sensitivity.norms import Norm, block_norm, check_choice

_AT_ONCE = 32  # outputs; more at once are not faster on a CPU


def space_time_norms(
    forecast: Forecast,
    x: Float[Any, "T N C"],
    norm: Norm = "frobenius",
    outputs: Places | None = None,
    inputs: Places | None = None,
    max_memory: str | int = "2GiB",
) -> Float[np.ndarray, "..."]:
    r"""Exact norms of the blocks of a whole network's Jacobian.

    .. math:: \left\| \frac{\partial y[t', n']}{\partial x[t, n]} \right\|

    A row of the Jacobian is one vector-Jacobian product; rows are computed side by
    side, as many as ``max_memory`` allows, and only their norms are kept.

    Args:
        forecast: Any function of jax from (T, N, C) to (T', N', F).
        x: The input, shape (T, N, C). NumPy float64 is computed in float64, as far as
            ``forecast`` does not round by itself.
        norm: Norm of a block (F, C).
        outputs: Outputs (t', n') to look at, counted from 0; all by default.
        inputs: Inputs (t, n) to look at; all by default.
        max_memory: Budget for work arrays, such as ``"2GiB"``.

    Returns:
        Shape (T', N', T, N); with ``outputs`` their number in place of (T', N'), with
        ``inputs`` theirs in place of (T, N).

    Raises:
        ValueError: If ``x`` or what ``forecast`` returns has another shape, that is
            empty or not of floating numbers, a value is not finite, a place is not
            there, or one output does not fit into the budget: says what it would take.

    Example:
        >>> import numpy as np
        >>> mean = lambda x: x.mean(axis=1, keepdims=True)  # over nodes
        >>> x = np.zeros((2, 4, 1))
        >>> norms = space_time_norms(mean, x)
        >>> norms.shape, norms[1, 0, 1].tolist(), norms[1, 0, 0].tolist()
        ((2, 1, 2, 4), [0.25, 0.25, 0.25, 0.25], [0.0, 0.0, 0.0, 0.0])
    """
    check_choice("norm", norm, Norm)
    with prepared(forecast, x) as (x, shape):
        rows = places_of("outputs", outputs, shape[:2])
        columns = places_of("inputs", inputs, x.shape[:2])
        plan = _plan(forecast, x, shape, rows, columns, norm, parse_memory(max_memory))
        size = plan.at_once
        padded = np.resize(rows, (-(-len(rows) // size) * size, 2))
        parts = [
            np.asarray(plan.run(x, jnp.asarray(padded[start : start + size])))
            for start in range(0, len(padded), size)
        ]
        found = np.concatenate(parts)[: len(rows)]
    if not np.isfinite(found).all():
        raise ValueError("forecast must have a finite Jacobian at x; it has not.")
    left = shape[:2] if outputs is None else (len(rows),)
    right = np.shape(x)[:2] if inputs is None else (len(columns),)
    return found.reshape(*left, *right)


class _Plan(NamedTuple):
    at_once: int  # outputs
    size: int  # bytes of work arrays, as the compiler counts them
    run: Any  # the compiled norms of so many rows


def plan_memory(
    forecast: Forecast,
    x: Float[Any, "T N C"],
    norm: Norm = "frobenius",
    outputs: Places | None = None,
    inputs: Places | None = None,
    max_memory: str | int = "2GiB",
) -> tuple[int, int]:
    """What `space_time_norms` would do with the same arguments, without doing it.

    Args:
        forecast: The network.
        x: The input, shape (T, N, C).
        norm: Norm of a block.
        outputs: Outputs to look at.
        inputs: Inputs to look at.
        max_memory: Budget for work arrays.

    Returns:
        Outputs at once, and bytes of work arrays.

    Raises:
        ValueError: As `space_time_norms`, but no value is looked at.
    """
    check_choice("norm", norm, Norm)
    with prepared(forecast, x) as (x, shape):
        rows = places_of("outputs", outputs, shape[:2])
        columns = places_of("inputs", inputs, x.shape[:2])
        plan = _plan(forecast, x, shape, rows, columns, norm, parse_memory(max_memory))
    return plan.at_once, plan.size


def _plan(
    forecast: Forecast,
    x: Array,
    shape: tuple[int, int, int],
    rows: np.ndarray,
    columns: np.ndarray,
    norm: Norm,
    budget: int,
) -> _Plan:
    """The most rows at once that fit, compiled: the compiler knows what they take."""
    norms = functools.partial(
        _norms_of_rows, forecast, shape, jnp.asarray(columns), norm
    )
    size = min(len(rows), _AT_ONCE)
    while True:
        asked = jax.ShapeDtypeStruct((size, 2), jnp.asarray(rows).dtype)
        compiled = jax.jit(norms).lower(x, asked).compile()
        taken = _bytes(compiled)
        if taken <= budget:
            return _Plan(size, taken, compiled)
        if size == 1:
            what = "one output of this network"
            raise too_little(format_memory(budget), taken, what)
        size = max(1, min(size // 2, size * budget // taken))


def _bytes(compiled: Any) -> int:
    """Work arrays of a compiled function, and its result."""
    found = compiled.memory_analysis()
    if found is None:  # a backend that does not tell
        return 0
    return int(found.temp_size_in_bytes + found.output_size_in_bytes)


def _norms_of_rows(
    forecast: Forecast,
    shape: tuple[int, int, int],
    columns: Int[Array, "B 2"],
    norm: Norm,
    x: Float[Array, "T N C"],
    rows: Int[Array, "R 2"],
) -> Float[Array, "R B"]:
    """Norms of the blocks of some outputs with some inputs."""
    y, pull = jax.vjp(forecast, x)

    def one(row: Array) -> Array:
        def feature(f: Array) -> Array:
            (gradient,) = pull(jnp.zeros_like(y).at[row[0], row[1], f].set(1))
            return gradient[columns[:, 0], columns[:, 1]]  # (B, C)

        blocks = jax.vmap(feature, out_axes=1)(jnp.arange(shape[2]))
        return block_norm(blocks, norm)

    return jax.vmap(one)(rows)
