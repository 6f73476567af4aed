r"""Exact norms of a whole layer of several heads, with no Jacobian formed.

.. math:: J_{ij} = \sum_n \alpha^n_{ij} W^O_n (W^V_n + d^n_{ij} w_i^{n\top})
    + \delta_{ij} \sum_n W^O_n C^n_i W^Q_n / \sqrt{K}, \qquad d^n_{ij} = v^n_j - h^n_i

The heads mix, so the norms of the sum are no sums of norms. Frobenius norms are sums of
squares: with Q_i an orthonormal basis of the row's w^n, the part of a block across Q_i
is a Gram form in the H weights alpha, and the part along it has H columns of O numbers.
Spectral norms come from Lanczos on products with vectors (`sensitivity._lanczos`), to
1e-9. Only differences are squared, so that sharp attention costs no digits, and each
factor, and each row, is in a unit of its own, so that small weights do not vanish. On
the diagonal, T blocks are formed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sensitivity._centres import project_about
from sensitivity._lanczos import top_eigenvalue
from sensitivity._lapack import after
from sensitivity.attention import attention_weights, project
from sensitivity.norms import Norm, PathRows, frobenius, gram, power_of_two, root
from sensitivity.weights import AttentionWeights, ScoreBias


class _Units(NamedTuple):
    """Powers of two that the factors of a layer are divided by."""

    v: Float[Array, ""]
    keys: Float[Array, ""]
    value: Float[Array, ""]  # of the value kernel
    out: Float[Array, ""]


class _Layer(NamedTuple):
    """One sample's projected inputs and what is fixed of its layer."""

    q: Float[Array, "H T K"]
    k: Float[Array, "H T K"]
    v: Float[Array, "H T V"]  # less their mean, over their unit
    keys: Float[Array, "H T K"]  # less their mean, over their unit
    key: Float[Array, "H D K"]  # the kernels
    query: Float[Array, "H D K"]
    value: Float[Array, "H V D"]  # over its unit
    out: Float[Array, "H V O"]  # over its unit; the identity where there is none
    units: _Units


class _Pairs(NamedTuple):
    """What makes the off-diagonal Jacobians of a block of R query rows."""

    # With the layer's factors in their units, a block over the row's unit is
    # sum_n alpha_n out_n^T (share value_n + d_n w_n^T).
    alpha: Float[Array, "R T H"]
    d: Float[Array, "R T H V"]  # v_j - h_i
    w: Float[Array, "R H D"]  # W^K^T q_i / sqrt(K) times the unit of v, over the row's
    share: Float[Array, " R"]  # the unit of the value kernel over the row's


def project_layer(
    x: Float[Array, "T D"], weights: AttentionWeights, centre: Float[Array, "#H D"]
) -> _Layer:
    """Project one sample's inputs."""
    # centre: what values and keys are projected from the difference to.
    H, V = weights.heads, weights.value_width
    if weights.out is None:
        out = jnp.eye(H * V, dtype=x.dtype).reshape(H, V, H * V)
    else:
        out = weights.out
    v = project_about(centre, x, weights.value)
    keys = project_about(centre, x, weights.key)
    value = jnp.moveaxis(weights.value, 0, -1)
    factors = (v, keys, value, out)
    units = _Units(*(power_of_two(jnp.abs(factor).max()) for factor in factors))
    v, keys, value, out = (f / unit for f, unit in zip(factors, units, strict=True))
    return _Layer(
        q=project(x, weights.query, weights.query_bias),
        k=project(x, weights.key, weights.key_bias),
        v=v,
        keys=keys,
        key=jnp.moveaxis(weights.key, 1, 0),
        query=jnp.moveaxis(weights.query, 1, 0),
        value=value,
        out=out,
        units=units,
    )


def layer_rows(
    layer: _Layer,
    score_bias: ScoreBias,
    norm: Norm,
    residual: bool,
    rows: Int[Array, " R"],
) -> PathRows:
    """Path norms of a block of query rows of a layer, given a bias of one sample."""
    T, scale = layer.q.shape[1], layer.q.shape[2] ** -0.5
    q = layer.q[:, rows]
    alpha, _ = attention_weights(q, layer.k, score_bias, rows)
    h = alpha @ layer.v
    units = layer.units
    w = jnp.einsum("hrk,hdk->rhd", q, layer.key) * (scale * units.v)
    unit = power_of_two(jnp.maximum(units.value, jnp.abs(w).max((1, 2))))
    pairs = _Pairs(
        alpha=jnp.moveaxis(alpha, 0, -1),
        d=jnp.einsum("htv->thv", layer.v) - jnp.einsum("hrv->rhv", h)[:, None],
        w=w / unit[:, None, None],
        share=units.value / unit,
    )
    moment = jnp.einsum("hrt,htv,htk->hrvk", alpha, layer.v, layer.keys)
    means = jnp.einsum("hrv,hrk->hrvk", h, alpha @ layer.keys)
    query = jnp.einsum("hvo,hrvk,hdk->rod", layer.out, moment - means, layer.query)
    query *= scale * units.v * units.keys * units.out
    here = jax.tree.map(lambda a: a[jnp.arange(len(rows)), rows], pairs[:2])
    fixed = pairs.share[:, None, None, None] * layer.value
    folded = fixed + here[1][..., None] * pairs.w[:, :, None, :]
    local = jnp.einsum("rh,hvo,rhvd->rod", here[0], layer.out, folded)
    diagonal = query + (units.out * unit)[:, None, None] * local
    if residual:
        diagonal += jnp.eye(diagonal.shape[-1], dtype=diagonal.dtype)

    pair_norms = _spectral_pairs if norm == "spectral" else _frobenius_pairs
    value, key, total = pair_norms(layer, pairs)
    value, key, total = (
        (units.out * unit)[:, None] * table for table in (value, key, total)
    )
    at_step = _block_norms(jnp.stack([query, diagonal]), norm, total)
    same = rows[:, None] == jnp.arange(T)
    return PathRows(
        value=value,
        key=key,
        total=jnp.where(same, at_step[1][:, None], total),
        query=at_step[0],
        diagonal=at_step[1],
        same=same,
    )


def _block_norms(
    blocks: Float[Array, "two R O D"], norm: Norm, earlier: Array
) -> Float[Array, "two R"]:
    if norm == "frobenius":
        return frobenius(blocks)
    matrices, scale = gram(blocks)
    return scale * root(jnp.linalg.eigvalsh(after(matrices, earlier))[..., -1])


def _spectral_pairs(layer: _Layer, pairs: _Pairs) -> tuple[Array, Array, Array]:
    """Spectral norms by path: Lanczos on M^T M with M the block of a pair."""
    H, V, D = layer.value.shape
    out = layer.out.reshape(H * V, -1)
    value = layer.value.reshape(H * V, D)
    alpha, d, w, share = pairs

    def one_path(kept: Float[Array, " 2"]) -> Array:
        fixed = (kept[0] * share)[:, None, None]

        def apply(x: Float[Array, "R T D"]) -> Array:
            gain = kept[1] * jnp.einsum("rtd,rhd->rth", x, w)
            y = (fixed * (x @ value.T)).reshape(d.shape) + d * gain[..., None]
            y = (alpha[..., None] * y).reshape(*x.shape[:2], H * V)
            y = alpha[..., None] * (y @ out @ out.T).reshape(d.shape)
            back = fixed * (y.reshape(*x.shape[:2], H * V) @ value)
            along = kept[1] * jnp.sum(y * d, -1)
            return back + jnp.einsum("rth,rhd->rtd", along, w)

        square = top_eigenvalue(apply, (*alpha.shape[:2], D), alpha.dtype)
        return jnp.sqrt(square)

    paths = jnp.array([[1, 0], [0, 1], [1, 1]], alpha.dtype)
    value_norm, key_norm, total = jax.lax.map(one_path, paths)
    return value_norm, key_norm, total


def _frobenius_pairs(layer: _Layer, pairs: _Pairs) -> tuple[Array, Array, Array]:
    """Frobenius norms by path: sums of squares, in bases that the heads share."""
    H, V, D = layer.value.shape
    alpha, d, w, share = pairs
    folded = jnp.einsum("hvo,hvd->hod", layer.out, layer.value)
    value_map = jnp.linalg.qr(folded.reshape(H, -1).T, mode="r")
    out_map = jnp.linalg.qr(after(layer.out.reshape(H * V, -1).T, value_map), mode="r")
    basis, turned = jnp.linalg.qr(after(w.mT, out_map))  # (R, D, M), (R, M, H)
    across = folded - jnp.einsum("hod,rdm,rem->rhoe", folded, basis, basis)
    across = share[:, None, None] * across.reshape(*across.shape[:2], -1)
    square = jnp.einsum("rth,rhk,rtk->rt", alpha, across @ across.mT, alpha)
    along = jnp.einsum("hvd,rdm->mrhv", layer.value, basis)  # W^V in the basis
    along *= share[:, None, None]

    def column(sums: tuple[Array, Array], part: tuple[Array, Array]) -> tuple:
        key, total = sums
        turned, along = part  # (R, H), (R, H, V)
        moved = d * turned[:, None, :, None]

        def size(y: Array) -> Array:
            y = (alpha[..., None] * y).reshape(*alpha.shape[:2], H * V)
            return jnp.sum((y @ out_map.T) ** 2, -1)

        return (key + size(moved), total + size(moved + along[:, None])), None

    start = (jnp.zeros_like(square), jnp.maximum(square, 0))
    parts = (jnp.moveaxis(turned, 1, 0), along)
    (key, total), _ = jax.lax.scan(column, start, parts)
    value = share[:, None] * jnp.linalg.norm(alpha @ value_map.T, axis=-1)
    return value, jnp.sqrt(key), jnp.sqrt(total)
