"""Batched LAPACK calls, never two at once.

On the CPU, jaxlib's batched LAPACK kernels hand their batch to the thread pool they
run on and wait for it. Two of them at once on a pool of two threads wait for ever (seen
with jaxlib 0.10.2). XLA runs at once whatever does not depend on each other, so here
every call either takes all its matrices together or depends on the one before.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def after(
    operand: Float[Array, "*shape"], earlier: Float[Array, "..."]
) -> Float[Array, "*shape"]:
    """The operand unchanged, but not before a finite earlier result is there."""
    # A barrier would not do: the CPU backend drops it.
    zero = jnp.minimum(jnp.abs(earlier.ravel()[0]), 0)
    return operand + zero.astype(operand.dtype)


def eigh_together(
    *matrices: Float[Array, "*batch N N"],
) -> list[tuple[Float[Array, "*batch N"], Float[Array, "*batch N N"]]]:
    """Eigenvalues (ascending) and vectors of semidefinite stacks in one call."""
    # Smaller matrices are padded with a block of negative numbers that sorts first.
    size = max(m.shape[-1] for m in matrices)
    padded = []
    for matrix in matrices:
        n = matrix.shape[-1]
        trace = jnp.trace(matrix, axis1=-2, axis2=-1)
        fill = -jnp.maximum(trace, jnp.finfo(matrix.dtype).tiny)
        corner = jnp.diag(jnp.arange(size) >= n).astype(matrix.dtype)
        pad = [(0, 0)] * (matrix.ndim - 2) + [(0, size - n)] * 2
        padded.append(jnp.pad(matrix, pad) + fill[..., None, None] * corner)
    levels, vectors = jnp.linalg.eigh(jnp.stack(padded))
    return [
        (
            level[..., size - m.shape[-1] :],
            vector[..., : m.shape[-1], size - m.shape[-1] :],
        )
        for m, level, vector in zip(matrices, levels, vectors, strict=True)
    ]
