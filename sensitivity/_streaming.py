"""Streams over samples and over blocks of query rows: memory stays bounded."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sensitivity._devices import idle_devices, map_shared
from sensitivity.weights import ScoreBias


def over_samples(
    function: Callable[[Array, ScoreBias], Any],
    x: Float[Array, "*batch T D"],
    score_bias: ScoreBias,
    at_once: int = 1,
) -> Any:
    """Apply a function of one sample (T, D) to every one, its axes put in front."""
    batch = x.shape[:-2]
    if not batch:
        return function(x, score_bias)
    flat = x.reshape(-1, *x.shape[-2:])
    array = score_bias.array
    if array is None or math.prod(array.shape[:-3]) == 1:
        shared = score_bias
        if array is not None:
            shared = score_bias.with_array(array.reshape(array.shape[-3:]))
        results = map_shared(lambda s: function(s, shared), flat, at_once)
    else:
        arrays = jnp.broadcast_to(array, (*batch, *array.shape[-3:]))
        arrays = arrays.reshape(-1, *array.shape[-3:])
        results = map_shared(
            lambda pair: function(pair[0], score_bias.with_array(pair[1])),
            (flat, arrays),
            at_once,
        )
    return jax.tree.map(lambda r: r.reshape(*batch, *r.shape[1:]), results)


def over_rows(
    function: Callable[[Int[Array, " R"]], Any], rows: Int[Array, " N"], block: int
) -> Any:
    """Apply a function of row positions to N rows, ``block`` of them at once."""
    N, devices = len(rows), idle_devices()
    blocks = math.ceil(math.ceil(N / block) / devices) * devices
    size = math.ceil(N / blocks)  # blocks of equal size, the last one padded
    if blocks == 1:
        return function(rows)
    padded = rows[jnp.minimum(jnp.arange(blocks * size), N - 1)]
    results = map_shared(function, padded.reshape(blocks, size))
    return jax.tree.map(lambda r: r.reshape(-1, *r.shape[2:])[:N], results)


def head_bias(score_bias: ScoreBias, head: Int[Array, ""]) -> ScoreBias:
    """The bias of one head: no batch axes, and its array without the axis of heads."""
    array, slopes = score_bias.array, score_bias.slopes
    if slopes is not None and slopes.ndim:
        slopes = slopes[0] if len(slopes) == 1 else slopes[head]
        score_bias = dataclasses.replace(score_bias, slopes=slopes)
    if array is None or array.ndim < 3:
        return score_bias
    return score_bias.with_array(array[0] if array.shape[0] == 1 else array[head])
