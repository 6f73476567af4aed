r"""A whole layer of several heads: what its rows are made of.

.. math:: J_{ij} = \sum_n \alpha^n_{ij} W^O_n (W^V_n + d^n_{ij} w_i^{n\top})
    + \delta_{ij} \sum_n W^O_n C^n_i W^Q_n / \sqrt{K}, \qquad d^n_{ij} = v^n_j - h^n_i

The heads mix, so the norms of the sum are no sums of norms: they are taken in
`sensitivity._layer_frobenius` and `sensitivity._layer_spectral`. All is computed in
float64, also for a float32 layer: what cancels between heads of very different scale
then costs no digit of float32. Each factor, and each row, is in a unit of its own, so
that small weights do not vanish.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float, Int

from sensitivity._centres import project_apart
from sensitivity.attention import attention_weights, project
from sensitivity.norms import power_of_two
from sensitivity.weights import AttentionWeights, ScoreBias


class Kernels(NamedTuple):
    """The weights of a layer, each over its unit."""

    query: Float[Array, "H K D"]
    key: Float[Array, "H K D"]
    value: Float[Array, "H V D"]
    out: Float[Array, "H V O"]  # the identity where there is none
    units: Float[Array, " 4"]  # powers of two, in that order


class Layer(NamedTuple):
    """One sample's projected inputs."""

    q: Float[Array, "H T K"]
    k: Float[Array, "H T K"]
    v: Float[Array, "H T V"]  # less their centre, over their unit
    keys: Float[Array, "H T K"]  # less their centre, over their unit
    unit_v: Float[Array, ""]
    unit_keys: Float[Array, ""]


class Rows(NamedTuple):
    """What makes the Jacobians of a block of R query rows.

    Over the row's unit, a block off the diagonal is
    sum_n alpha_n out_n^T (share value_n + d_n (key_n^T q_n)^T), and the query path adds
    turn sum_n out_n^T C_n query_n. On the diagonal the unit is larger where there is a
    residual that is.
    """

    alpha: Float[Array, "H R T"]
    moving: Float[Array, "H R"]  # 0 where a row attends to one step alone, else 1
    h: Float[Array, "H R V"]
    q: Float[Array, "H R K"]
    covariance: Float[Array, "H R V K"]  # C_n
    share: Float[Array, " R"]
    turn: Float[Array, " R"]
    unit: Float[Array, " R"]
    diagonal_unit: Float[Array, " R"]
    ratio: Float[Array, " R"]  # of the unit to that of diagonal blocks
    one: Float[Array, " R"]  # the residual's identity over the latter
    here: Int[Array, " R"]  # the rows' positions


def kernels_of(weights: AttentionWeights) -> Kernels:
    """The weights of a layer as its norms need them."""
    H, V = weights.heads, weights.value_width
    out = weights.out
    if out is None:
        out = jnp.eye(H * V, dtype=weights.value.dtype).reshape(H, V, H * V)
    kernels = (weights.query, weights.key, weights.value)
    factors = [*(jnp.moveaxis(kernel, 0, -1) for kernel in kernels), out]
    units = jnp.stack([_unit(a) for a in factors])
    query, key, value, out = (a / u for a, u in zip(factors, units, strict=True))
    return Kernels(query, key, value, out, units)


def project_layer(
    x: Float[Array, "T D"], weights: AttentionWeights, apart: Float[Array, "#H T D"]
) -> Layer:
    """Project one sample's inputs."""
    # apart: x less its centre, which values and keys are projected from.
    v = project_apart(apart, weights.value)
    keys = project_apart(apart, weights.key)
    unit_v, unit_keys = _unit(v), _unit(keys)
    return Layer(
        q=project(x, weights.query, weights.query_bias),
        k=project(x, weights.key, weights.key_bias),
        v=v / unit_v,
        keys=keys / unit_keys,
        unit_v=unit_v,
        unit_keys=unit_keys,
    )


def rows_of_layer(
    layer: Layer,
    kernels: Kernels,
    score_bias: ScoreBias,
    residual: bool,
    rows: Int[Array, " R"],
) -> Rows:
    """What a block of query rows needs, given a bias of one sample."""
    own, scale = layer.q[:, rows], layer.q.shape[-1] ** -0.5
    alpha, _ = attention_weights(own, layer.k, score_bias, rows)
    moving = ((alpha > 0).sum(-1) > 1).astype(alpha.dtype)
    h, mean_key = alpha @ layer.v, alpha @ layer.keys

    def covariance(head: tuple[Array, ...]) -> Array:
        alpha, v, keys, h, mean_key, moving = head
        moment = (v[:, :, None] * keys[:, None]).reshape(len(v), -1)
        moment = (alpha @ moment).reshape(*h.shape, -1)
        return moving[:, None, None] * (moment - h[..., None] * mean_key[:, None])

    parts = (alpha, layer.v, layer.keys, h, mean_key, moving)
    own = own * scale
    size = _unit(own, (0, 2))
    query, key, value, out = kernels.units
    gain = size * key * layer.unit_v
    turn = query * layer.unit_v * layer.unit_keys * scale
    unit = jnp.maximum(value, jnp.maximum(gain, power_of_two(turn)))
    one = jnp.ones_like(unit) / out
    diagonal = jnp.maximum(unit, one) if residual else unit
    return Rows(
        alpha=alpha,
        moving=moving,
        h=h,
        q=own / size[:, None] * (gain / unit)[:, None],
        covariance=jax.lax.map(covariance, parts),
        share=value / unit,
        turn=turn / unit,
        unit=unit * out,
        diagonal_unit=diagonal * out,
        ratio=unit / diagonal,
        one=one / diagonal if residual else jnp.zeros_like(unit),
        here=rows,
    )


def _unit(factor: Array, axes: tuple[int, ...] | None = None) -> Array:
    """A power of two near the largest entry, which is no part of any derivative."""
    return power_of_two(jnp.abs(stop_gradient(factor)).max(axes))
