r"""Frobenius norms of a layer whose heads mix: sums of squares over pairs of heads.

With P_nm = W^O_n W^O_m^T, A_n = W^O_n W^V_n (as products of matrices of every head n),
u = alpha^n alpha^m and w^n_i = W^K_n^T q^n_i / sqrt(K), a sum over n and m each:

.. math::
    \|value\|^2 = u \langle A_n, A_m \rangle, \quad
    \|key\|^2 = u\, (d^n P_{nm} d^m)(w^n \cdot w^m), \quad
    \langle value, key \rangle = u\, d^n \cdot P_{nm} W^V_m w^n, \quad
    \|query\|^2 = \langle P_{nm} C_m, C_n W^Q_n W^{Q\top}_m \rangle.

They cost products of (T, V) arrays and lose half the digits where terms cancel: in
float64 that is still less than the rounding of a float32 layer. For a float64 layer
they give the derivatives, and the norms too where they keep their digits; where they do
not, and for layers so small that this costs as little, blocks of one row are formed.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from sensitivity._lapack import after
from sensitivity._mixed_heads import Kernels, Layer, Rows
from sensitivity.norms import differentiated_by, frobenius, root

Tables = tuple[Float[Array, "3 R T"], Float[Array, "2 R"]]

_SMALL = 2**9  # H V O up to which blocks are formed as fast
_SAFE = 64  # at that share of what is added up, a norm has twelve digits still


def _squares_of(norms: Tables, layer: Layer, kernels: Kernels, rows: Rows) -> Tables:
    del norms
    return _squares(layer, kernels, rows, formed=True)


@differentiated_by(_squares_of)
def summed_rows(layer: Layer, kernels: Kernels, rows: Rows) -> Tables:
    """Norms by value, key and both of all pairs; of the query path and the diagonal."""
    pairs, steps = _squares(layer, kernels, rows, by_steps=True)
    return root(pairs), root(steps)


@differentiated_by(_squares_of)
def exact_rows(layer: Layer, kernels: Kernels, rows: Rows) -> Tables:
    """The same to the last digits of float64."""
    H, V, width = kernels.out.shape
    if H * V * width <= _SMALL:
        return _formed_pairs(layer, kernels, rows), _formed_steps(layer, kernels, rows)
    squares = _squares(layer, kernels, rows)
    pairs, steps = (root(square) for square in squares)
    safe = _are_safe(pairs, steps, layer, kernels, rows)
    return (
        jax.lax.cond(safe[0], lambda *_: pairs, _formed_pairs, layer, kernels, rows),
        jax.lax.cond(safe[1], lambda *_: steps, _formed_steps, layer, kernels, rows),
    )


def _are_safe(
    pairs: Array, steps: Array, layer: Layer, kernels: Kernels, rows: Rows
) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
    """Whether no norm is far below the sizes of what was added up for its square."""
    alpha, at, R = rows.alpha, rows.here, len(rows.here)

    def widest(matrices: Float[Array, "H A B"]) -> Float[Array, " H"]:
        """Bounds of spectral norms: 16th roots of the traces of (M M^T)^8."""
        for _ in range(2):
            matrices = matrices @ matrices.mT
        return jnp.sum((matrices @ matrices) ** 2, (1, 2)) ** 0.0625

    def lengths(vectors: Float[Array, "*axes N"]) -> Float[Array, "*axes"]:
        return jnp.sqrt(jnp.sum(vectors**2, -1))

    out, H = widest(kernels.out), len(kernels.out)
    value = out * lengths(kernels.value.reshape(H, -1))
    value = jnp.einsum("hrt,h->rt", alpha, value) * rows.share[:, None]
    w = widest(kernels.key)[:, None] * lengths(rows.q) * rows.moving
    apart = lengths(rows.h)[:, :, None] + lengths(layer.v)[:, None]
    key = jnp.einsum("h,hrt,hr,hrt->rt", out, alpha, w, apart)
    added = jnp.stack([value, key, value + key])
    covariance = jnp.sqrt(jnp.sum(rows.covariance**2, (2, 3)))
    query = rows.turn * ((out * widest(kernels.query)) @ covariance)
    own = rows.ratio * (added[2][jnp.arange(R), at] + query)
    own += rows.one * kernels.value.shape[-1] ** 0.5
    return (
        jnp.all(_SAFE * pairs >= added),
        jnp.all(_SAFE * steps >= jnp.stack([query, own])),
    )


def _squares(
    layer: Layer,
    kernels: Kernels,
    rows: Rows,
    by_steps: bool = False,
    formed: bool = False,
) -> Tables:
    """Squares by value, key and both of all pairs; of query path and diagonal."""
    # by_steps: whether those of the query path may come from products of (T, T) arrays,
    # where these are smaller than covariances; they lose half of their digits too.
    # formed: whether the differences d are, so that v_j close to h_i costs no digits.
    H, V, D = kernels.value.shape
    K = kernels.key.shape[1]
    R, T = rows.alpha.shape[1:]
    alpha, moving, h, q = rows.alpha, rows.moving, rows.h, rows.q
    at = rows.here
    own = alpha[:, jnp.arange(R), at]  # (H, R)
    own_apart = moving[..., None] * (layer.v[:, at] - h)
    turn = rows.turn[:, None, None]
    first, second = jnp.triu_indices(H)

    def one_pair(sums: tuple, pair: tuple[Array, Array]) -> tuple[tuple, None]:
        n, m = pair
        pairs, query = sums
        twice = jnp.where(n == m, 1.0, 2.0)
        mixed = kernels.out[n] @ kernels.out[m].T
        both = alpha[n] * alpha[m]
        gram = jnp.sum(mixed * (kernels.value[n] @ kernels.value[m].T))
        value = twice * gram * rows.share[:, None] ** 2 * both
        # d^n P d^m of all pairs.
        steps, means = layer.v[n] @ mixed, h[n] @ mixed
        if formed:
            apart_n, apart_m = (layer.v[k] - h[k][:, None] for k in (n, m))
            near = jnp.sum((apart_n @ mixed) * apart_m, -1)
        else:
            near = jnp.sum(steps * layer.v[m], -1) - means @ layer.v[m].T
            near += jnp.sum(means * h[m], -1)[:, None] - h[m] @ steps.T
        along = jnp.sum((q[n] @ (kernels.key[n] @ kernels.key[m].T)) * q[m], -1)
        along *= twice * moving[n] * moving[m]
        key = along[:, None] * both * near

        def cross_of(n: Array, m: Array, mixed: Array) -> Array:
            w = q[n] @ (kernels.key[n] @ kernels.value[m].T) @ mixed.T
            w *= (rows.share * moving[n] * twice / 2)[:, None]
            if formed:
                return jnp.einsum("rtv,rv->rt", layer.v[n] - h[n][:, None], w)
            return w @ layer.v[n].T - jnp.sum(w * h[n], -1)[:, None]

        cross = both * (cross_of(n, m, mixed) + cross_of(m, n, mixed.T))
        pairs = pairs + jnp.stack([value, key, cross])
        turned = kernels.query[n] @ kernels.query[m].T
        if by_steps:
            keys = layer.keys[n] @ turned
            joint = (steps @ layer.v[m].T) * (keys @ layer.keys[m].T)
            mean_n, mean_m = alpha[n] @ layer.keys[n], alpha[m] @ layer.keys[m]
            v_m, k_m = h[m] @ steps.T, mean_m @ keys.T
            v_n, k_n = means @ layer.v[m].T, (mean_n @ turned) @ layer.keys[m].T
            size = jnp.sum((alpha[n] @ joint) * alpha[m], -1)
            size -= jnp.sum(alpha[n] * v_m * k_m + alpha[m] * v_n * k_n, -1)
            size += jnp.sum(alpha[m] * v_n, -1) * jnp.sum(alpha[m] * k_n, -1)
            size *= moving[n] * moving[m]
        else:
            left = jnp.einsum("vu,ruk->rvk", mixed, rows.covariance[m])
            right = rows.covariance[n] @ turned
            size = jnp.sum(left * right, (1, 2))
        return (pairs, query + twice * size * rows.turn**2), None

    by_steps &= H * T**2 < V * K * (2 * T + H * (V + K))
    start = (jnp.zeros((3, R, T)), jnp.zeros(R))
    (pairs, query), _ = jax.lax.scan(jax.checkpoint(one_pair), start, (first, second))

    def one_head(sums: Array, m: Array) -> tuple[Array, None]:
        """What the query path of head m has in common with all others' local part."""
        covariance = turn * rows.covariance[m]
        mixed = kernels.out @ kernels.out[m].T  # (H, V, V)
        fixed = mixed.mT @ (kernels.value @ kernels.query[m].T)  # (H, V, K)
        weight = jnp.einsum("nr,nvk->rvk", own * rows.share, fixed)
        u = (own[..., None] * own_apart) @ mixed  # (H, R, V)
        t = q @ (kernels.key @ kernels.query[m].T)  # (H, R, K)
        weight += jnp.einsum("nrv,nrk->rvk", u, t)
        inner = jnp.sum(covariance * weight, (1, 2))
        trace = jnp.zeros(R)
        if kernels.out.shape[-1] == D:
            maps = kernels.out[m] @ kernels.query[m].T
            trace = jnp.einsum("rvk,vk->r", covariance, maps)
            w = q[m] @ (kernels.key[m] @ kernels.out[m].T)
            local = rows.share * jnp.sum(kernels.out[m] * kernels.value[m])
            trace += own[m] * (local + jnp.sum(w * own_apart[m], -1))
        return sums + jnp.stack([inner, trace]), None

    (inner, trace), _ = jax.lax.scan(
        jax.checkpoint(one_head), jnp.zeros((2, R)), jnp.arange(H)
    )
    value, key, cross = pairs
    total = value + 2 * cross + key
    diagonal = jnp.take_along_axis(total, at[:, None], 1)[:, 0] + query + 2 * inner
    diagonal *= rows.ratio**2
    if kernels.out.shape[-1] == D:
        diagonal += rows.one**2 * D + 2 * rows.one * rows.ratio * trace
    return jnp.stack([value, key, total]), jnp.stack([query, diagonal])


def _formed_pairs(layer: Layer, kernels: Kernels, rows: Rows) -> Array:
    """Norms by path from differences, in bases that the heads share, row by row."""
    H, V, _ = kernels.value.shape
    folded = jnp.einsum("hvo,hvd->hod", kernels.out, kernels.value)
    value_map = jnp.linalg.qr(folded.reshape(H, -1).T, mode="r")
    out = kernels.out.reshape(H * V, -1)
    out_map = jnp.linalg.qr(after(out.T, value_map), mode="r").reshape(-1, H, V)
    w = jnp.moveaxis(rows.q @ kernels.key, 0, 1)
    bases, turned = jnp.linalg.qr(after(w.mT, out_map))  # (R, D, M), (R, M, H)

    def one_row(row: tuple[Array, ...]) -> Array:
        basis, turned, alpha, moving, h, share = row
        inside = jnp.einsum("hod,dm->hom", folded, basis)
        across = (folded - inside @ basis.T).reshape(H, -1)
        square = jnp.sum((alpha.T @ (across @ across.T)) * alpha.T, -1)
        apart = (alpha * moving[:, None])[..., None] * (layer.v - h[:, None])
        y = jnp.einsum("htv,phv->htp", apart, out_map)
        key = jnp.einsum("mh,htp->mtp", turned, y)
        along = jnp.einsum("hvd,dm->mhv", kernels.value, basis)
        along = jnp.einsum("mhv,phv->mhp", along, out_map)
        total = key + share * jnp.einsum("ht,mhp->mtp", alpha, along)
        value = share * jnp.linalg.norm(alpha.T @ value_map.T, axis=-1)
        total = jnp.sum(total**2, (0, 2)) + share**2 * jnp.maximum(square, 0)
        return jnp.stack([value, jnp.sqrt(jnp.sum(key**2, (0, 2))), jnp.sqrt(total)])

    by_row = (jnp.moveaxis(a, 1, 0) for a in (rows.alpha, rows.moving, rows.h))
    norms = jax.lax.map(one_row, (bases, turned, *by_row, rows.share))
    return jnp.moveaxis(norms, 1, 0)


def _formed_steps(layer: Layer, kernels: Kernels, rows: Rows) -> Array:
    """Norms of the query path and the diagonal from their blocks, row by row."""
    width, D = kernels.out.shape[-1], kernels.value.shape[-1]

    def one_row(row: tuple[Array, ...]) -> Array:
        covariance, alpha, moving, h, q, share, turn, ratio, one, at = row
        apart = moving[:, None] * (layer.v[:, at] - h)
        w = jnp.einsum("hk,hkd->hd", q, kernels.key)
        local = share * kernels.value + apart[..., None] * w[:, None]
        query = turn * (covariance @ kernels.query)
        whole = ratio * (query + alpha[:, at][:, None, None] * local)
        parts = jnp.stack([query, whole])
        blocks = jnp.einsum("hvo,phvd->pod", kernels.out, parts)
        if width == D:
            blocks = blocks.at[1].add(one * jnp.eye(D))
        return frobenius(blocks)

    by_row = [
        jnp.moveaxis(a, 1, 0)
        for a in (rows.covariance, rows.alpha, rows.moving, rows.h, rows.q)
    ]
    by_row += [rows.share, rows.turn, rows.ratio, rows.one, rows.here]
    return jax.lax.map(one_row, tuple(by_row)).T
