r"""Exact norms of a whole layer of several heads, with no Jacobian formed.

.. math:: J_{ij} = \sum_n \alpha^n_{ij} W^O_n (W^V_n + d^n_{ij} w_i^{n\top})
    + \delta_{ij} \sum_n W^O_n C^n_i W^Q_n / \sqrt{K}, \qquad d^n_{ij} = v^n_j - h^n_i

The heads mix, so the norms of the sum are no sums of norms. Frobenius norms are sums of
squares: with Q_i an orthonormal basis of the row's w^n, the part of a block across Q_i
is a Gram form in the H weights alpha, and the part along it has H columns of O numbers.
Spectral norms come from Lanczos on products with vectors. Only differences are squared,
so that sharp attention costs no digits. On the diagonal, T blocks are formed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sensitivity.attention import attention_weights, project
from sensitivity.lanczos import top_eigenvalue
from sensitivity.lapack import after
from sensitivity.layer import AttentionWeights, ScoreBias
from sensitivity.norms import Norm, PathRows, frobenius, gram, root


class Layer(NamedTuple):
    """One sample's projected inputs and what is fixed of its layer.

    Attributes:
        q: Queries, shape (H, T, K).
        k: Keys, shape (H, T, K).
        v: Values less their mean, shape (H, T, V).
        keys: Keys less their mean, shape (H, T, K).
        key: The key kernel, shape (H, D, K).
        query: The query kernel, shape (H, D, K).
        value: The value kernel, shape (H, V, D).
        out: The output projection, shape (H, V, O); the identity where there is none.
    """

    q: Float[Array, "H T K"]
    k: Float[Array, "H T K"]
    v: Float[Array, "H T V"]
    keys: Float[Array, "H T K"]
    key: Float[Array, "H D K"]
    query: Float[Array, "H D K"]
    value: Float[Array, "H V D"]
    out: Float[Array, "H V O"]


class Pairs(NamedTuple):
    """What makes the off-diagonal Jacobians of a block of R query rows.

    Attributes:
        alpha: Attention weights, shape (R, T, H).
        d: v_j - h_i, shape (R, T, H, V).
        w: W^K^T q_i / sqrt(K), shape (R, H, D).
    """

    alpha: Float[Array, "R T H"]
    d: Float[Array, "R T H V"]
    w: Float[Array, "R H D"]


def project_layer(x: Float[Array, "T D"], weights: AttentionWeights) -> Layer:
    """Project one sample's inputs.

    Args:
        x: Inputs, shape (T, D).
        weights: The layer.

    Returns:
        What `layer_rows` needs.
    """
    centred = x - x.mean(0)
    H, V = weights.heads, weights.value_width
    if weights.out is None:
        out = jnp.eye(H * V, dtype=x.dtype).reshape(H, V, H * V)
    else:
        out = weights.out
    return Layer(
        q=project(x, weights.query, weights.query_bias),
        k=project(x, weights.key, weights.key_bias),
        v=project(centred, weights.value, None),
        keys=project(centred, weights.key, None),
        key=jnp.moveaxis(weights.key, 1, 0),
        query=jnp.moveaxis(weights.query, 1, 0),
        value=jnp.moveaxis(weights.value, 0, -1),
        out=out,
    )


def layer_rows(
    layer: Layer,
    score_bias: ScoreBias,
    norm: Norm,
    residual: bool,
    rows: Int[Array, " R"],
) -> PathRows:
    """Path norms of a block of query rows of a layer.

    Args:
        layer: One sample's layer.
        score_bias: Its score bias, without batch axes.
        norm: Which norm.
        residual: Whether the identity is added where i = j.
        rows: Positions i of the rows.

    Returns:
        The norms.
    """
    T, scale = layer.q.shape[1], layer.q.shape[2] ** -0.5
    q = layer.q[:, rows]
    alpha, _ = attention_weights(q, layer.k, score_bias, rows)
    h = alpha @ layer.v
    pairs = Pairs(
        alpha=jnp.moveaxis(alpha, 0, -1),
        d=jnp.einsum("htv->thv", layer.v) - jnp.einsum("hrv->rhv", h)[:, None],
        w=jnp.einsum("hrk,hdk->rhd", q, layer.key) * scale,
    )
    moment = jnp.einsum("hrt,htv,htk->hrvk", alpha, layer.v, layer.keys)
    means = jnp.einsum("hrv,hrk->hrvk", h, alpha @ layer.keys)
    query = jnp.einsum(
        "hvo,hrvk,hdk->rod", layer.out, (moment - means) * scale, layer.query
    )
    here = jax.tree.map(lambda a: a[jnp.arange(len(rows)), rows], pairs[:2])
    folded = layer.value + here[1][..., None] * pairs.w[:, :, None, :]
    diagonal = query + jnp.einsum("rh,hvo,rhvd->rod", here[0], layer.out, folded)
    if residual:
        diagonal += jnp.eye(diagonal.shape[-1], dtype=diagonal.dtype)

    pair_norms = _spectral_pairs if norm == "spectral" else _frobenius_pairs
    value, key, total = pair_norms(layer, pairs)
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


def _spectral_pairs(layer: Layer, pairs: Pairs) -> tuple[Array, Array, Array]:
    """Spectral norms by path: Lanczos on M^T M with M the block of a pair."""
    H, V, D = layer.value.shape
    out = layer.out.reshape(H * V, -1)
    value = layer.value.reshape(H * V, D)
    alpha, d, w = pairs

    def one_path(share: Float[Array, " 2"]) -> Array:
        def apply(x: Float[Array, "R T D"]) -> Array:
            gain = share[1] * jnp.einsum("rtd,rhd->rth", x, w)
            y = share[0] * (x @ value.T).reshape(d.shape) + d * gain[..., None]
            y = (alpha[..., None] * y).reshape(*x.shape[:2], H * V)
            y = alpha[..., None] * (y @ out @ out.T).reshape(d.shape)
            back = share[0] * y.reshape(*x.shape[:2], H * V) @ value
            along = share[1] * jnp.sum(y * d, -1)
            return back + jnp.einsum("rth,rhd->rtd", along, w)

        square = top_eigenvalue(apply, (*alpha.shape[:2], D), alpha.dtype)
        return jnp.sqrt(square)

    shares = jnp.array([[1, 0], [0, 1], [1, 1]], alpha.dtype)
    value_norm, key_norm, total = jax.lax.map(one_path, shares)
    return value_norm, key_norm, total


def _frobenius_pairs(layer: Layer, pairs: Pairs) -> tuple[Array, Array, Array]:
    """Frobenius norms by path: sums of squares, in bases that the heads share."""
    H, V, D = layer.value.shape
    alpha, d, w = pairs
    folded = jnp.einsum("hvo,hvd->hod", layer.out, layer.value)
    value_map = jnp.linalg.qr(folded.reshape(H, -1).T, mode="r")
    out_map = jnp.linalg.qr(after(layer.out.reshape(H * V, -1).T, value_map), mode="r")
    basis, share = jnp.linalg.qr(after(w.mT, out_map))  # (R, D, M), (R, M, H)
    across = folded - jnp.einsum("hod,rdm,rem->rhoe", folded, basis, basis)
    across = across.reshape(*across.shape[:2], -1)
    square = jnp.einsum("rth,rhk,rtk->rt", alpha, across @ across.mT, alpha)
    along = jnp.einsum("hvd,rdm->mrhv", layer.value, basis)  # W^V in the basis

    def column(sums: tuple[Array, Array], part: tuple[Array, Array]) -> tuple:
        key, total = sums
        share, along = part  # (R, H), (R, H, V)
        moved = d * share[:, None, :, None]

        def size(y: Array) -> Array:
            y = (alpha[..., None] * y).reshape(*alpha.shape[:2], H * V)
            return jnp.sum((y @ out_map.T) ** 2, -1)

        return (key + size(moved), total + size(moved + along[:, None])), None

    start = (jnp.zeros_like(square), jnp.maximum(square, 0))
    parts = (jnp.moveaxis(share, 1, 0), along)
    (key, total), _ = jax.lax.scan(column, start, parts)
    value = jnp.linalg.norm(alpha @ value_map.T, axis=-1)
    return value, jnp.sqrt(key), jnp.sqrt(total)
