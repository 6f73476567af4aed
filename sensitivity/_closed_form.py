"""The fast engine: exact path norms streamed under a memory budget, no Jacobian formed.

Blocks of query rows pass one at a time: of one head (`over_heads`, whose equations are
in `sensitivity._head_norms`), or of the whole layer where its heads mix (`over_layer`,
in `sensitivity._mixed_heads`). Both agree with automatic differentiation to 1e-12
relative plus the rounding scale of the layer, and to 1e-9 for the spectral norms of
several mixed heads, which come from Lanczos.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sensitivity._centres import over_groups
from sensitivity._covariances import PRODUCTS, SMALL
from sensitivity._devices import idle_devices, map_shared, program
from sensitivity._float64 import in_float64
from sensitivity._head_norms import HeadRows, rows_of_head
from sensitivity._heads import Head, head_factors, heads_of
from sensitivity._layer_frobenius import exact_rows, summed_rows
from sensitivity._layer_spectral import spectral_rows
from sensitivity._mixed_heads import kernels_of, project_layer, rows_of_layer
from sensitivity._streaming import head_bias, over_rows, over_samples
from sensitivity.memory import Plan, blocks_within
from sensitivity.norms import Norm, PathNorms, PathRows
from sensitivity.weights import AttentionWeights, ScoreBias

# Cells (rows x T) of a block that stay in cache: measured on two cores.
_HEAD_CELLS = {"frobenius": 2**18, "spectral": 2**16}
# Rows below which the products of all T steps are read too often.
_LEAST_ROWS = {"frobenius": 128, "spectral": 16}
_LAYER_CELLS, _LAYER_ROWS = 2**10, 256


def plan_heads(
    x: Float[Array, "*batch T D"] | jax.ShapeDtypeStruct,
    weights: AttentionWeights,
    norm: Norm,
    max_memory: str | int,
) -> Plan:
    """Choose blocks for `over_heads` that are fast and stay within a budget."""
    T, D = x.shape[-2:]
    V = min(weights.value_width, weights.head_output_width)
    K = min(weights.key_width, D)
    products = 2 * min(V * K + V * V + K * K, PRODUCTS)
    projected = 2 * weights.heads * (2 * weights.key_width + V + K + 1)
    fixed = T * (2 * D + projected)
    tables = 10 + (2 * V + 4 if norm == "spectral" else 0)
    small = max(V, K) <= SMALL  # whose blocks are formed: see _head_diagonal
    per_row = tables * T + 6 * (V + K) ** 2 + (4 * V * D if small else 10 * D)
    wanted = max(_HEAD_CELLS[norm] // T, _LEAST_ROWS[norm])
    rows = blocks_within(
        max_memory,
        fixed=(fixed + T * products) * x.dtype.itemsize,
        per_item=per_row * x.dtype.itemsize,
        wanted=min(T, wanted),
        what=f"one query row of one head at T={T}",
    )
    per_head = x.dtype.itemsize * (products * T + per_row * rows)
    fixed *= x.dtype.itemsize
    heads = blocks_within(
        max_memory,
        fixed=fixed,
        per_item=per_head,
        wanted=1 if rows < T else min(weights.heads, max(1, wanted // T)),
        what=f"one head at T={T}",
    )
    # A rest of fewer heads would be a second batched program beside the first, and two
    # of these wait for each other for ever: see sensitivity._lapack.
    heads = max(n for n in range(1, heads + 1) if weights.heads % n == 0)
    return Plan(rows=rows, heads=heads, size=fixed + heads * per_head)


def plan_layer(
    x: Float[Array, "*batch T D"] | jax.ShapeDtypeStruct,
    weights: AttentionWeights,
    norm: Norm,
    max_memory: str | int,
) -> Plan:
    """Choose blocks for `over_layer` that are fast and stay within a budget."""
    # All in float64, whatever the layer's own precision.
    T, D = x.shape[-2:]
    H, K, V = weights.heads, weights.key_width, weights.value_width
    width, item = weights.output_width, 8
    factors = H * (2 * K + V) * D + H * V * width
    fixed = 2 * factors + T * H * (4 * K + 2 * V) + 2 * T * V * K
    per_row = T * 3 * H + 3 * H * V * K + H * (3 * K + 2 * V)
    if norm == "spectral":
        vectors = 8 * max(D, width) + 6 * H * V + 2 * H * width
        per_row += T * (vectors + 2 * (4 * D + 32)) + H * D
        fixed += 2 * H * V * D
        wanted = _LAYER_CELLS // T
    else:
        per_row += 16 * T + H * D
        wanted = _LAYER_ROWS
        if x.dtype.itemsize == item:  # blocks of one row are formed
            fixed += 5 * H * width * D + 4 * T * H * min(H * V, width)
    rows = blocks_within(
        max_memory,
        fixed=fixed * item,
        per_item=per_row * item,
        wanted=min(T, max(wanted, 1)),
        what=f"one query row of the layer at T={T}",
    )
    return Plan(rows=rows, heads=H, size=item * (fixed + per_row * rows))


def over_heads(
    function: Callable[[Head, HeadRows], Any],
    x: Float[Array, "*batch T D"],
    weights: AttentionWeights,
    score_bias: ScoreBias,
    norm: Norm,
    residual: bool,
    plan: Plan,
    for_bounds: bool,
) -> Any:
    """Apply a function of a block of rows of a head to all, (..., H, T) in front."""
    # for_bounds: whether the covariances that only bounds need are measured too.
    H = weights.heads
    factors = head_factors(weights, norm, residual)

    def sample(x: Array, bias: ScoreBias) -> Any:
        def group(rows: Array, apart: Array) -> Any:
            def one_head(numbered: tuple[Array, Head]) -> Any:
                n, head = numbered
                block = rows_of_head(head, head_bias(bias, n), norm, for_bounds)
                return over_rows(lambda i: function(head, block(i)), rows, plan.rows)

            heads = (jnp.arange(H), heads_of(x, weights, factors, apart))
            if plan.heads == H and idle_devices() == 1:
                return jax.vmap(one_head)(heads)
            each = map_shared if idle_devices() <= H else jax.lax.map
            return each(one_head, heads, batch_size=plan.heads)

        return over_groups(group, x, bias, score_bias.row_groups, axis=1)

    return over_samples(sample, x, score_bias)


def over_layer(
    function: Callable[[PathRows], Any],
    x: Float[Array, "*batch T D"],
    weights: AttentionWeights,
    score_bias: ScoreBias,
    norm: Norm,
    residual: bool,
    plan: Plan,
) -> Any:
    """Apply a function of a block of rows of the layer to all, (..., T) in front."""
    if norm == "spectral":
        single = x.dtype != jnp.float64
        norms_of = functools.partial(spectral_rows, single=single)
    else:
        norms_of = exact_rows if x.dtype == jnp.float64 else summed_rows

    def compute(x: Array, weights: AttentionWeights, score_bias: ScoreBias) -> Any:
        kernels, groups = kernels_of(weights), score_bias.row_groups

        def sample(x: Array, bias: ScoreBias) -> Any:
            def group(rows: Array, apart: Array) -> Any:
                layer = project_layer(x, weights, apart)

                def block(rows: Array) -> Any:
                    parts = rows_of_layer(layer, kernels, bias, residual, rows)
                    pairs, at_step = norms_of(layer, kernels, parts)
                    value, key, total = pairs * parts.unit[:, None]
                    query, diagonal = at_step
                    query = query * parts.unit
                    diagonal = diagonal * parts.diagonal_unit
                    same = rows[:, None] == jnp.arange(len(x))
                    total = jnp.where(same, diagonal[:, None], total)
                    return function(PathRows(value, key, total, query, diagonal, same))

                return over_rows(block, rows, plan.rows)

            return over_groups(group, x, bias, groups, axis=0)

        return over_samples(sample, x, score_bias)

    return in_float64(compute, x, weights, score_bias)


def closed_form_path_norms(
    x: Float[Array, "*batch T D"],
    weights: AttentionWeights,
    score_bias: ScoreBias,
    norm: Norm,
    residual: bool,
    per_head: bool,
    max_memory: str | int,
) -> PathNorms:
    """Path norms of every pair of steps, within a budget on top of the result."""
    mixed = not per_head and weights.heads > 1
    plan = (plan_layer if mixed else plan_heads)(x, weights, norm, max_memory)
    return _path_norms(x, weights, score_bias, norm, residual, per_head, plan)


@program(3, 4, 5, 6)
def _path_norms(
    x: Array,
    weights: AttentionWeights,
    score_bias: ScoreBias,
    norm: Norm,
    residual: bool,
    per_head: bool,
    plan: Plan,
) -> PathNorms:
    arguments = (x, weights, score_bias, norm, residual, plan)
    if per_head or weights.heads == 1:
        rows = over_heads(_head_path_rows, *arguments, for_bounds=False)
        if not per_head:
            rows = jax.tree.map(lambda a: jnp.take(a, 0, x.ndim - 2), rows)
    else:
        rows = over_layer(lambda rows: rows, *arguments)
    query = rows.query[..., None] * jnp.eye(x.shape[-2], dtype=x.dtype)
    return PathNorms(rows.value, rows.key, query, rows.total)


def _head_path_rows(head: Head, rows: HeadRows) -> PathRows:
    total = rows.alpha * rows.off_diagonal
    return PathRows(
        value=rows.alpha * head.factors.value_norm,
        key=rows.alpha * rows.spread * rows.gain[:, None],
        total=jnp.where(rows.same, rows.diagonal[:, None], total),
        query=rows.query,
        diagonal=rows.diagonal,
        same=rows.same,
    )
