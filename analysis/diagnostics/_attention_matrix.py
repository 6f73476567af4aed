"""In place of ``sensitivity.attention.attention_matrix`` until that is there."""
# TODO: delete this file, and import from there in `analysis.diagnostics.seen`.

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sensitivity import AttentionWeights, ScoreBias
from sensitivity.attention import attention_weights, project


def attention_matrix(
    x: Float[np.ndarray, "*batch T D"], weights: AttentionWeights, score_bias: ScoreBias
) -> Float[np.ndarray, "*batch H T T"]:
    """Attention weights in float64."""
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        given = jax.tree.map(
            lambda a: jnp.asarray(a, jnp.float64), (x, weights, score_bias)
        )
        return np.asarray(_attention(*given))


@jax.jit
def _attention(x: Array, weights: AttentionWeights, bias: ScoreBias) -> Array:
    q = project(x, weights.query, weights.query_bias)
    k = project(x, weights.key, weights.key_bias)
    return attention_weights(q, k, bias, jnp.arange(x.shape[-2]))[0]
