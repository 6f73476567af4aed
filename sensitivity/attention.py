"""The one definition of attention: what is analysed is what runs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from sensitivity._arrays import as_array
from sensitivity._cpu_products import inner_products, weighted_sums
from sensitivity._inputs import (
    EmptyRows,
    as_score_bias,
    check_bias,
    check_inputs,
    check_table,
    check_weights,
    run,
    run_forward,
)
from sensitivity.forms import AttentionForm
from sensitivity.layer_norm import LayerNorm
from sensitivity.rotary import Rotary
from sensitivity.weights import AttentionWeights, ScoreBias, least_bias


def project(
    x: Float[ArrayLike, "*batch T D"],
    kernel: Float[ArrayLike, "D H K"],
    bias: Float[ArrayLike, "H K"] | None,
) -> Float[Array, "*batch H T K"]:
    """Apply one projection of a layer, heads in front of time.

    Args:
        x: Inputs, shape (..., T, D).
        kernel: Shape (D, H, K).
        bias: Shape (H, K), or None.

    Returns:
        Projected inputs, shape (..., H, T, K).
    """
    x, (D, H, K) = jnp.asarray(x), np.shape(kernel)
    projected = (x @ jnp.reshape(kernel, (D, H * K))).reshape(*x.shape[:-1], H, K)
    if bias is not None:
        projected += jnp.asarray(bias)
    return jnp.swapaxes(projected, -2, -3)


def normed(
    x: Float[ArrayLike, "*batch T D"], form: AttentionForm | None
) -> Float[Array, "*batch T D"]:
    """The input of the projections: of a pre-norm block behind its norm.

    Args:
        x: Inputs, shape (..., T, D).
        form: What the layer does beside plain attention.

    Returns:
        What is projected, shape (..., T, D).
    """
    x = jnp.asarray(x)
    return x if form is None or form.input_norm is None else form.input_norm(x)


def queries_of(
    x: Float[ArrayLike, "*batch R D"],
    weights: AttentionWeights,
    rows: Int[Array, " R"],
) -> Float[Array, "*batch H R K"]:
    """Queries, as scores take them: projected, normed, and turned to their steps.

    Args:
        x: Inputs of the rows, shape (..., R, D).
        weights: The layer.
        rows: Their positions.

    Returns:
        The queries, shape (..., H, R, K).
    """
    form = weights.form
    q = project(normed(x, form), weights.query, weights.query_bias)
    return q if form is None else placed(q, form.query_norm, form.rotary, rows)


def keys_of(
    x: Float[ArrayLike, "*batch T D"], weights: AttentionWeights
) -> Float[Array, "*batch H T K"]:
    """Keys, as scores take them.

    Args:
        x: Inputs, shape (..., T, D).
        weights: The layer.

    Returns:
        The keys, shape (..., H, T, K).
    """
    form = weights.form
    k = project(normed(x, form), weights.key, weights.key_bias)
    if form is None:
        return k
    return placed(k, form.key_norm, form.rotary, jnp.arange(k.shape[-2]))


def values_of(
    x: Float[ArrayLike, "*batch T D"], weights: AttentionWeights
) -> Float[Array, "*batch H T V"]:
    """Values, before the output projection.

    Args:
        x: Inputs, shape (..., T, D).
        weights: The layer.

    Returns:
        The values, shape (..., H, T, V).
    """
    return project(normed(x, weights.form), weights.value, weights.value_bias)


def placed(
    projected: Float[Array, "*batch R K"],
    norm: LayerNorm | None,
    rotary: Rotary | None,
    rows: Int[Array, " R"],
) -> Float[Array, "*batch R K"]:
    """Projected queries or keys, normed and turned to their steps.

    Args:
        projected: The projections, shape (..., R, K).
        norm: The norm of every head, if there is one.
        rotary: The positions, if there are any.
        rows: The steps.

    Returns:
        What scores are made of, shape (..., R, K).
    """
    if norm is not None:
        projected = norm(projected)
    return projected if rotary is None else rotary.turn(projected, rows)


def attention_weights(
    q: Float[Array, "*batch R K"],
    k: Float[Array, "*batch T K"],
    score_bias: ScoreBias,
    rows: Int[Array, " R"],
    form: AttentionForm | None = None,
) -> tuple[Float[Array, "*batch R T"], Bool[Array, "*batch R T"]]:
    r"""Attention weights of some query rows.

    .. math:: \alpha_i = \mathrm{softmax}_j(q_i \cdot k_j / \sqrt{K} + m_{ij})

    Args:
        q: Queries of the rows, shape (..., R, K).
        k: Keys, shape (..., T, K).
        score_bias: The bias m. It and the softmax are computed in float32 at least:
            bfloat16 would round a penalty of 0.1 away beside a score of 30.
        rows: Positions i of the query rows.
        form: How scores are made, and a sink that takes a share of the weights: of its
            gain and added weights nothing is seen here. With a sink q and k have heads
            in front of their rows.

    Returns:
        The weights, shape (..., R, T), and whether row i may attend to step j
        (broadcasts to the same shape): a weight that a bias such as the -1e9 of other
        libraries, below the logarithm of the smallest number, drives to exactly 0 is
        forbidden too. A row that may attend to nothing has no meaningful weights:
        callers refuse it beforehand.
    """
    dtype = jnp.float32 if q.dtype.itemsize < 4 else q.dtype
    q, k = q.astype(dtype), k.astype(dtype)
    bias, allowed = score_bias.rows(rows, k.shape[-2], dtype)
    if form is None:
        scores = inner_products(q * k.shape[-1] ** -0.5, k)
    else:
        scores = form.scores(q, k)
    if not score_bias.is_nothing:
        scores += bias
    # A mask costs a pass over all scores, forward and back.
    where = allowed if score_bias.forbids else None
    alpha = jax.nn.softmax(scores, where=where)
    if form is not None and form.sink is not None:
        size = jax.nn.logsumexp(scores, axis=-1, keepdims=True, where=where)
        logit = jnp.asarray(form.sink, dtype)[:, None, None]
        alpha = alpha * jax.nn.sigmoid(size - logit)
    if not score_bias.is_nothing:
        allowed &= (alpha > 0) | (bias > least_bias(dtype))
    return alpha, allowed


class AttentionTables(NamedTuple):
    """Which steps the rows of a layer attend to, and how much.

    Attributes:
        alpha: Attention weights, shape (..., H, T, T).
        allowed: Whether row i of head n may attend to step j, shape (..., H, T, T): no
            mask forbids it, nor does a bias such as -1e9 drive its weight to exactly 0.
    """

    alpha: Float[Array, "*batch H T T"]
    allowed: Bool[Array, "*batch H T T"]


def attention_tables(
    x: Float[ArrayLike, "*batch T D"],
    weights: AttentionWeights,
    score_bias: ScoreBias | None = None,
    *,
    empty_rows: EmptyRows = "error",
) -> AttentionTables:
    """Attention weights of a whole layer, and what they are spread over.

    Args:
        x: Inputs, shape (..., T, D); leading axes are samples and nodes.
        weights: The layer.
        score_bias: What is added to the scores; nothing by default.
        empty_rows: Whether rows with nothing to attend to are an ``"error"``, or have
            no weights and no steps, ``"skip"``.

    Returns:
        The tables, in the precision of the input as in `attention_matrix`.

    Raises:
        ValueError: As `attention_matrix`.

    Example:
        >>> import numpy as np
        >>> zero = np.zeros((2, 1, 2))  # no query, no key: uniform attention
        >>> w = AttentionWeights(query=zero, key=zero, value=np.eye(2)[:, None])
        >>> low = ScoreBias(array=np.array([[0, -1e9], [0, 0]]))
        >>> attention_tables(np.eye(2), w, low).allowed.tolist()
        [[[True, False], [True, True]]]
    """
    return run(_attention_tables, x, weights, score_bias, empty_rows, forms=True)


def attention_matrix(
    x: Float[ArrayLike, "*batch T D"],
    weights: AttentionWeights,
    score_bias: ScoreBias | None = None,
) -> Float[Array, "*batch H T T"]:
    r"""Attention weights of a whole layer.

    .. math:: \alpha_{ij} = \mathrm{softmax}_j(q_i \cdot k_j / \sqrt{K} + m_{ij})

    Args:
        x: Inputs, shape (..., T, D); leading axes are samples and nodes.
        weights: The layer.
        score_bias: The bias m; nothing by default.

    Returns:
        How much row i of head n attends to step j, shape (..., H, T, T), what a form
        adds among it, in the precision of the input: NumPy float64 is computed in
        float64 whatever JAX's global setting.

    Raises:
        ValueError: If shapes or types do not fit, a value is not finite, or a row has
            nothing to attend to.

    Example:
        >>> import numpy as np
        >>> zero = np.zeros((2, 1, 2))  # no query, no key: uniform attention
        >>> w = AttentionWeights(query=zero, key=zero, value=np.eye(2)[:, None])
        >>> attention_matrix(np.eye(2), w).tolist()
        [[[0.5, 0.5], [0.5, 0.5]]]

    References:
        arXiv 2602.10956, Eq. 1-2.
    """

    def alpha(*layer: Any) -> Array:
        return _attention_tables(*layer).alpha

    return run(alpha, x, weights, score_bias, forms=True)


@jax.jit
def _attention_tables(
    x: Array, weights: AttentionWeights, bias: ScoreBias
) -> AttentionTables:
    rows, form = jnp.arange(x.shape[-2]), weights.form
    q, k = queries_of(x, weights, rows), keys_of(x, weights)
    alpha, allowed = attention_weights(q, k, bias, rows, form)
    if form is not None:
        alpha = form.weights(alpha, rows)
        allowed |= alpha != 0
    return AttentionTables(alpha, jnp.broadcast_to(allowed, alpha.shape))


def attend_rows(
    x_q: Float[ArrayLike, "*batch R D"],
    x_k: Float[ArrayLike, "*batch T D"],
    x_v: Float[ArrayLike, "*batch T D"],
    weights: AttentionWeights,
    score_bias: ScoreBias,
    rows: Int[Array, " R"],
    per_head: bool = False,
    weight_factor: Float[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    """Outputs of the query rows at positions ``rows``; `attend` is all of them."""
    q, k = queries_of(x_q, weights, rows), keys_of(x_k, weights)
    v, form = values_of(x_v, weights), weights.form
    alpha, _ = attention_weights(q, k, score_bias, rows, form)
    if form is not None:
        alpha = form.weights(alpha, rows)
    if weight_factor is not None:
        alpha = alpha * weight_factor.astype(alpha.dtype)
    heads = weighted_sums(alpha.astype(v.dtype), v)
    if form is not None:
        heads = form.normed(heads)
    if per_head:
        if weights.out is None:
            return heads
        return jnp.einsum("...hiv,hvo->...hio", heads, weights.out)
    if weights.out is None:
        heads = jnp.moveaxis(heads, -3, -2)
        return heads.reshape(*heads.shape[:-2], -1)
    outputs = jnp.einsum("...hiv,hvo->...io", heads, weights.out)
    return outputs if weights.out_bias is None else outputs + weights.out_bias


def attend(
    x_q: Float[ArrayLike, "*batch T D"],
    x_k: Float[ArrayLike, "*batch T D"],
    x_v: Float[ArrayLike, "*batch T D"],
    weights: AttentionWeights,
    score_bias: ScoreBias | None = None,
    *,
    per_head: bool = False,
    weight_factor: Float[ArrayLike, "..."] | None = None,
) -> Float[Array, "..."]:
    r"""Multi-head attention as a function of the three inputs of its projections.

    .. math:: o_i = \sum_n W^O_n \sum_j \alpha^n_{ij} v^n_j + b^O

    With ``x_q = x_k = x_v = x`` this is self-attention; its three partial Jacobians
    there are the query, key and value paths.

    Arrays of one dtype are computed in it (scores and softmax at least in float32),
    others in the widest, at least float32.
    NumPy float64 is computed in float64 whatever JAX's global setting. Under a
    transformation (jit, vmap) nothing is cast, and only shapes are checked.

    Args:
        x_q: Inputs that feed the queries, shape (..., T, D).
        x_k: Inputs that feed the keys, shape (..., T, D).
        x_v: Inputs that feed the values, shape (..., T, D).
        weights: The layer.
        score_bias: What is added to the scores; nothing by default. Every row must be
            left with something to attend to, otherwise its output means nothing: that
            is refused, but under a transformation it cannot be seen.
        per_head: Whether to return each head by itself, its block of ``out`` folded in
            and without ``out_bias``.
        weight_factor: Multiplies the weights alpha, after the softmax; broadcasts to
            (..., H, T, T). That is where training drops attention weights.

    Returns:
        Outputs, shape (..., T, O); per head (..., H, T, O), O being V without ``out``.

    Raises:
        ValueError: If shapes do not fit, the score bias is no number in the dtype, or a
            row has nothing to attend to.

    Example:
        >>> import numpy as np
        >>> x = np.eye(3, dtype=np.float32)
        >>> kernel = np.zeros((3, 1, 2), np.float32)  # uniform attention
        >>> w = AttentionWeights(query=kernel, key=kernel, value=x[:, None, :])
        >>> np.round(attend(x, x, x, w)[0] * 3).tolist()
        [1.0, 1.0, 1.0]

    References:
        Vaswani et al., `Attention is all you need <https://arxiv.org/abs/1706.03762>`_,
        2017, Eq. 1; arXiv 2602.10956, Eq. 1-3.
    """
    check_weights(weights)
    bias = as_score_bias(score_bias)
    x_q, x_k, x_v = inputs = tuple(
        as_array(name, x) for name, x in (("x_q", x_q), ("x_k", x_k), ("x_v", x_v))
    )
    if not np.shape(x_q) == np.shape(x_k) == np.shape(x_v):
        raise ValueError(
            "x_q, x_k and x_v must have one shape (..., T, D), got "
            f"{np.shape(x_q)}, {np.shape(x_k)} and {np.shape(x_v)}."
        )
    check_inputs("x_q, x_k and x_v", x_q, weights)
    check_bias(bias, x_q, weights)
    if weight_factor is not None:
        weight_factor = as_array("weight_factor", weight_factor)
        check_table("weight_factor", weight_factor, x_q, weights)

    def forward(x_q: Any, x_k: Any, x_v: Any, w: Any, bias: Any, factor: Any) -> Array:
        rows = jnp.arange(np.shape(x_q)[-2])
        return attend_rows(x_q, x_k, x_v, w, bias, rows, per_head, factor)

    return run_forward(forward, inputs, weights, bias, weight_factor)
