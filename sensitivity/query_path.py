"""The query path on the diagonal, applied to a direction per row."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sensitivity._cpu_products import inner_products, weighted_sums
from sensitivity.attention import (
    attention_weights,
    keys_of,
    project,
    queries_of,
    values_of,
)
from sensitivity.weights import AttentionWeights, ScoreBias


def query_path_times(
    directions: Float[Array, "*batch T D"],
    x: Float[Array, "*batch T D"],
    weights: AttentionWeights,
    score_bias: ScoreBias,
) -> Float[Array, "*batch T O"]:
    r"""How the output of every row moves where its own query's input moves.

    .. math:: J^{query}_{ii} z_i = W^O \sum_m \alpha_{im}
        \Big( s_{im} - \sum_l \alpha_{il} s_{il} \Big) v_m,
        \qquad s_{im} = (W^Q z_i) \cdot k_m / \sqrt{K}

    added up over heads: a row's query moves no other row, so that one pass of about the
    cost of the layer has all rows, for any T and widths. It is smooth in x and weights
    everywhere. With random signs z the mean of its square is
    :math:`\|J^{query}_{ii}\|_F^2`.

    It is a part of a computation of yours: nothing is checked, and arrays of one
    floating dtype are expected, as traced code has them.

    Args:
        directions: The directions z, a row each.
        x: Inputs, shape (..., T, D); leading axes are samples and nodes.
        weights: The layer, of any form.
        score_bias: What is added to the scores.

    Returns:
        The products, shape (..., T, O).

    Example:
        >>> eye = jnp.eye(2)[:, None]
        >>> w = AttentionWeights(query=eye, key=eye, value=eye, out=eye.swapaxes(0, 1))
        >>> x = jnp.ones((3, 2))  # equal tokens: a query has nothing to choose from
        >>> abs(query_path_times(x, x, w, ScoreBias())).round(6).tolist()
        [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]

    References:
        arXiv 2602.10956, Eq. 19; Hutchinson, Commun. Stat. Simul. Comput. 18, 1989
        (random signs).
    """
    form, rows = weights.form, jnp.arange(x.shape[-2])
    if form is None:
        q = project(x, weights.query, weights.query_bias)
        moving = project(directions, weights.query, None) * weights.key_width**-0.5
    else:

        def queries(x: Array) -> Array:
            return queries_of(x, weights, rows)

        q, moving = jax.jvp(queries, (x,), (directions,))
    k, v = keys_of(x, weights), values_of(x, weights)
    alpha, _ = attention_weights(q, k, score_bias, rows, form)
    # Like the softmax in float32 at least: what all keys share cancels here, which
    # weights in bfloat16, whose sum is not 1, leave in.
    slope = inner_products(moving, k).astype(alpha.dtype)
    if form is not None:
        slope = slope * form.score_slopes(q, k).astype(alpha.dtype)
    moved = alpha * (slope - (alpha * slope).sum(-1, keepdims=True))
    alpha, moved = alpha.astype(v.dtype), moved.astype(v.dtype)
    if form is not None and form.gain is not None:
        moved = moved * form.gain[:, None, None]
    h = weighted_sums(moved, v)
    if form is not None:
        at = weighted_sums(form.weights(alpha, rows), v)
        h = jax.jvp(form.normed, (at,), (h,))[1]
    if weights.out is None:
        return jnp.moveaxis(h, -3, -2).reshape(*x.shape[:-1], -1)
    return jnp.einsum("...hiv,hvo->...io", h, weights.out)
