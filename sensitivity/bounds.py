"""Verdicts: in how many rows of a layer each statement holds, and how tightly."""

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import pandas as pd
from jaxtyping import ArrayLike, Bool, Float

from sensitivity._arrays import as_array
from sensitivity._closed_form import plan_heads, plan_layer
from sensitivity._form_norms import plan_form
from sensitivity._inputs import EmptyRows, check_weights, judged_rows, widest
from sensitivity._path_norms import path_norms
from sensitivity._residual import check_residual
from sensitivity.autodiff import plan_autodiff
from sensitivity.equations import (
    OF_COVARIANCES,
    OFF_DIAGONAL,
    STATEMENTS,
    mean_over,
    pooled,
    rounding_share,
    sides,
)
from sensitivity.memory import saying_what_fits
from sensitivity.norms import Engine, Norm, check_choice
from sensitivity.profiles import Means, Profile, layer_means, means_of, profile
from sensitivity.weights import AttentionWeights, ScoreBias

Level = Literal["head", "layer"]

_EQUALITIES = ("eq5", "eq6_middle")


class Judged(NamedTuple):
    """One statement, row by row; shapes (..., H, R), or (..., R) for a layer.

    R is T, or 1 where a statement is about a mean over rows.
    """

    statement: str  # its name
    exact: Float[np.ndarray, "*batch R"]  # the left side
    bound: Float[np.ndarray, "*batch R"]  # the right side
    # exact / bound, both raised by the rounding scale s; 1 where all three are zero.
    ratio: Float[np.ndarray, "*batch R"]
    holds: Bool[np.ndarray, "*batch R"]  # whether the statement holds there
    counted: Bool[np.ndarray, "*batch R"]  # whether it says anything about the row


class Measured(NamedTuple):
    """What verdicts on a layer are made from."""

    heads: Profile  # statistics of every head, shape (..., H, T) each
    means: dict[Level, Means]  # the exact side: (..., H, T) of heads, (..., T) of layer
    key_width: int  # K
    identities: dict[Level, float]  # ||I||; 0 where the output is not D wide
    eps: float  # rounding of the dtype that it was computed in
    rows: Bool[np.ndarray, "*batch T"]  # the query rows that are judged, if not empty


def measure(
    x: Float[ArrayLike, "*batch T D"],
    weights: AttentionWeights,
    *,
    score_bias: ScoreBias | None = None,
    norm: Norm = "spectral",
    residual: bool = True,
    levels: Sequence[Level] = ("head", "layer"),
    engine: Engine = "closed_form",
    max_memory: str | int = "1GiB",
    rows: Bool[ArrayLike, "*batch T"] | None = None,
    empty_rows: EmptyRows = "error",
) -> Measured:
    """Measure what the statements speak of.

    Args:
        x: Inputs, shape (..., T, D).
        weights: The layer.
        score_bias: What is added to the scores; nothing by default.
        norm: ``"spectral"`` or ``"frobenius"``.
        residual: Whether the layer adds its input to its output, as in Eq. 8. A head or
            layer whose output is not as wide as the input is taken without.
        levels: Each ``"head"`` by itself, the whole ``"layer"``, or both.
        engine: What measures the exact side. In closed form ``eq6_middle`` is an
            identity; autodiff tests it.
        max_memory: Budget for the work arrays of each device.
        rows: Which query rows are judged, shape (..., T); all by default.
        empty_rows: Whether rows with nothing to attend to are an ``"error"`` (those
            left out by ``rows`` are none), or left out too: ``"skip"``.

    Returns:
        The measurements.

    Raises:
        ValueError: If an option is none of its choices, the inputs do not fit (see
            `sensitivity.profile`), or a norm overflows.
    """
    check_choice("norm", norm, Norm)
    check_choice("engine", engine, Engine)
    check_choice("empty_rows", empty_rows, EmptyRows)
    for level in levels:
        check_choice("level", level, Level)
    rows = judged_rows(x, weights, score_bias, rows, empty_rows)
    plan_memory(
        np.shape(x),
        widest((as_array("x", x), weights)),
        weights,
        norm=norm,
        levels=levels,
        engine=engine,
        max_memory=max_memory,
    )  # all of it, before any of it is measured
    shared: Any = {"score_bias": score_bias, "norm": norm, "max_memory": max_memory}
    shared["empty_rows"] = "skip"  # what is judged has been checked
    where_it_fits = None if residual else False
    heads = profile(x, weights, residual=where_it_fits, **shared)
    of_heads = Means(*heads[: len(Means._fields)])
    means, identities = {}, {}
    for level in levels:
        per_head = level == "head"
        identity = residual and has_identity(weights, level)
        if engine == "autodiff":
            options = shared | {"engine": engine, "per_head": per_head}
            means[level] = means_of(
                path_norms(x, weights, residual=identity, **options)
            )
        elif per_head:
            means[level] = of_heads
        elif weights.heads == 1:
            means[level] = Means(*(field[..., 0, :] for field in of_heads))
        else:
            means[level] = layer_means(x, weights, residual=where_it_fits, **shared)
        size = 1.0 if norm == "spectral" else weights.model_width**0.5
        identities[level] = size * identity
    eps = float(np.finfo(np.asarray(heads.value_mean).dtype).eps)
    as_float64 = functools.partial(np.asarray, dtype=np.float64)
    heads, means = jax.tree.map(as_float64, (heads, means))
    return Measured(heads, means, weights.key_width, identities, eps, rows)


def plan_memory(
    shape: tuple[int, ...],
    dtype: np.dtype,
    weights: AttentionWeights,
    *,
    norm: Norm = "spectral",
    levels: Sequence[Level] = ("head", "layer"),
    engine: Engine = "closed_form",
    max_memory: str | int = "1GiB",
) -> int:
    """What `measure` would take with the same arguments, without doing it.

    Args:
        shape: Of the inputs, (..., T, D).
        dtype: What is computed in.
        weights: The layer.
        norm: ``"spectral"`` or ``"frobenius"``.
        levels: ``"head"``, ``"layer"``, or both.
        engine: ``"closed_form"`` or ``"autodiff"``.
        max_memory: Budget for the work arrays of each device.

    Returns:
        Estimated bytes of work arrays.

    Raises:
        ArgumentError: If that is more than the budget, about ``max_memory``.
    """
    x = jax.ShapeDtypeStruct(shape, np.dtype(dtype))
    size = functools.partial(
        _bytes_of, weights, norm, tuple(levels), engine, max_memory
    )
    with saying_what_fits(x, size):
        return size(x)


def _bytes_of(
    weights: AttentionWeights,
    norm: Norm,
    levels: Sequence[Level],
    engine: Engine,
    max_memory: str | int,
    x: jax.ShapeDtypeStruct,
) -> int:
    """Work arrays of all that `measure` runs; refused if more than the budget."""
    if weights.form is not None:
        plans = [plan_form(x, weights, norm, max_memory)]
        if "layer" in levels:
            plans.append(plan_autodiff(x, weights, False, max_memory))
        return max(plan.size for plan in plans)
    plans = [plan_heads(x, weights, norm, max_memory)]
    if engine == "autodiff":
        for level in levels:
            plans.append(plan_autodiff(x, weights, level == "head", max_memory))
    elif weights.heads > 1 and "layer" in levels:
        plans.append(plan_layer(x, weights, norm, max_memory))
    return max(plan.size for plan in plans)


def judge(measured: Measured, level: Level) -> list[Judged]:
    """Judge every statement in every row.

    With ``s_i`` 16 roundings of the row's scale (`Profile.rounding_scale`), and s that
    divided by T, or T - 1, where the statement divides its sum by it (and what
    `Profile.covariance_error` adds to it for ``query_covariance`` and the tight
    diagonal line), a statement holds where exact <= bound (1 + r) + s, an equality
    where the difference is as small on both sides: rounding never makes a verdict. The
    two sides may round a score apart, and so a weight by that multiple of it: r is 16
    roundings of the row's largest score (`Profile.score_scale`; of a layer that of its
    heads), and at least 1e-9 (float32: 1e-4). The ratio is (exact + s) / (bound + s).
    This differs from "ratio <= 1 + r" only where the bound is so small that an excess
    of s, a rounding error, shows in the ratio.

    Args:
        measured: What was measured.
        level: Each ``"head"`` by itself, or the whole ``"layer"``.

    Returns:
        The statements in the order of `STATEMENTS`. Counted are rows that are judged
        and have something to attend to; means and maxima over i run over them.
    """
    per_head = level == "head"
    heads: Any = measured.heads
    kept = _kept(measured, per_head)
    eps = measured.eps
    both = sides(
        measured.means[level],
        heads,
        measured.key_width,
        measured.identities[level],
        per_head,
        kept,
    )
    scores = heads.score_scale if per_head else heads.score_scale.max(-2)
    slack = np.maximum(1e-9 if eps < 1e-12 else 1e-4, 16 * eps * scores)
    scale = 16 * eps * pooled(heads.rounding_scale, per_head)
    others = pooled(heads.other_steps, per_head) > 0
    T = scale.shape[-1]
    scales = {name: scale * rounding_share(name, T) for name in STATEMENTS}
    for name in OF_COVARIANCES:
        scales[name] = scales[name] + pooled(heads.covariance_error, per_head)
    return [
        _verdict(name, *both[name], scales[name], kept, others, per_head, slack)
        for name in STATEMENTS
    ]


def _empty(measured: Measured, per_head: bool) -> Bool[np.ndarray, "*batch T"]:
    """Rows with nothing to attend to, in all heads where it is the layer's."""
    heads: Any = measured.heads
    return pooled(heads.diagonal_weight + heads.off_diagonal_weight, per_head) == 0


def _kept(measured: Measured, per_head: bool) -> Bool[np.ndarray, "*batch T"]:
    """The rows that are judged: chosen, and not empty."""
    rows = measured.rows[..., None, :] if per_head else measured.rows
    return rows & ~_empty(measured, per_head)


def _verdict(
    name: str,
    exact: np.ndarray,
    bound: np.ndarray,
    scale: np.ndarray,
    kept: np.ndarray,
    others: np.ndarray,
    per_head: bool,
    slack: np.ndarray,
) -> Judged:
    if exact.shape != scale.shape:
        scale = mean_over(kept, scale)
        slack = np.where(kept, slack, 0).max(-1, keepdims=True)
        kept = np.asarray(kept.any(-1, keepdims=True))
    excess = exact - bound
    if per_head and name in _EQUALITIES:
        excess = np.abs(excess)
    counted = kept & others if name in OFF_DIAGONAL else kept
    whole = bound + scale
    nothing = np.where(exact > 0, np.inf, 1.0)  # the ratio where the bound is zero
    return Judged(
        statement=name,
        exact=exact,
        bound=bound,
        ratio=np.divide(exact + scale, whole, out=nothing, where=whole > 0),
        holds=excess <= slack * bound + scale,
        counted=counted,
    )


def check_bounds(
    x: Float[ArrayLike, "*batch T D"],
    weights: AttentionWeights,
    *,
    score_bias: ScoreBias | None = None,
    norm: Norm = "spectral",
    residual: bool | None = None,
    level: Level = "head",
    engine: Engine = "closed_form",
    max_memory: str | int = "1GiB",
    rows: Bool[ArrayLike, "*batch T"] | None = None,
    empty_rows: EmptyRows = "error",
) -> pd.DataFrame:
    """Which published bounds hold on a layer, and how tightly.

    Args:
        x: Inputs, shape (..., T, D); leading axes are samples and nodes.
        weights: The layer.
        score_bias: What is added to the scores; nothing by default.
        norm: ``"spectral"`` or ``"frobenius"``.
        residual: Whether the layer adds its input to its output, as in Eq. 8. By
            default it does where the output, of a head or of the layer, is as wide as
            the input.
        level: Each ``"head"`` by itself, or the whole ``"layer"``.
        engine: What measures the exact side, ``"closed_form"`` or ``"autodiff"``.
        max_memory: Budget for the work arrays of each device.
        rows: Which query rows are judged, True or False, shape (..., T): False for
            padding. All by default.
        empty_rows: Whether rows with nothing to attend to are an ``"error"`` (those
            left out by ``rows`` are none), or left out too: ``"skip"``.

    Returns:
        One row per statement, with the columns ``statement``, ``rows`` (query rows of
        all samples, nodes and heads that it speaks of), ``rows_holding``,
        ``worst_ratio`` and ``median_ratio`` of exact / bound (empty without rows). A
        row holds where exact <= bound (1 + 1e-9) + s (float32: 1e-4; more where scores
        are so large that they round by more), s the rounding scale that the ratio has
        on both sides; so a row may hold with a larger ratio than that, but only where
        its bound is so small that the excess is rounding.
        ``attrs["identity"]`` says whether the diagonal lines have the identity: it is
        left out where the output is not as wide as the input. ``attrs["empty_rows"]``
        counts the rows, of those chosen, that were left out because they had nothing
        to attend to.

    Raises:
        ValueError: If an option is none of its choices, or inputs or layer do not fit
            (see `sensitivity.profile`), ``residual`` is asked for and the output is not
            as wide as the input, or ``rows`` selects none.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> kernel = rng.normal(size=(3, 16, 1, 16)) / 4
        >>> w = AttentionWeights(*kernel)
        >>> table = check_bounds(rng.normal(size=(96, 16)), w).set_index("statement")
        >>> table.loc["eq8_off_diagonal", ["rows", "rows_holding"]].tolist()
        [96, 96]
        >>> bool(table.loc["eq8_diagonal_as_printed", "worst_ratio"] > 1)  # not a bound
        True

    References:
        arXiv 2602.10956, Eq. 5-8 and 24-26; `sensitivity.equations`.
    """
    check_choice("level", level, Level)
    check_weights(weights)
    if residual:
        check_residual(weights, level == "head")
    with_residual = residual is None or bool(residual)
    measured = measure(
        x,
        weights,
        score_bias=score_bias,
        norm=norm,
        residual=with_residual,
        levels=(level,),
        engine=engine,
        max_memory=max_memory,
        rows=rows,
        empty_rows=empty_rows,
    )
    lines = []
    for one in judge(measured, level):
        ratios = one.ratio[one.counted]
        lines.append(
            {
                "statement": one.statement,
                "rows": ratios.size,
                "rows_holding": int(one.holds[one.counted].sum()),
                "worst_ratio": ratios.max() if ratios.size else np.nan,
                "median_ratio": np.median(ratios) if ratios.size else np.nan,
            }
        )
    table = pd.DataFrame(lines)
    per_head = level == "head"
    chosen = measured.rows[..., None, :] if per_head else measured.rows
    table.attrs["empty_rows"] = int((chosen & _empty(measured, per_head)).sum())
    table.attrs["identity"] = identity_note(weights, level, with_residual)
    return table


def has_identity(weights: AttentionWeights, level: Level) -> bool:
    """Whether the output of a head, or the layer, is as wide as the input."""
    width = weights.head_output_width if level == "head" else weights.output_width
    return width == weights.model_width


def identity_note(
    weights: AttentionWeights, level: Level, residual: bool = True
) -> str:
    """Whether the diagonal lines of a layer have the identity, in words.

    Args:
        weights: The layer.
        level: Head or layer.
        residual: Whether the layer has a residual.

    Returns:
        A sentence.
    """
    if residual and has_identity(weights, level):
        return f"diagonal lines of the {level} have the identity: its output is D wide"
    why = f"its output is not as wide as D = {weights.model_width}"
    why = why if residual else "the layer has no residual"
    return (
        f"diagonal lines of the {level} are judged without the identity and ||I||: "
        + why
    )
