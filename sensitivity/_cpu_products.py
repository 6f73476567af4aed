"""The two products of attention, with derivatives that the CPU computes fast.

A product whose left factor is transposed, of thousands of small matrices, is four times
slower in XLA's CPU code than the same product of a transposed copy. Differentiating
``q k^T`` by k and ``alpha v`` by v asks for just that; here the copy is made.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_jvp
def inner_products(
    q: Float[Array, "*batch R K"], k: Float[Array, "*batch T K"]
) -> Float[Array, "*batch R T"]:
    """All inner products q_i . k_j."""
    return jnp.einsum("...ik,...jk->...ij", q, k)


@inner_products.defjvp
def _inner_products_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (q, k), (dq, dk) = primals, tangents
    by_q = jnp.einsum("...ik,...jk->...ij", dq, k)
    by_k = _turned(jnp.einsum("...jk,...ik->...ji", dk, q))
    return inner_products(q, k), by_q + by_k


@jax.custom_jvp
def weighted_sums(
    alpha: Float[Array, "*batch R T"], v: Float[Array, "*batch T V"]
) -> Float[Array, "*batch R V"]:
    """Sums over j of alpha_ij v_j."""
    return jnp.einsum("...ij,...jv->...iv", alpha, v)


@weighted_sums.defjvp
def _weighted_sums_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (alpha, v), (dalpha, dv) = primals, tangents
    by_alpha = jnp.einsum("...ij,...jv->...iv", dalpha, v)
    by_v = _turned(jnp.einsum("...jv,...ij->...vi", dv, alpha))
    return weighted_sums(alpha, v), by_alpha + by_v


def _turned(matrices: Float[Array, "*batch I J"]) -> Float[Array, "*batch J I"]:
    """A plain transpose, whose own derivative is a transposed copy."""
    # XLA would fold that transpose into the product that follows it. Backwards the
    # barrier, which stands before the transpose here, comes after it.
    return jnp.swapaxes(jax.lax.optimization_barrier(matrices), -1, -2)
