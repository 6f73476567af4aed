"""Where values and keys are centred, so that a common offset of theirs costs no digits.

No path depends on such an offset, so any centre is right; what is near the steps that a
row attends to keeps their digits. What a row may not attend to must not move it: the
centre is the mean of steps that every row of a group may attend to. A padding or causal
mask leaves such steps to all rows; under windows, packed documents or a diagonal mask
the rows fall into a few groups (`sensitivity._row_groups`), each with its own centre.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sensitivity.attention import project
from sensitivity.weights import ScoreBias, least_bias


def centre_of(
    x: Float[Array, "T D"],
    score_bias: ScoreBias,
    rows: Int[Array, " R"],
    grouped: bool,
) -> Float[Array, "#H D"]:
    """A centre for each head of one sample, or one for all, for some rows."""
    # grouped: whether the rows surely share a step. Under a transformation of the
    # user's that is not known: medians stand in, which a minority cannot move.
    if score_bias.array is None:
        common = _common_steps(score_bias, rows, len(x), x.dtype)[None]
    elif score_bias.array.ndim < 2 or score_bias.array.shape[-2] == 1:
        common = _common_keys(score_bias, rows, len(x), x.dtype)
    else:
        near = attended(score_bias, rows, len(x), x.dtype)
        near |= ~near.any(-1, keepdims=True)
        common = near.reshape(-1, *near.shape[-2:]).all(-2)
    centre = mean_of(x, common)
    if grouped:
        return centre
    median = jnp.sort(x, axis=0)[len(x) // 2]
    return jnp.where(common.any(-1, keepdims=True), centre, median)


def mean_of(x: Float[Array, "T D"], chosen: Bool[Array, "N T"]) -> Float[Array, "N D"]:
    """Means of some steps."""
    # As differences to one of them: equal tokens have their own value, to the last
    # digit.
    one = x[_first(chosen)]
    apart = jnp.where(chosen[..., None], x - one[:, None], jnp.zeros_like(x))
    return one + apart.sum(1) / jnp.maximum(chosen.sum(-1), 1)[:, None].astype(x.dtype)


def _first(chosen: Bool[Array, "*batch T"]) -> Int[Array, "*batch"]:
    """The first step that is chosen, or the last of all."""
    # jnp.argmax does not lower where float64 is allowed in a part of a program only.
    last = chosen.shape[-1] - 1
    return jnp.where(chosen, jnp.arange(last + 1), last).min(-1)


def attended(
    score_bias: ScoreBias, rows: Int[Array, " R"], T: int, dtype: Any
) -> Bool[Array, "*batch R T"]:
    """Which steps a row may attend to: no bias of theirs alone makes a weight 0."""
    bias, allowed = score_bias.rows(rows, T, dtype)
    bias = jnp.where(allowed, bias, -jnp.inf)
    return bias - bias.max(-1, keepdims=True) > least_bias(dtype)


def centre_of_row(
    x: Float[Array, "T D"], score_bias: ScoreBias, i: Int[Array, ""]
) -> Float[Array, " D"]:
    """A centre for all heads of one row: of steps that they share, or that any has."""
    near = attended(score_bias, i[None], len(x), x.dtype).reshape(-1, len(x))
    shared = near.all(0)
    return mean_of(x, jnp.where(shared.any(), shared, near.any(0))[None])[0]


def _common_steps(
    score_bias: ScoreBias, rows: Int[Array, " R"], T: int, dtype: Any
) -> Bool[Array, " T"]:
    """The steps that all rows may attend to, without a T x T table."""
    steps = jnp.arange(T)
    masked = jnp.asarray(score_bias.diagonal, dtype) <= least_bias(dtype)
    first, last = rows.min(), rows.max()
    others = (steps < first) | (steps > last)
    if score_bias.window is not None:
        near = (steps > last - score_bias.window) & (steps < first + score_bias.window)
        others, masked = others & near, masked | ~near
    if score_bias.causal:  # beside a masked diagonal row 0 has nothing to attend to
        first = jnp.where(masked, jnp.maximum(first, 1), first)
        return (steps <= first) & (others | (steps < first) | ~masked)
    return others | ~masked


def _common_keys(
    score_bias: ScoreBias, rows: Int[Array, " R"], T: int, dtype: Any
) -> Bool[Array, "N T"]:
    """The same under a bias that is one for all rows, in O(N T) numbers."""
    given = jax.lax.stop_gradient(jnp.asarray(score_bias.array, dtype))
    keys = jnp.broadcast_to(given, (*given.shape[:-1], T)).reshape(-1, T)
    own = keys + jnp.asarray(score_bias.diagonal, dtype)  # where i = j
    nothing, least = -jnp.inf, least_bias(dtype)
    steps = jnp.arange(T)[None]
    chosen = jnp.zeros(T, bool).at[rows].set(True)[None]
    # The largest bias of a row: of its other steps, and its own.
    if score_bias.causal:
        others = jax.lax.cummax(keys, axis=1)
        others = jnp.pad(others, ((0, 0), (1, 0)), constant_values=nothing)[:, :-1]
    else:
        others = _largest_but(keys)
    top = jnp.maximum(others, own)
    some = chosen & (top > nothing)  # rows with nothing go with any
    # A step is near all other rows that see it if it is near their largest top, ...
    tops = jnp.where(some, top, nothing)
    near = (keys > nothing) & (keys - _largest_but(tops) > least)
    near &= ~some | (own - top > least)  # ... and its own row
    if score_bias.causal:
        first = jnp.where(some.any(-1), _first(some), T)
        near &= steps <= first[:, None]
    return near | ~some.any(-1, keepdims=True)


def _seen_steps(
    score_bias: ScoreBias, rows: Int[Array, " R"], T: int, dtype: Any
) -> Bool[Array, "N T"] | None:
    """The steps that no -inf keeps from all of the rows; None for all."""
    array = score_bias.array
    if array is None:
        return None
    if array.ndim > 1 and array.shape[-2] > 1:
        return score_bias.rows(rows, T, dtype)[1].any(-2).reshape(-1, T)
    seen = array > -jnp.inf
    return jnp.broadcast_to(seen, (*seen.shape[:-1], T)).reshape(-1, T)


def _largest_but(values: Float[Array, "N T"]) -> Float[Array, "N T"]:
    """At each place the largest of the other places; -inf where there are none."""
    place = _first(values == values.max(-1, keepdims=True))[:, None]
    at_it = jnp.arange(values.shape[-1])[None] == place
    rest = jnp.where(at_it, -jnp.inf, values).max(-1, keepdims=True)
    return jnp.where(at_it, rest, values.max(-1, keepdims=True))


def over_groups(
    function: Callable[[Int[Array, " R"], Float[Array, "#H T D"]], Any],
    x: Float[Array, "T D"],
    score_bias: ScoreBias,
    groups: Int[Array, "G R"] | None,
    axis: int,
) -> Any:
    """Apply a function of R rows and x less their centre; R is an axis of results."""
    # What is kept from all of the rows is put at the centre: else it would be part of
    # units and products, if with no weight.
    T = len(x)

    def group(rows: Int[Array, " R"]) -> Any:
        centre = centre_of(x, score_bias, rows, groups is not None)
        apart = x - jax.lax.stop_gradient(centre)[:, None]
        seen = _seen_steps(score_bias, rows, T, x.dtype)
        if seen is not None:
            apart = jnp.where(seen[..., None], apart, jnp.zeros_like(apart))
        return function(rows, apart)

    if groups is None or len(groups) == 1:
        return group(jnp.arange(T))
    groups = groups.astype(int)  # as positions are, elsewhere
    results = jax.lax.map(group, groups)
    place = jnp.zeros(T, int).at[groups.ravel()].set(jnp.arange(groups.size))

    def in_order(result: Array) -> Array:
        result = jnp.moveaxis(result, 0, axis)
        joined = (*result.shape[:axis], groups.size, *result.shape[axis + 2 :])
        return jnp.take(result.reshape(joined), place, axis=axis)

    return jax.tree.map(in_order, results)


def project_apart(
    apart: Float[Array, "#H T D"], kernel: Float[Array, "D H K"]
) -> Float[Array, "H T K"]:
    """Projections of x less a centre, one for each head or for all, without biases."""
    if len(apart) == 1:
        return project(apart[0], kernel, None)
    return jnp.einsum("htd,dhk->htk", apart, kernel)
