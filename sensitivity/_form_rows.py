r"""Norms by path of heads of any form, a block of query rows at a time.

Row i of a head whose softmax is f, whose weights are alpha = g f + l, and whose scores
have the slopes c, with d_j = v_j - sum_m f_im v_m, t_j = g f_ij c_ij:

.. math:: J_{ij} = (\alpha_{ij} A + t_j d_j (B_j^\top q_i)^\top) N_j + \delta_{ij}
    (G_i W^Q) N_i, \qquad G_i = \sum_m t_m d_m k_m^\top R_i \ldots

where A, W^Q and W^K carry what is fixed of the norm before the layer, and the query or
key side is pulled back through rotations and norms of K coordinates. The Frobenius norm
of a block off the diagonal is that of what its direction :math:`B_j^\top q_i` does not
meet, and of what it does: two sums of squares. Spectral norms come from Lanczos on V
coordinates.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sensitivity._form_heads import FormFactors, FormHead
from sensitivity._lanczos import top_eigenvalue
from sensitivity.attention import attention_weights
from sensitivity.forms import AttentionForm
from sensitivity.layer_norm import LayerNorm
from sensitivity.norms import Norm, root
from sensitivity.weights import ScoreBias


class FormRows(NamedTuple):
    """A block of rows of one head."""

    alpha: Float[Array, "R T"]
    pull: Float[Array, "R T"]  # t: of the softmax, its gain and the scores' slopes
    allowed: Bool[Array, "R T"]
    same: Bool[Array, "R T"]  # whether i = j
    spread: Float[Array, "R T"]  # ||d_j||
    gain: Float[Array, "R T"]  # ||N_j^T B_j^T q_i||
    value: Float[Array, "R T"]  # ||J^value_ij||
    total: Float[Array, "R T"]  # ||J_ij||, on the diagonal with the residual
    diagonal: Float[Array, " R"]
    query: Float[Array, " R"]  # ||J^query_ii||
    q: Float[Array, "R K"]
    rate: Float[Array, ""]  # the largest slope of a score
    own_value: Float[Array, " R"]  # ||A N_i||
    reach: "Reach | None"  # only where bounds are asked for


def rows_of_form_head(
    head: FormHead,
    factors: FormFactors,
    form: AttentionForm,
    score_bias: ScoreBias,
    norm: Norm,
    residual: bool,
    for_bounds: bool,
) -> Callable[[Int[Array, " R"]], FormRows]:
    """A function from positions of rows to their norms."""
    # factors: of this head, without the axis H; form: of this head alone.
    steps = jnp.arange(len(head.v))
    value_norm = head.rate * _value_norms(head, factors, norm)

    def block(rows: Int[Array, " R"]) -> FormRows:
        q, same = head.q[rows], rows[:, None] == steps
        f, allowed = attention_weights(q[None], head.k[None], score_bias, rows, form)
        f, allowed = f[0], jnp.broadcast_to(allowed, f.shape)[0]
        alpha = form.weights(f[None], rows)[0]
        scaled = f if form.gain is None else f * form.gain[0]
        pull = scaled * form.score_slopes(q, head.k)
        d = head.v - (f @ head.v)[:, None]  # (R, T, V)
        back = _back(form, form.key_norm, q[:, None], steps, head.raw_k)  # (R, T, K)
        along = jnp.einsum("rtk,tk->rt", back, head.key_along)
        w = jnp.sum((back @ factors.key_root.T) ** 2, -1) - head.twice * along**2
        gain = head.rate * root(w)
        b = back @ factors.value_key.T
        b -= (head.twice * along)[..., None] * head.value_along
        b *= (head.rate**2)[:, None]  # A N_j N_j^T W^K^T back
        off = _off_diagonal(head, factors, norm, alpha, pull, d, b, gain, value_norm)
        keys = head.k[None]
        if form.sink is None and form.cap is None:  # of an offset of keys is nothing
            keys = keys - (f @ head.k)[:, None]
        moved = pull[..., None] * d
        if len(keys) == 1 != len(rows):
            G = jnp.einsum("rtv,tk->rvk", moved, keys[0])
        else:
            G = jnp.einsum("rtv,rtk->rvk", moved, keys)
        here = rows[:, None]
        G = _back(form, form.query_norm, G, here, head.raw_q[rows][:, None])
        own = jnp.arange(len(rows))
        at = _At(
            alpha=alpha[own, rows],
            d=pull[own, rows][:, None] * d[own, rows],
            back=back[own, rows],
            turned=G,
            rate=head.rate[rows],
            twice=head.twice[rows],
            value_along=head.value_along[rows],
            query_along=head.query_along[rows],
            key_along=head.key_along[rows],
            basis_along=head.basis_along[rows],
            direction=head.direction[rows],
        )
        diagonal = _diagonal_norms(at, factors, norm, residual)
        reach = None
        if for_bounds:
            reach = _reach(head, factors, form, rows, jnp.abs(pull), d, keys, norm)
        return FormRows(
            alpha=alpha,
            pull=pull,
            allowed=allowed,
            same=same,
            spread=jnp.sqrt(jnp.sum(d**2, -1)),
            gain=gain,
            value=jnp.abs(alpha) * value_norm,
            total=jnp.where(same, diagonal[:, None], off),
            diagonal=diagonal,
            query=_query_norms(at, factors, norm),
            q=q,
            rate=jnp.asarray(form.rate(q.shape[-1]), q.dtype),
            own_value=value_norm[rows],
            reach=reach,
        )

    return block


def _back(
    form: AttentionForm,
    norm: LayerNorm | None,
    vectors: Float[Array, "*batch K"],
    steps: Int[Array, "*#batch"],
    raw: Float[Array, "*#batch K"],
) -> Float[Array, "*batch K"]:
    """Pull queries or keys back, through their rotation and norm at their steps."""
    shape = jnp.broadcast_shapes(vectors.shape, raw.shape)
    vectors = jnp.broadcast_to(vectors, shape)
    if form.rotary is not None:
        vectors = form.rotary.back(vectors, steps)
    return vectors if norm is None else norm.pull(vectors, raw)


def _value_norms(
    head: FormHead, factors: FormFactors, norm: Norm
) -> Float[Array, " T"]:
    """||A N_j|| over the rate."""
    a, twice = head.value_along, head.twice
    if norm == "frobenius":
        whole = jnp.trace(factors.value_gram)
        return root(whole - twice * jnp.sum(a**2, -1))

    def apply(y: Float[Array, "T V"]) -> Float[Array, "T V"]:
        return y @ factors.value_gram - (twice * jnp.sum(a * y, -1))[:, None] * a

    return root(top_eigenvalue(apply, a.shape, a.dtype))


def _off_diagonal(
    head: FormHead,
    factors: FormFactors,
    norm: Norm,
    alpha: Float[Array, "R T"],
    pull: Float[Array, "R T"],
    d: Float[Array, "R T V"],
    b: Float[Array, "R T V"],
    gain: Float[Array, "R T"],
    value_norm: Float[Array, " T"],
) -> Float[Array, "R T"]:
    """||(alpha A + t d w^T) N_j||, w^T N_j of length ``gain``."""
    # b is A N_j times that vector.
    if norm == "frobenius":
        safe = jnp.where(gain > 0, gain, jnp.ones_like(gain))
        along = b / safe[..., None]
        across = value_norm**2 - jnp.sum(along**2, -1)
        met = alpha[..., None] * along + (pull * gain)[..., None] * d
        return root(alpha**2 * jnp.maximum(across, 0) + jnp.sum(met**2, -1))
    rate, twice, a = head.rate**2, head.twice, head.value_along
    both, square = (alpha * pull)[..., None], (pull * gain)[..., None] ** 2
    own = (alpha**2 * rate)[..., None]

    def apply(y: Float[Array, "R T V"]) -> Float[Array, "R T V"]:
        image = y @ factors.value_gram
        image -= (twice * jnp.einsum("rtv,tv->rt", y, a))[..., None] * a
        on_d, on_b = (jnp.sum(u * y, -1, keepdims=True) for u in (d, b))
        return own * image + both * (on_d * b + on_b * d) + square * on_d * d

    return root(top_eigenvalue(apply, d.shape, d.dtype))


class _At(NamedTuple):
    """What makes the blocks of some rows on the diagonal."""

    alpha: Float[Array, " R"]
    d: Float[Array, "R V"]  # t d
    back: Float[Array, "R K"]
    turned: Float[Array, "R V K"]  # G
    rate: Float[Array, " R"]
    twice: Float[Array, " R"]
    value_along: Float[Array, "R V"]
    query_along: Float[Array, "R K"]
    key_along: Float[Array, "R K"]
    basis_along: Float[Array, "R V"]
    direction: Float[Array, "R D"]


def _query_norms(at: _At, factors: FormFactors, norm: Norm) -> Float[Array, " R"]:
    rooted = at.turned @ factors.query_root.T
    along = jnp.einsum("rvk,rk->rv", at.turned, at.query_along)
    if norm == "frobenius":
        square = jnp.sum(rooted**2, (1, 2)) - at.twice * jnp.sum(along**2, -1)
        return at.rate * root(square)

    def apply(y: Float[Array, "R V"]) -> Float[Array, "R V"]:
        image = jnp.einsum("rve,re->rv", rooted, jnp.einsum("rve,rv->re", rooted, y))
        return image - (at.twice * jnp.sum(along * y, -1))[:, None] * along

    return at.rate * root(top_eigenvalue(apply, along.shape, along.dtype))


def _diagonal_norms(
    at: _At, factors: FormFactors, norm: Norm, residual: bool
) -> Float[Array, " R"]:
    """||J_ii||, with the identity where there is a residual."""
    V, D = factors.value.shape
    eye = at.alpha[:, None, None] * jnp.eye(V, dtype=at.d.dtype)
    outer = at.d[:, :, None] * at.back[:, None, :]
    parts = jnp.concatenate([eye, at.turned, outer], -1)  # over A, W^Q and W^K
    along = at.alpha[:, None] * at.value_along
    along += jnp.einsum("rvk,rk->rv", at.turned, at.query_along)
    along += at.d * jnp.sum(at.back * at.key_along, -1, keepdims=True)
    if norm == "frobenius":
        square = jnp.sum((parts @ factors.together.T) ** 2, (1, 2))
        square -= at.twice * jnp.sum(along**2, -1)
        square *= at.rate**2
        if residual:
            trace = jnp.einsum("rvc,vc->r", parts, factors.identity)
            trace -= jnp.sum(at.basis_along * along, -1)
            square += D + 2 * at.rate * trace
        return root(square)
    rooted = parts @ factors.together.T
    if not residual:

        def inner(y: Float[Array, "R V"]) -> Float[Array, "R V"]:
            image = jnp.einsum(
                "rve,re->rv", rooted, jnp.einsum("rve,rv->re", rooted, y)
            )
            return image - (at.twice * jnp.sum(along * y, -1))[:, None] * along

        return at.rate * root(top_eigenvalue(inner, along.shape, along.dtype))

    def forward(x: Float[Array, "R D"]) -> Float[Array, "R D"]:
        """Q X N x."""
        seen = jnp.einsum("rvc,rc->rv", parts, _less(at, x) @ factors.every.T)
        return seen @ factors.output_basis.T

    def apply(x: Float[Array, "R D"]) -> Float[Array, "R D"]:
        y = x + forward(x)
        inner = jnp.einsum("rvc,rv->rc", parts, y @ factors.output_basis)
        return y + _less(at, inner @ factors.every)

    return root(top_eigenvalue(apply, (len(along), D), along.dtype))


def _less(at: _At, x: Float[Array, "R D"]) -> Float[Array, "R D"]:
    """N x, of maps that carry what is fixed of the norm."""
    along = jnp.sum(at.direction * x, -1, keepdims=True)
    return at.rate[:, None] * (x - along * at.direction)


class Reach(NamedTuple):
    """What moves scores by the query of a row: only bounds need it."""

    whole: Float[Array, "R T"]  # ||A_i^T k_m||
    centred: Float[Array, "R T"]  # the same of k_m less its mean, if that is no change
    bound: Float[Array, " R"]  # of ||J^query_ii||, by the two covariances


def _reach(
    head: FormHead,
    factors: FormFactors,
    form: AttentionForm,
    rows: Int[Array, " R"],
    weights: Float[Array, "R T"],
    d: Float[Array, "R T V"],
    centred: Float[Array, "*#R T K"],
    norm: Norm,
) -> Reach:
    rate, twice = head.rate[rows], head.twice[rows]
    raw, along = head.raw_q[rows][:, None], head.query_along[rows]

    def back(keys: Array) -> Float[Array, "R T K"]:
        return _back(form, form.query_norm, keys, rows[:, None], raw)

    def sizes(pulled: Float[Array, "R T K"]) -> Float[Array, "R T"]:
        rooted = jnp.sum((pulled @ factors.query_root.T) ** 2, -1)
        met = jnp.einsum("rtk,rk->rt", pulled, along)
        return rate[:, None] * root(rooted - twice[:, None] * met**2)

    pulled = back(jnp.broadcast_to(centred, (len(rows), *head.k.shape)))
    # The norm before the layer takes a direction out, which only makes this smaller.
    points = (d, rate[:, None, None] * (pulled @ factors.query_root.T))
    tops, traces = [], []
    for own in points:

        def apply(y: Array, own: Array = own) -> Array:
            seen = weights * jnp.einsum("rte,re->rt", own, y)
            return jnp.einsum("rt,rte->re", seen, own)

        shape = (len(rows), own.shape[-1])
        tops.append(top_eigenvalue(apply, shape, own.dtype))
        traces.append(jnp.sum(weights * jnp.sum(own**2, -1), -1))
    # Lanczos ends below the eigenvalue; its last eight steps gained less than this.
    tops = [top * (1 + 64 * jnp.finfo(d.dtype).eps) for top in tops]
    wholes = tops if norm == "spectral" else traces
    bound = jnp.sqrt(jnp.minimum(tops[0] * wholes[1], wholes[0] * tops[1]))
    return Reach(sizes(back(head.k[None])), sizes(pulled), bound)
