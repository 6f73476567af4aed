"""Heads of any form, streamed under a memory budget: their norms, and a profile's rows.

All is computed in float64, whatever the layer's precision: squares are differences
here.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sensitivity._devices import program
from sensitivity._float64 import in_float64
from sensitivity._form_heads import FormFactors, FormHead, form_factors, heads_of_form
from sensitivity._form_rows import FormRows, rows_of_form_head
from sensitivity._streaming import head_bias, over_rows, over_samples
from sensitivity.memory import Plan, blocks_within
from sensitivity.norms import Norm, PathNorms
from sensitivity.weights import AttentionWeights, ScoreBias

_CELLS = 2**13  # pairs of a block: their arrays of K and V numbers stay in cache


def plan_form(
    x: Float[Array, "*batch T D"] | jax.ShapeDtypeStruct,
    weights: AttentionWeights,
    norm: Norm,
    max_memory: str | int,
) -> Plan:
    """Choose blocks of rows of one head that are fast and stay within a budget."""
    T, D = x.shape[-2:]
    H, K, V = weights.heads, weights.key_width, weights.value_width
    V = min(V, weights.head_output_width)
    every, item = V + 2 * K, 8
    fixed = H * (2 * every * (D + every) + 2 * V * weights.head_output_width)
    fixed += T * (3 * D + H * (5 * K + 3 * V + 2))
    pairs = 6 * K + 6 * V + 12 + (4 * V + 4 * K if norm == "spectral" else 0)
    per_row = T * pairs + V * (4 * K + 3 * every) + 6 * D
    rows = blocks_within(
        max_memory,
        fixed=fixed * item,
        per_item=per_row * item,
        wanted=min(T, max(_CELLS // T, 4)),
        what=f"one query row of one head at T={T}",
    )
    return Plan(rows=rows, heads=1, size=item * (fixed + per_row * rows))


def over_form_heads(
    function: Callable[[FormHead, FormRows], Any],
    x: Float[Array, "*batch T D"],
    weights: AttentionWeights,
    score_bias: ScoreBias,
    norm: Norm,
    residual: bool,
    plan: Plan,
    for_bounds: bool,
) -> Any:
    """Apply a function of a block of rows of a head to all, (..., H, T) in front."""

    def compute(x: Array, weights: AttentionWeights, score_bias: ScoreBias) -> Any:
        factors = form_factors(weights, residual)
        H, form = weights.heads, weights.form
        assert form is not None

        def sample(x: Array, bias: ScoreBias) -> Any:
            heads = heads_of_form(x, weights, factors)

            def one_head(n: Array) -> Any:
                head, own = (_take(tree, n) for tree in (heads, factors))
                head = head._replace(direction=heads.direction)
                block = rows_of_form_head(
                    head,
                    own,
                    form.of_head(n),
                    head_bias(bias, n),
                    norm,
                    residual,
                    for_bounds,
                )
                rows = jnp.arange(len(x))
                return over_rows(lambda i: function(head, block(i)), rows, plan.rows)

            return jax.lax.map(one_head, jnp.arange(H))

        return over_samples(sample, x, score_bias)

    return in_float64(compute, x, weights, score_bias)


def form_path_norms(
    x: Float[Array, "*batch T D"],
    weights: AttentionWeights,
    score_bias: ScoreBias,
    norm: Norm,
    residual: bool,
    per_head: bool,
    max_memory: str | int,
) -> PathNorms:
    """Path norms of every head, or of a layer of one, within a budget."""
    plan = plan_form(x, weights, norm, max_memory)
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
    def tables(head: FormHead, rows: FormRows) -> PathNorms:
        del head
        zero = jnp.zeros((), rows.alpha.dtype)
        key = jnp.abs(rows.pull) * rows.spread * rows.gain
        query = jnp.where(rows.same, rows.query[:, None], zero)
        return PathNorms(rows.value, key, query, rows.total)

    layer = (x, weights, score_bias, norm, residual, plan)
    found = over_form_heads(tables, *layer, for_bounds=False)
    if per_head:
        return found
    return jax.tree.map(lambda table: jnp.take(table, 0, x.ndim - 2), found)


def _take(tree: FormHead | FormFactors, n: Array) -> Any:
    # The direction has no axis of heads; what it gives is put in its place afterwards.
    return jax.tree.map(lambda a: jnp.take(a, n, 0), tree)
