"""Exact path Jacobians by automatic differentiation, streamed by query row.

The reference: no derivative is written by hand. It is one
``jax.jacrev(..., argnums=(0, 1, 2))`` per query row. Row i of a layer depends on
``x[i]`` through its query and on all of x through keys and values, so its Jacobian
costs O(O T D) numbers, and T rows cost T^2 work where the whole layer's would cost T^3.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from sensitivity._centres import centre_of_row
from sensitivity._devices import program
from sensitivity._inputs import run
from sensitivity._streaming import head_bias, over_rows, over_samples
from sensitivity.attention import attend_rows
from sensitivity.memory import Plan, blocks_within, saying_what_fits
from sensitivity.norms import Norm, PathNorms, frobenius
from sensitivity.weights import AttentionWeights, ScoreBias


class PathJacobians(NamedTuple):
    """What a change of ``x[j]`` does to output i, by the path it takes.

    Every field has shape (..., T, T, O, D), or (..., H, T, T, O, D) per head; entry
    ``[i, j]`` is the O x D block of ``d o[i] / d x[j]`` along that path.

    Attributes:
        value: Through the values, attention weights held fixed.
        key: Through the scores, by way of the key of step j.
        query: Through the scores, by way of the query of step i; zero unless i = j.
    """

    value: Float[Array, "*batch T T O D"]
    key: Float[Array, "*batch T T O D"]
    query: Float[Array, "*batch T T O D"]

    @property
    def total(self) -> Float[Array, "*batch T T O D"]:
        """The Jacobian of the layer: the sum of the three paths."""
        return self.value + self.key + self.query


def path_jacobians(
    x: Float[ArrayLike, "*batch T D"],
    weights: AttentionWeights,
    *,
    score_bias: ScoreBias | None = None,
    per_head: bool = False,
    max_memory: str | int = "4GiB",
) -> PathJacobians:
    r"""Exact Jacobians of a layer by its three inputs, by automatic differentiation.

    With :math:`f(x_q, x_k, x_v)` the layer as a function of the inputs of its three
    projections, the paths are its partial Jacobians at :math:`x_q = x_k = x_v = x`:

    .. math:: J^{query} = \partial f / \partial x_q, \quad
        J^{key} = \partial f / \partial x_k, \quad J^{value} = \partial f / \partial x_v

    Args:
        x: Inputs, shape (..., T, D).
        weights: The layer.
        score_bias: What is added to the scores; nothing by default.
        per_head: Whether to return each head by itself, its block of ``out`` folded in.
        max_memory: Budget for the result, which takes 3 T^2 O D numbers.

    Returns:
        The three path Jacobians.

    Raises:
        ValueError: If the inputs do not fit (see `sensitivity.profile`) or the result
            does not fit ``max_memory``.

    Example:
        >>> import numpy as np
        >>> w = np.zeros((2, 1, 2))
        >>> w = AttentionWeights(query=w, key=w, value=np.eye(2)[:, None])
        >>> paths = path_jacobians(np.eye(2), w)
        >>> paths.value[1, 0].tolist()  # uniform attention: half of W^V
        [[0.5, 0.0], [0.0, 0.5]]

    References:
        arXiv 2602.10956, Eq. 1-4 and 9-22.
    """

    def compute(x: Array, weights: AttentionWeights, bias: ScoreBias) -> PathJacobians:
        outputs = (
            weights.heads * weights.head_output_width
            if per_head
            else weights.output_width
        )

        def plan(x: Any) -> None:
            size, T = math.prod(x.shape), x.shape[-2]
            blocks_within(
                max_memory,
                fixed=6 * size * T * outputs * x.dtype.itemsize,
                per_item=_row_bytes(x, weights, outputs, weights.heads),
                wanted=1,
                what=f"the Jacobians of {T} x {T} blocks; path_norms streams and needs "
                "far less",
            )

        with saying_what_fits(x, plan):
            plan(x)
        return _path_jacobians(x, weights, bias, per_head)

    return run(compute, x, weights, score_bias, words="Jacobians", forms=True)


def block_path_norms(
    row_of: Callable[..., PathJacobians],
    x: Float[Array, "*batch T D"],
    weights: AttentionWeights,
    score_bias: ScoreBias,
    norm: Norm,
    residual: bool,
    per_head: bool,
    max_memory: str | int,
) -> PathNorms:
    """Path norms from Jacobians that exist one block of rows at a time."""
    # row_of: what gives the blocks of a row, `row_of_layer` or another like it.
    plan = plan_autodiff(x, weights, per_head, max_memory)
    layer = (x, weights, score_bias, norm, residual, per_head)
    return _path_norms(*layer, plan.rows, row_of)


def plan_autodiff(
    x: Float[Array, "*batch T D"] | jax.ShapeDtypeStruct,
    weights: AttentionWeights,
    per_head: bool,
    max_memory: str | int,
) -> Plan:
    """Choose how many rows of Jacobians exist at once within a budget."""
    outputs = weights.head_output_width if per_head else weights.output_width
    per_row = _row_bytes(x, weights, outputs, 1 if per_head else weights.heads)
    rows = blocks_within(
        max_memory,
        fixed=0,
        per_item=per_row,
        wanted=min(x.shape[-2], 16),
        what="one row of Jacobians",
    )
    return Plan(rows=rows, heads=weights.heads, size=rows * per_row)


def row_of_layer(
    x: Float[Array, "T D"],
    sources: Float[Array, "T D"],
    weights: AttentionWeights,
    score_bias: ScoreBias,
    per_head: bool,
    i: Int[Array, ""],
) -> PathJacobians:
    """Jacobians of one row: value, key ([H,] T, O, D), and query ([H,] O, D)."""
    # ``sources`` are the inputs of keys and values: x, or x less a common offset.

    def output(x_q: Array, x_k: Array, x_v: Array) -> Array:
        rows = attend_rows(x_q[None], x_k, x_v, weights, score_bias, i[None], per_head)
        return rows[..., 0, :]

    query, key, value = jax.jacrev(output, argnums=(0, 1, 2))(x[i], sources, sources)
    return PathJacobians(jnp.moveaxis(value, -2, -3), jnp.moveaxis(key, -2, -3), query)


def _row_bytes(x: Any, weights: AttentionWeights, outputs: int, heads: int) -> int:
    """Bytes one row takes: two paths, their cotangents, the sum and its norm."""
    T, D = x.shape[-2:]
    through_heads = heads * (weights.key_width + weights.value_width + 4)
    return x.dtype.itemsize * outputs * T * (5 * D + through_heads)


@program(3)
def _path_jacobians(
    x: Array, weights: AttentionWeights, score_bias: ScoreBias, per_head: bool
) -> PathJacobians:
    T = x.shape[-2]

    def sample(x: Array, bias: ScoreBias) -> PathJacobians:
        rows = jax.vmap(functools.partial(row_of_layer, x, x, weights, bias, per_head))
        value, key, query = over_rows(rows, jnp.arange(T), min(T, 16))
        same = jnp.eye(T, dtype=x.dtype)[..., None, None]
        if per_head:
            same = same[:, None]
        paths = PathJacobians(value, key, same * query[..., None, :, :])
        return jax.tree.map(lambda p: jnp.moveaxis(p, 0, -4), paths)

    return over_samples(sample, x, score_bias)


@program(3, 4, 5, 6, 7)
def _path_norms(
    x: Array,
    weights: AttentionWeights,
    score_bias: ScoreBias,
    norm: Norm,
    residual: bool,
    per_head: bool,
    block: int,
    row_of: Callable[..., PathJacobians],
) -> PathNorms:
    T, D = x.shape[-2:]
    # A common offset of keys, or of values, changes no path of plain attention: without
    # it a large one costs no digits, here as in the closed form.
    free, plain = dataclasses.replace(weights, out_bias=None), weights.form is None
    if plain:
        free = dataclasses.replace(free, key_bias=None, value_bias=None)

    def table(x: Array, weights: AttentionWeights, bias: ScoreBias) -> PathNorms:
        def row(i: Array) -> PathNorms:
            centre = jax.lax.stop_gradient(centre_of_row(x, bias, i))
            sources = x - centre if plain else x
            value, key, query = row_of(x, sources, weights, bias, False, i)
            here = query + jnp.eye(D, dtype=x.dtype) if residual else query
            total = (value + key).at[i].add(here)
            # One call: see sensitivity._lapack.
            norms = _norms(jnp.concatenate([value, key, total, query[None]]), norm)
            value, key, total = jnp.split(norms[:-1], 3)
            zeros = jnp.zeros_like(value)
            return PathNorms(value, key, zeros.at[i].set(norms[-1]), total)

        return over_rows(jax.vmap(row), jnp.arange(T), block)

    def sample(x: Array, bias: ScoreBias) -> PathNorms:
        if not per_head:
            return table(x, free, bias)
        each = jnp.arange(weights.heads)
        return jax.lax.map(
            lambda n: table(x, _one_head(free, n), head_bias(bias, n)), each
        )

    return over_samples(sample, x, score_bias)


def _one_head(weights: AttentionWeights, n: Int[Array, ""]) -> AttentionWeights:
    """A head as a layer of its own, without the bias of outputs."""

    def own(array: Any, axis: int) -> Any:
        return None if array is None else jnp.take(array, n[None], axis)

    def all_of(source: Any, names: tuple[str, ...], axis: int) -> dict[str, Any]:
        return {name: own(getattr(source, name), axis) for name in names}

    form = None if weights.form is None else weights.form.of_head(n)
    kernels = all_of(weights, ("query", "key", "value"), 1)
    rest = all_of(weights, ("out", "query_bias", "key_bias", "value_bias"), 0)
    return AttentionWeights(**kernels, **rest, form=form)


def _norms(blocks: Float[Array, "N O D"], norm: Norm) -> Float[Array, " N"]:
    """Norms of blocks, by decompositions of their own."""
    if norm == "spectral":
        return jnp.linalg.svd(blocks, compute_uv=False)[..., 0]
    return frobenius(blocks)
