"""Closed-form Jacobians of attention of any form, a query row at a time.

The slow closed form: blocks exist, and their norms are decompositions of their own. It
is for what the engines of `sensitivity._closed_form` do not know. With the softmax f,
the weights alpha = g f + l, u_j = v_j - sum_m f_im v_m, and N the Jacobian of the norm
of attended values, diag(lambda) (I - h h^T / (V r^2)) / r with r^2 = mean(h^2) +
epsilon, the blocks [i, j] are

======  =======================================================
value   alpha_ij N W^V N'_j
key     g f_ij c_ij N u_j (B_j^T q_i)^T
query   [i = j] g N sum_m f_im c_im u_m k_m^T A_i
======  =======================================================

with c_ij the slope of the score in q_i . k_j (1/sqrt(K), or less under a cap), N'_j the
Jacobian of the norm before the layer at x_j, and A_i = dq_i / dx_i, B_j = dk_j / dx_j:
W^Q and W^K, behind N' and below the norms of queries and keys and their rotation.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sensitivity.attention import attention_weights, normed, placed, project
from sensitivity.autodiff import PathJacobians
from sensitivity.forms import AttentionForm
from sensitivity.weights import AttentionWeights, ScoreBias


def row_of_form(
    x: Float[Array, "T D"],
    sources: Float[Array, "T D"],
    weights: AttentionWeights,
    score_bias: ScoreBias,
    per_head: bool,
    i: Int[Array, ""],
) -> PathJacobians:
    """Jacobians of one row of the layer: value, key (T, O, D), and query (O, D)."""
    del per_head  # heads are layers of their own here
    form, T = weights.form, len(sources)
    assert form is not None
    here, steps = i[None], jnp.arange(T)
    x_i, y = normed(x[i][None], form), normed(sources, form)
    raw_q = project(x_i, weights.query, weights.query_bias)
    raw_k = project(y, weights.key, weights.key_bias)
    v = project(y, weights.value, weights.value_bias)
    q = placed(raw_q, form.query_norm, form.rotary, here)
    k = seen = placed(raw_k, form.key_norm, form.rotary, steps)
    f, _ = attention_weights(q, k, score_bias, here, form)
    alpha = form.weights(f, here)
    gain = 1 if form.gain is None else form.gain[:, None, None]
    apart = v - f @ v
    if form.sink is None and form.cap is None:  # of a common offset of keys is nothing
        k = k - f @ k
    left = _behind(form, (alpha @ v)[:, 0], _outputs(weights))  # (H, V, O)
    slopes = form.score_slopes(q, seen)
    pull = jnp.swapaxes(gain * f * slopes, -1, -2) * apart  # (H, T, V)
    # How scores move with the keys' inputs: back from the row's query to every step.
    back = jnp.broadcast_to(q, k.shape)
    if form.rotary is not None:
        back = form.rotary.back(back, steps)
    if form.key_norm is not None:
        back = form.key_norm.pull(back, raw_k)
    value = jnp.einsum("hj,dhv,hvo->jod", alpha[:, 0], weights.value, left)
    key = jnp.einsum("hjv,hvo,dhk,hjk->jod", pull, left, weights.key, back)
    covariance = jnp.einsum("hjv,hjk->hvk", pull, k)
    if form.rotary is not None:
        covariance = form.rotary.back(covariance[:, :, None], here)[:, :, 0]
    if form.query_norm is not None:
        covariance = form.query_norm.pull(covariance, raw_q)
    query = jnp.einsum("hvk,hvo,dhk->od", covariance, left, weights.query)
    if form.input_norm is not None:
        value, key = (
            form.input_norm.pull(blocks, sources[:, None]) for blocks in (value, key)
        )
        query = form.input_norm.pull(query, x[i][None])
    return PathJacobians(value, key, query)


def _outputs(weights: AttentionWeights) -> Float[Array, "H V O"]:
    """The output projection; without one, what puts heads side by side."""
    if weights.out is not None:
        return weights.out
    H, V = weights.heads, weights.value_width
    return jnp.eye(H * V, dtype=weights.value.dtype).reshape(H, V, H * V)


def _behind(
    form: AttentionForm | None, h: Float[Array, "H V"], out: Float[Array, "H V O"]
) -> Float[Array, "H V O"]:
    """How attended values move the output: through their norm, and projected."""
    if form is None or form.norm_scale is None:
        return out
    V = h.shape[-1]
    square = jnp.mean(h**2, -1)[:, None, None] + form.norm_epsilon
    scaled = form.norm_scale[:, None] * out
    radial = jnp.einsum("hv,hvo->ho", h, scaled)[:, None]
    return (scaled - h[..., None] * radial / (V * square)) * jax.lax.rsqrt(square)
