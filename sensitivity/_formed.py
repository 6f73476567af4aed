"""Closed-form Jacobians of attention of any form, a query row at a time.

The slow closed form: blocks exist, and their norms are decompositions of their own. It
is for what the engines of `sensitivity._closed_form` do not know. With the softmax f,
the weights alpha = g f + l, u_j = v_j - sum_m f_im v_m, and N the Jacobian of the norm
of attended values, diag(lambda) (I - h h^T / (V r^2)) / r with r^2 = mean(h^2) +
epsilon, the blocks [i, j] are

======  =======================================================
value   alpha_ij N W^V
key     g f_ij N u_j (W^K^T q_i)^T / sqrt(K)
query   [i = j] g N sum_m f_im u_m k_m^T W^Q / sqrt(K)
======  =======================================================
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sensitivity.attention import attention_weights, project
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
    form = weights.form
    q = project(x[i][None], weights.query, weights.query_bias)
    k = project(sources, weights.key, weights.key_bias)
    v = project(sources, weights.value, weights.value_bias)
    sink = None if form is None else form.sink
    f, _ = attention_weights(q, k, score_bias, i[None], sink)
    alpha = f if form is None else form.weights(f, i[None])
    gain = 1 if form is None or form.gain is None else form.gain[:, None, None]
    apart = v - f @ v
    if sink is None:  # rows add up to 1: a common offset of keys is nothing
        k = k - f @ k
    scale = weights.key_width**-0.5
    left = _behind(form, (alpha @ v)[:, 0], _outputs(weights))  # (H, V, O)
    slopes = jnp.einsum("dhk,hk->hd", weights.key, q[:, 0]) * scale
    pull = jnp.swapaxes(gain * f, -1, -2) * apart  # (H, T, V)
    value = jnp.einsum("hj,dhv,hvo->jod", alpha[:, 0], weights.value, left)
    key = jnp.einsum("hjv,hvo,hd->jod", pull, left, slopes)
    covariance = jnp.einsum("hjv,hjk->hvk", pull, k) * scale
    query = jnp.einsum("hvk,hvo,dhk->od", covariance, left, weights.query)
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
