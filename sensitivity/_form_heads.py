r"""Heads of any form, in what their norms need: no Jacobian of the layer's width.

With :math:`N_j` the Jacobian of the norm before the layer at step j, :math:`r_j` its
direction and :math:`1/s_j` its rate, every product of two maps behind it is a product
without it, less one of rank one:

.. math:: X N_j N_j^\top Y^\top = s_j^{-2} \big( X Y^\top
    - (2 - |r_j|^2)\, (X r_j)(Y r_j)^\top \big)

where the scale of the norm, and its mean, are folded into X and Y. So of the kernels
of a head, and of the vectors that they make of :math:`r_j`, nothing is as wide as the
layer.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float

from sensitivity._lapack import after
from sensitivity.attention import keys_of, normed, placed, project
from sensitivity.forms import AttentionForm
from sensitivity.weights import AttentionWeights


class FormFactors(NamedTuple):
    """What is fixed of each head, H in front; V = min(V0, O)."""

    value: Float[Array, "H V D"]  # A = W^O W^V in the output basis
    query: Float[Array, "H K D"]
    key: Float[Array, "H K D"]
    value_map: Float[Array, "H V V0"]  # from values to the output basis
    output_basis: Float[Array, "H O V"]  # Q, orthonormal columns that span W^O
    query_root: Float[Array, "H E K"]  # of which the Gram matrix is W^Q W^Q^T
    key_root: Float[Array, "H E K"]
    value_key: Float[Array, "H V K"]  # A W^K^T
    value_gram: Float[Array, "H V V"]
    every: Float[Array, "H V+2K D"]  # A, W^Q and W^K
    together: Float[Array, "H E V+2K"]  # a root of the Gram matrix of A, W^Q, W^K
    identity: Float[Array, "H V V+2K"]  # Q^T against these three; 0 without residual


class FormHead(NamedTuple):
    """One head of one sample: projected inputs, without the axis H."""

    direction: Float[Array, "T D"]  # r_j, 0 where nothing is normed: of all heads

    q: Float[Array, "T K"]
    k: Float[Array, "T K"]
    v: Float[Array, "T V"]  # in the output basis
    raw_q: Float[Array, "T K"]  # before their norm and positions
    raw_k: Float[Array, "T K"]
    rate: Float[Array, " T"]  # 1 / s_j
    twice: Float[Array, " T"]  # 2 - |r_j|^2; 0 where nothing is normed
    value_along: Float[Array, "T V"]  # A r_j
    query_along: Float[Array, "T K"]
    key_along: Float[Array, "T K"]
    basis_along: Float[Array, "T V"]  # Q^T r_j


def form_factors(weights: AttentionWeights, residual: bool) -> FormFactors:
    """Reduce a layer's kernels to what the norms need."""
    kernels = [
        _behind_norm(jnp.moveaxis(kernel, 0, -1), weights.form)
        for kernel in (weights.value, weights.query, weights.key)
    ]

    def one_head(parts: tuple[Array, ...]) -> FormFactors:
        folded, query, key, *out = parts
        if out:
            basis, _ = jnp.linalg.qr(stop_gradient(out[0].T))
            value_map = basis.T @ out[0].T
        else:
            basis = value_map = jnp.eye(len(folded), dtype=folded.dtype)
        value = value_map @ folded
        every = jnp.concatenate([value, query, key])
        roots, earlier = [], basis
        for kernel in (query, key, every):
            roots.append(jnp.linalg.qr(after(kernel.T, earlier), mode="r"))
            earlier = roots[-1]
        same = jnp.zeros((len(value), len(every)), value.dtype)
        return FormFactors(
            value=value,
            query=query,
            key=key,
            value_map=value_map,
            output_basis=basis,
            query_root=roots[0],
            key_root=roots[1],
            value_key=value @ key.T,
            value_gram=value @ value.T,
            every=every,
            together=roots[2],
            identity=basis.T @ every.T if residual else same,
        )

    # Head by head: products of stacks are slower on a CPU than all of them in turn.
    given = kernels if weights.out is None else [*kernels, weights.out]
    return jax.lax.map(one_head, tuple(given))


def heads_of_form(
    x: Float[Array, "T D"], weights: AttentionWeights, factors: FormFactors
) -> FormHead:
    """Project one sample's inputs: all heads, H in front of every array."""
    form, T = weights.form, len(x)
    assert form is not None
    steps, y = jnp.arange(T), normed(x, form)
    raw_q = project(y, weights.query, weights.query_bias)
    raw_k = project(y, weights.key, weights.key_bias)
    v = project(y, weights.value, weights.value_bias) @ factors.value_map.mT
    norm, D = form.input_norm, x.shape[-1]
    rate, twice = jnp.ones(T, x.dtype), jnp.zeros(T, x.dtype)
    unit = jnp.zeros_like(x)
    if norm is not None:
        unit, rate = norm.direction(x)
        unit = unit * D**-0.5
        twice = 2 - jnp.sum(unit**2, -1)
    maps = (factors.value, factors.query, factors.key, factors.output_basis.mT)
    if D != factors.output_basis.shape[1]:
        maps = (*maps[:3], jnp.zeros_like(factors.value))  # no residual
    along = [unit @ part.mT for part in maps]
    H = weights.heads
    return FormHead(
        direction=unit,
        q=placed(raw_q, form.query_norm, form.rotary, steps),
        k=keys_of(x, weights),
        v=v,
        raw_q=raw_q,
        raw_k=raw_k,
        rate=jnp.broadcast_to(rate, (H, T)),
        twice=jnp.broadcast_to(twice, (H, T)),
        value_along=along[0],
        query_along=along[1],
        key_along=along[2],
        basis_along=along[3],
    )


def _behind_norm(
    kernel: Float[Array, "H N D"], form: AttentionForm | None
) -> Float[Array, "H N D"]:
    """A kernel with the scale of the norm before it, and without its mean."""
    norm = None if form is None else form.input_norm
    if norm is None:
        return kernel
    if norm.scale is not None:
        kernel = kernel * norm.scale
    return kernel - kernel.mean(-1, keepdims=True) if norm.centred else kernel
