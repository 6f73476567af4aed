"""Where values and keys are centred, so that a common offset of theirs costs no digits.

No path depends on such an offset, so any centre is right; what is near the steps that a
row attends to keeps their digits. What a row may not attend to must not move it.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from sensitivity.attention import project
from sensitivity.weights import ScoreBias


def centre_of(x: Float[Array, "T D"], score_bias: ScoreBias) -> Float[Array, "#H D"]:
    """A centre for each head of one sample, or one for all of them."""
    # The mean of the steps that every row may attend to, taken as differences to one of
    # them: equal tokens have their own value as centre, to the last digit.
    if not score_bias.forbids:
        return (x[0] + (x - x[0]).mean(0))[None]
    T = x.shape[0]
    _, allowed = score_bias.rows(jnp.arange(T), T, x.dtype)
    allowed = jnp.broadcast_to(allowed, (*allowed.shape[:-1], T))
    allowed = allowed.reshape(-1, *allowed.shape[-2:])
    common = allowed.all(-2)
    common = jnp.where(common.any(-1, keepdims=True), common, allowed.any(-2))
    weight = common.astype(x.dtype)[..., None]
    one = x[jnp.argmax(common, -1)]
    apart = jnp.where(common[..., None], x - one[:, None], jnp.zeros_like(x))
    return one + (weight * apart).sum(1) / weight.sum(1)


def project_about(
    centre: Float[Array, "#H D"], x: Float[Array, "T D"], kernel: Float[Array, "D H K"]
) -> Float[Array, "H T K"]:
    """Projections of x less the centre of each head, without biases."""
    if len(centre) == 1:
        return project(x - centre, kernel, None)
    return jnp.einsum("htd,dhk->htk", x - centre[:, None], kernel)
