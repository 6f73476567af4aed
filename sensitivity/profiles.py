"""What a bound needs to know of a layer: O(H T) numbers, however long the window."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Int

from sensitivity._closed_form import over_heads, over_layer, plan_heads, plan_layer
from sensitivity._devices import program
from sensitivity._form_heads import FormHead
from sensitivity._form_norms import over_form_heads, plan_form
from sensitivity._form_rows import FormRows
from sensitivity._head_norms import HeadRows
from sensitivity._head_off_diagonal import distances
from sensitivity._heads import Head
from sensitivity._inputs import BOUNDED, EmptyRows, check_weights, in_slices, run
from sensitivity._path_norms import path_norms
from sensitivity._residual import adds_identity
from sensitivity._windows import Slices
from sensitivity.memory import Plan, saying_what_fits
from sensitivity.norms import Norm, PathNorms, PathRows, check_choice
from sensitivity.weights import AttentionWeights, ScoreBias


class Means(NamedTuple):
    """The exact side of every statement: fields of `Profile`, per head or layer."""

    value_mean: Float[Array, "*batch T"]
    key_mean: Float[Array, "*batch T"]
    query_mean: Float[Array, "*batch T"]
    off_diagonal_mean: Float[Array, "*batch T"]
    diagonal_norm: Float[Array, "*batch T"]
    query_norm: Float[Array, "*batch T"]


class Profile(NamedTuple):
    """Row statistics of each head by itself, every field of shape (..., H, T).

    W^O of the head is folded in: v means W^O v and ||W^V|| means ||W^O W^V||. The first
    six fields are the exact side of the statements, the others make their bounds.

    Of a layer with a form, W^K stands for B_j = dk_j / dx_j, W^Q for A_i = dq_i / dx_i,
    and 1/sqrt(K) for the largest slope of a score; sums over m are weighted by what the
    scores' softmax, its gain and their slopes leave of alpha_im, and k_m is centred
    only where that is no change: not beside a sink or a cap.

    Attributes:
        value_mean: E_j ||value||, the sum over j divided by T.
        key_mean: E_j ||key||.
        query_mean: E_j ||query|| = ||J^query_ii|| / T.
        off_diagonal_mean: Sum over j != i of ||J_ij||, divided by T.
        diagonal_norm: ||I + J_ii||; ||J_ii|| without a residual.
        query_norm: ||J^query_ii||.
        off_diagonal_weight: Sum over j != i of alpha_ij, added up.
        diagonal_weight: alpha_ii.
        key_constant: C_K,i = max_j ||v_j - h_i|| ||W^K^T q_i|| over attended steps.
        query_constant: C_Q,i = max_m ||v_m - h_i|| ||W^Q^T k_m|| over attended steps.
        query_weighted: sum_m alpha_im ||v_m - h_i|| ||W^Q^T k_m|| / sqrt(K).
        query_centred: The same with k_m - kbar_i in place of k_m.
        query_covariance: The bound on ``query_norm`` by the covariances of values and
            keys under alpha_i.
        value_norm: ||W^O W^V||, the same in every row; of a layer with a form the sum
            over j of ||J^value_ij||.
        other_steps: How many steps other than itself row i may attend to.
        rounding_scale: ||W^V|| + max_m ||v_m - h_i|| (||W^K^T q_i|| +
            max_m ||W^Q^T k_m||) / sqrt(K), m over attended steps: what rounding errors
            are multiples of.
        covariance_error: By how much rounding may have made ``query_covariance`` too
            low: roots of differences, it keeps half the digits under sharp attention.
        key_off_diagonal_mean: Sum over j != i of ||J^key_ij||, divided by T.
        key_diagonal_norm: ||J^key_ii||.
        value_off_diagonal_mean: Sum over j != i of ||J^value_ij||, divided by T.
        own_value_norm: ||W^V||, behind a norm before the layer ||W^V N'_i||.
        score_scale: max_m ||q_i|| ||k_m|| / sqrt(K) over attended steps: the rounding
            of a score is a multiple of it, and the relative one of a weight too.
    """

    value_mean: Float[Array, "*batch H T"]
    key_mean: Float[Array, "*batch H T"]
    query_mean: Float[Array, "*batch H T"]
    off_diagonal_mean: Float[Array, "*batch H T"]
    diagonal_norm: Float[Array, "*batch H T"]
    query_norm: Float[Array, "*batch H T"]
    off_diagonal_weight: Float[Array, "*batch H T"]
    diagonal_weight: Float[Array, "*batch H T"]
    key_constant: Float[Array, "*batch H T"]
    query_constant: Float[Array, "*batch H T"]
    query_weighted: Float[Array, "*batch H T"]
    query_centred: Float[Array, "*batch H T"]
    query_covariance: Float[Array, "*batch H T"]
    value_norm: Float[Array, "*batch H T"]
    other_steps: Int[Array, "*batch H T"]
    rounding_scale: Float[Array, "*batch H T"]
    covariance_error: Float[Array, "*batch H T"]
    key_off_diagonal_mean: Float[Array, "*batch H T"]
    key_diagonal_norm: Float[Array, "*batch H T"]
    value_off_diagonal_mean: Float[Array, "*batch H T"]
    own_value_norm: Float[Array, "*batch H T"]
    score_scale: Float[Array, "*batch H T"]


def profile(
    x: Float[ArrayLike, "*batch T D"],
    weights: AttentionWeights,
    *,
    score_bias: ScoreBias | None = None,
    norm: Norm = "spectral",
    residual: bool | None = None,
    max_memory: str | int = "1GiB",
    empty_rows: EmptyRows = "error",
) -> Profile:
    r"""Row statistics of every head, streamed: no T x T table is ever held.

    What the statements of `sensitivity.bounds` need, at any length:
    :math:`E_j \|J_{ij}\|` by path, the diagonal, and the constants of the bounds.

    First derivatives in x and the weights, by reverse mode, are right wherever a norm
    is smooth: not where it is zero (there they are 0) nor, for spectral norms, where
    the two largest singular values meet. ``query_covariance`` and ``covariance_error``
    are constants to derivatives.

    Args:
        x: Inputs, shape (..., T, D); leading axes are samples and nodes.
        weights: The layer.
        score_bias: What is added to the scores; nothing by default.
        norm: ``"spectral"`` or ``"frobenius"``.
        residual: Whether the layer adds its input to its output, as in Eq. 8; by
            default where the output of a head is as wide as the input.
        max_memory: Budget for the work arrays of each device, such as ``"512MiB"``.
        empty_rows: Whether rows with nothing to attend to are an ``"error"``, or are
            taken as without attention, ``"skip"``: their norms are 0, but for the
            identity of a residual.

    Returns:
        The statistics, each of shape (..., H, T).

    Raises:
        ValueError: If shapes or types do not fit, a value is not finite, a head is
            smaller than its norms can be, a row has nothing to attend to, ``norm`` is
            neither, ``residual`` is asked for and the output of a head is not as wide
            as the input, or ``max_memory`` is too little.

    Example:
        >>> import numpy as np
        >>> zero = np.zeros((2, 1, 2))  # no query, no key: uniform attention
        >>> w = AttentionWeights(query=zero, key=zero, value=3 * np.eye(2)[:, None])
        >>> profile(np.eye(2), w).value_mean.tolist()  # Eq. 5: ||W^V|| / T
        [[1.5, 1.5]]

    References:
        arXiv 2602.10956, Eq. 5-8.
    """
    check_choice("norm", norm, Norm)
    check_choice("empty_rows", empty_rows, EmptyRows)
    options: Any = {"norm": norm, "max_memory": max_memory}
    if (slices := in_slices(x, weights, score_bias, empty_rows)) is not None:
        options |= {"residual": residual, "empty_rows": "skip"}
        found = profile(slices.x, weights, score_bias=slices.score_bias, **options)
        rows = Profile(*(slices.of_heads(field) for field in found))
        return _with_means_over_all(rows, slices)

    def compute(x: Array, weights: AttentionWeights, bias: ScoreBias) -> Profile:
        adds = adds_identity(residual, weights, per_head=True)
        own = plan_heads if weights.form is None else plan_form
        plan = functools.partial(own, **options, weights=weights)
        with saying_what_fits(x, plan):
            fields = _profile(x, weights, bias, norm, adds, plan(x))
        if not isinstance(fields, Tracer):  # slices are cheaper than programs of them
            fields = np.asarray(fields)
        columns = [jnp.asarray(fields[..., n]) for n in range(fields.shape[-1])]
        rows = Profile(*columns)
        return rows._replace(other_steps=rows.other_steps.astype(int))

    words = f"{norm} profile of heads"
    return run(compute, x, weights, score_bias, empty_rows, words, BOUNDED)


def layer_means(
    x: Float[ArrayLike, "*batch T D"],
    weights: AttentionWeights,
    *,
    score_bias: ScoreBias | None = None,
    norm: Norm = "spectral",
    residual: bool | None = None,
    max_memory: str | int = "1GiB",
    empty_rows: EmptyRows = "error",
) -> Means:
    """Exact means over j of the whole layer, its heads mixed, streamed."""
    check_choice("norm", norm, Norm)
    check_weights(weights)
    options: Any = {"norm": norm, "max_memory": max_memory}
    if (slices := in_slices(x, weights, score_bias, empty_rows)) is not None:
        options |= {"residual": residual, "empty_rows": "skip"}
        found = layer_means(slices.x, weights, score_bias=slices.score_bias, **options)
        rows = Means(*(slices.of_layer(field) for field in found))
        return _with_means_over_all(rows, slices)

    def compute(x: Array, weights: AttentionWeights, bias: ScoreBias) -> Means:
        adds = adds_identity(residual, weights, per_head=False)
        plan = functools.partial(plan_layer, **options, weights=weights)
        with saying_what_fits(x, plan):
            return _layer_means(x, weights, bias, norm, adds, plan(x))

    if weights.form is not None and weights.heads > 1:
        return means_of(
            path_norms(
                x,
                weights,
                score_bias=score_bias,
                norm=norm,
                residual=residual,
                max_memory=max_memory,
                empty_rows=empty_rows,
            )
        )
    if weights.heads == 1:
        one = profile(
            x,
            weights,
            score_bias=score_bias,
            norm=norm,
            residual=residual,
            max_memory=max_memory,
            empty_rows=empty_rows,
        )
        return Means(*(field[..., 0, :] for field in one[: len(Means._fields)]))
    words = f"{norm} means of the layer"
    return run(compute, x, weights, score_bias, empty_rows, words)


Rows = TypeVar("Rows", Means, Profile)


def _with_means_over_all(rows: Rows, slices: Slices) -> Rows:
    """Rows of slices with their sums over j divided by T, not by a slice's steps."""
    means = [name for name in rows._fields if name.endswith("_mean")]
    return rows._replace(**{n: getattr(rows, n) * slices.share for n in means})


def means_of(norms: PathNorms) -> Means:
    """Means over j of full tables of path norms, such as autodiff's."""
    value, key, query, total = (np.asarray(table) for table in norms)
    elsewhere = np.where(np.eye(total.shape[-1], dtype=bool), 0, total)
    means: Any = [table.mean(-1) for table in (value, key, query, elsewhere)]
    for table in (total, query):
        means.append(np.diagonal(table, axis1=-2, axis2=-1))
    return Means(*means)


def _row_statistics(head: Head, rows: HeadRows) -> Float[Array, "R fields"]:
    """The fields of a `Profile`, in one array: each array of its own costs a copy."""
    T, zero = len(head.v), jnp.zeros((), rows.alpha.dtype)
    root = head.k.shape[-1] ** 0.5
    value_norm = jnp.broadcast_to(head.factors.value_norm, rows.gain.shape)
    elsewhere = jnp.where(rows.same, zero, rows.alpha)
    weighted = rows.alpha * rows.spread
    centred = weighted * (head.key_unit * distances(rows.key_mean, head.keys))
    by_step = jnp.stack([jnp.ones_like(head.key_size), head.key_size], axis=1)
    key_sum, query_sum = (weighted @ by_step).T
    steps = jnp.stack([head.key_size, head.k_size])
    most = jnp.where(rows.allowed, steps[:, None], zero).max(-1)
    seen = jnp.where(rows.allowed, rows.spread, zero)
    most_spread = seen.max(-1)
    measured: Any = rows  # with covariances: see _profile
    other_steps = _sum((rows.allowed & ~rows.same).astype(zero.dtype))
    fields = Profile(
        value_mean=_sum(rows.alpha) * value_norm / T,
        key_mean=rows.gain * key_sum / T,
        query_mean=rows.query / T,
        off_diagonal_mean=_sum(elsewhere * rows.off_diagonal) / T,
        off_diagonal_weight=_sum(elsewhere),
        diagonal_weight=rows.diagonal_weight,
        diagonal_norm=rows.diagonal,
        query_norm=rows.query,
        key_constant=root * rows.gain * most_spread,
        query_constant=(seen * head.key_size).max(-1),
        query_weighted=query_sum / root,
        query_centred=_sum(centred) / root,
        query_covariance=measured.query_covariance,
        value_norm=value_norm,
        other_steps=other_steps,
        rounding_scale=value_norm + most_spread * (rows.gain + most[0] / root),
        covariance_error=measured.covariance_error,
        key_off_diagonal_mean=rows.gain * _sum(elsewhere * rows.spread) / T,
        key_diagonal_norm=rows.gain * _sum(jnp.where(rows.same, weighted, zero)),
        value_off_diagonal_mean=value_norm * _sum(elsewhere) / T,
        own_value_norm=value_norm,
        score_scale=rows.query_size * most[1] / root,
    )
    return _side_by_side(fields)


def _form_statistics(head: FormHead, rows: FormRows) -> Float[Array, "R fields"]:
    """The same of a head with a form."""
    T, K = head.k.shape
    zero, root, reach = jnp.zeros((), rows.alpha.dtype), K**0.5, rows.reach
    assert reach is not None
    weighted = rows.pull * rows.spread
    key = jnp.abs(weighted) * rows.gain
    elsewhere = jnp.where(rows.same, zero, rows.alpha)
    seen = jnp.where(rows.allowed, rows.spread, zero)
    rate = jnp.abs(rows.rate)
    most = rate * jnp.where(rows.allowed, reach.whole, zero).max(-1)
    key_most = rate * (seen * rows.gain).max(-1)
    value_norm = _sum(rows.value)
    size = rate * jnp.linalg.norm(rows.q, axis=-1)
    keys = jnp.where(rows.allowed, jnp.linalg.norm(head.k, axis=-1), zero).max(-1)
    fields = Profile(
        value_mean=value_norm / T,
        key_mean=_sum(key) / T,
        query_mean=rows.query / T,
        off_diagonal_mean=_sum(jnp.where(rows.same, zero, rows.total)) / T,
        off_diagonal_weight=_sum(elsewhere),
        diagonal_weight=_sum(jnp.where(rows.same, rows.alpha, zero)),
        diagonal_norm=rows.diagonal,
        query_norm=rows.query,
        key_constant=root * key_most,
        query_constant=root * rate * (seen * reach.whole).max(-1),
        query_weighted=_sum(jnp.abs(weighted) * reach.whole),
        query_centred=_sum(jnp.abs(weighted) * reach.centred),
        query_covariance=reach.bound,
        value_norm=value_norm,
        other_steps=_sum((rows.allowed & ~rows.same).astype(zero.dtype)),
        rounding_scale=jnp.maximum(value_norm, rows.own_value)
        + seen.max(-1)
        * (rate * jnp.where(rows.allowed, rows.gain, zero).max(-1) + most),
        covariance_error=jnp.zeros_like(value_norm),
        key_off_diagonal_mean=_sum(jnp.where(rows.same, zero, key)) / T,
        key_diagonal_norm=_sum(jnp.where(rows.same, key, zero)),
        value_off_diagonal_mean=_sum(jnp.where(rows.same, zero, rows.value)) / T,
        own_value_norm=rows.own_value,
        score_scale=size * keys,
    )
    return _side_by_side(fields)


def _side_by_side(columns: Sequence[Float[Array, " R"]]) -> Float[Array, "R fields"]:
    """As `jnp.stack` on the last axis, compiled to one loop with what it stacks."""
    stacked, place = columns[0][:, None], jnp.arange(len(columns))
    for n, column in enumerate(columns[1:], start=1):
        stacked = jnp.where(place == n, column[:, None], stacked)
    return stacked


def _sum(rows: Float[Array, "R T"]) -> Float[Array, " R"]:
    """Row sums as a matrix product, which the CPU does faster than a reduction."""
    return rows @ jnp.ones(rows.shape[-1], rows.dtype)


@program(3, 4, 5)
def _profile(
    x: Array,
    weights: AttentionWeights,
    score_bias: ScoreBias,
    norm: Norm,
    residual: bool,
    plan: Plan,
) -> Float[Array, "*batch H T fields"]:
    if weights.form is not None:
        return over_form_heads(
            *(_form_statistics, x, weights, score_bias, norm, residual, plan),
            for_bounds=True,
        )
    return over_heads(
        _row_statistics, x, weights, score_bias, norm, residual, plan, for_bounds=True
    )


def _row_means(rows: PathRows) -> Means:
    T = rows.total.shape[-1]
    elsewhere = jnp.where(rows.same, jnp.zeros_like(rows.total), rows.total)
    return Means(
        value_mean=_sum(rows.value) / T,
        key_mean=_sum(rows.key) / T,
        query_mean=rows.query / T,
        off_diagonal_mean=_sum(elsewhere) / T,
        diagonal_norm=rows.diagonal,
        query_norm=rows.query,
    )


@program(3, 4, 5)
def _layer_means(
    x: Array,
    weights: AttentionWeights,
    score_bias: ScoreBias,
    norm: Norm,
    residual: bool,
    plan: Plan,
) -> Means:
    return over_layer(_row_means, x, weights, score_bias, norm, residual, plan)
