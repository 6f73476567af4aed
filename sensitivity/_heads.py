r"""Heads of a layer in the coordinates that their norms are taken in.

With :math:`W^O_n` folded into the value side, a head has

.. math:: J_{ij} = \alpha_{ij} (A + u_{ij} w_i^\top)
    + \delta_{ij} C_i W^Q / \sqrt{K}, \qquad A = W^O W^V, \;
    u_{ij} = v_j - h_i, \; w_i = W^{K\top} q_i / \sqrt{K}

and :math:`C_i` the covariance of values and keys under :math:`\alpha_i`. Values are
taken in an orthonormal basis of the head's output (V coordinates at most, however wide
the layer), keys in one of :math:`W^Q`; neither changes a norm. Both are kept in units
of their own: squares then neither overflow nor vanish however small a layer's weights
are. No path depends on a common offset of values or keys, so these are projected from x
less its centre, without biases: a large offset then costs no digits.

Bases are constants to derivatives: what leaves their span when weights change is of
second order in every norm, and in all products of what one basis spans.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float

from sensitivity._centres import project_apart
from sensitivity._lapack import after
from sensitivity.attention import project
from sensitivity.norms import Norm, block_norm, length, power_of_two
from sensitivity.weights import AttentionWeights


class PlainKernels(NamedTuple):
    """The kernels of each head as they are: what only derivatives need."""

    out: Float[Array, "H V0 O"]
    value: Float[Array, "H V0 D"]
    query: Float[Array, "H D K0"]


class Split(NamedTuple):
    """A matrix of V rows, in what the query basis E spans and in what it does not."""

    inside: Float[Array, "H V K"]  # M E
    beside: Any  # M (I - E E^T), shape (H, V, D); None where E spans everything


class HeadFactors(NamedTuple):
    """What is fixed of each head, H in front; V = min(V0, O), K = min(K0, D)."""

    value: Float[Array, "H V D"]  # A = W^O W^V in the output basis
    value_norm: Float[Array, " H"]
    value_split: Split  # A
    output_basis: Float[Array, "H O V"]  # orthonormal columns that span W^O
    output_split: Split | None  # its transpose; None without the residual
    value_map: Float[Array, "H V V0"]  # from values to the output basis
    query_basis: Float[Array, "H D K"]  # E, orthonormal columns that span W^Q^T
    key_map: Float[Array, "H K K0"]  # W^Q^T k = query_basis @ key_map @ k
    key: Float[Array, "H D K0"]  # the key kernel
    row_basis: Float[Array, "H D V"] | None  # spans the rows of A; for spectral norms
    kernels: PlainKernels


class Head(NamedTuple):
    """One head of one sample: projected inputs and its factors, without the axis H."""

    q: Float[Array, "T K0"]
    k: Float[Array, "T K0"]
    v: Float[Array, "T V"]  # in the output basis, less their centre, over value_unit
    keys: Float[Array, "T K"]  # W^Q^T k in its basis, less its centre, over key_unit
    q_size: Float[Array, " T"]  # ||q_m||
    k_size: Float[Array, " T"]  # ||k_m||
    key_size: Float[Array, " T"]  # ||W^Q^T k_m||
    value_unit: Float[Array, ""]  # a power of two near the largest value
    key_unit: Float[Array, ""]  # a power of two near the largest of W^Q^T k
    factors: HeadFactors
    plain_values: Float[Array, "T V0"]  # less their centre; what only derivatives need
    plain_keys: Float[Array, "T K0"]

    @property
    def query_unit(self) -> Float[Array, ""]:
        """What the query path is over the covariance of ``v`` and ``keys``."""
        return self.value_unit * self.key_unit * self.k.shape[-1] ** -0.5


def head_factors(weights: AttentionWeights, norm: Norm, residual: bool) -> HeadFactors:
    """Reduce a layer's weights to what the norms need."""
    value = jnp.moveaxis(weights.value, 0, -1)  # (H, V, D)
    if weights.out is None:
        identity = jnp.eye(weights.value_width, dtype=value.dtype)
        out = jnp.broadcast_to(identity, (weights.heads, *identity.shape))
        basis = value_map = out
    else:
        out = weights.out
        basis, _ = jnp.linalg.qr(stop_gradient(out.mT))
        value_map = basis.mT @ out.mT
    query = jnp.moveaxis(weights.query, 1, 0)
    query_basis, _ = jnp.linalg.qr(after(stop_gradient(query), basis))
    folded, row_basis = value_map @ value, None
    earlier = query_basis
    if norm == "spectral":
        row_basis, _ = jnp.linalg.qr(after(stop_gradient(folded.mT), query_basis))
        earlier = row_basis

    def split(matrix: Float[Array, "H V D"]) -> Split:
        inside = matrix @ query_basis
        if query_basis.shape[1] == query_basis.shape[2]:
            return Split(inside, None)
        return Split(inside, matrix - inside @ query_basis.mT)

    return HeadFactors(
        value=folded,
        value_norm=block_norm(after(folded, earlier), norm),
        value_split=split(folded),
        output_basis=basis,
        output_split=split(basis.mT) if residual else None,
        value_map=value_map,
        query_basis=query_basis,
        key_map=query_basis.mT @ query,
        key=jnp.moveaxis(weights.key, 1, 0),
        row_basis=row_basis,
        kernels=PlainKernels(out, value, query),
    )


def heads_of(
    x: Float[Array, "T D"],
    weights: AttentionWeights,
    factors: HeadFactors,
    apart: Float[Array, "#H T D"],
) -> Head:
    """Project one sample's inputs: all heads, H in front of every array."""
    # apart: x less its centre, which values and keys are projected from.
    k = project(x, weights.key, weights.key_bias)
    plain_values = project_apart(apart, weights.value)
    plain_keys = project_apart(apart, weights.key)
    v = plain_values @ factors.value_map.mT
    keys = plain_keys @ factors.key_map.mT
    value_unit, key_unit = (
        power_of_two(jnp.abs(points).max((1, 2))) for points in (v, keys)
    )
    q = project(x, weights.query, weights.query_bias)
    q_size, k_size = length(jnp.stack([q, k]))
    return Head(
        q=q,
        k=k,
        v=v / value_unit[:, None, None],
        keys=keys / key_unit[:, None, None],
        q_size=q_size,
        k_size=k_size,
        key_size=length(k @ factors.key_map.mT),
        value_unit=value_unit,
        key_unit=key_unit,
        factors=factors,
        plain_values=plain_values,
        plain_keys=plain_keys,
    )


class Rows(NamedTuple):
    """A block of rows of one head: R in front of every array."""

    alpha: Float[Array, "R T"]
    same: Array  # whether i = j, shape (R, T)
    own: Float[Array, " R"]  # alpha_ii
    h: Float[Array, "R V"]  # in units of the values
    u: Float[Array, "R V"]  # v_i - h_i, in their own size
    w: Float[Array, "R D"]
    gain: Float[Array, " R"]  # ||w_i||
    covariance: Float[Array, "R V K"]  # of the head's v and keys under alpha_i
