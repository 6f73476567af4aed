"""How much every time step moves every other: norms by path, by either engine."""

import functools
from typing import Any

from jaxtyping import Array, ArrayLike, Float

from sensitivity._closed_form import (
    closed_form_path_norms,
    plan_heads,
    plan_layer,
)
from sensitivity._form_norms import form_path_norms, plan_form
from sensitivity._formed import row_of_form
from sensitivity._inputs import EmptyRows, run
from sensitivity._residual import adds_identity
from sensitivity.autodiff import block_path_norms, plan_autodiff, row_of_layer
from sensitivity.memory import Plan, saying_what_fits
from sensitivity.norms import Engine, Norm, PathNorms, check_choice
from sensitivity.weights import AttentionWeights, ScoreBias

_FORMED = 2**10  # numbers of a block up to which forming it is as fast


def path_norms(
    x: Float[ArrayLike, "*batch T D"],
    weights: AttentionWeights,
    *,
    score_bias: ScoreBias | None = None,
    norm: Norm = "spectral",
    residual: bool | None = None,
    engine: Engine = "closed_form",
    per_head: bool = False,
    max_memory: str | int = "1GiB",
    empty_rows: EmptyRows = "error",
) -> PathNorms:
    r"""Norms of the Jacobian of every output step by every input step, path by path.

    .. math:: J_{ij} = \partial o_i / \partial x_j
        = J^{value}_{ij} + J^{key}_{ij} + J^{query}_{ij}

    Spectral norms of a layer of several heads take longest, many times the Frobenius
    ones. A call of more than ten seconds says so in the log ``sensitivity``, and then
    once a minute.

    The closed form agrees with automatic differentiation to 1e-12 relative plus the
    rounding scale of the layer (1e-9 for spectral norms of several mixed heads). Whole
    layers are computed in float64, and returned in the precision of the input.

    The closed form has first derivatives in x and the weights, by reverse mode, under
    `jax.jit` and `jax.vmap` too. They are right wherever a norm is smooth: it is not
    where it is zero (there they are 0), nor, for spectral norms, where the two largest
    singular values meet.

    Args:
        x: Inputs, shape (..., T, D); leading axes are samples and nodes.
        weights: The layer; one with a form costs much more, as its blocks are formed.
        score_bias: What is added to the scores; nothing by default.
        norm: ``"spectral"`` (the largest singular value) or ``"frobenius"``.
        residual: Whether the total is that of ``x + attention(x)``: the identity is
            added where i = j. By default it is where the output is as wide as the
            input, as in Eq. 8 and in `check_bounds`.
        engine: ``"closed_form"``, or ``"autodiff"``, the slow reference.
        per_head: Whether to return each head by itself, its block of ``out`` folded in.
        max_memory: Budget for the work arrays, such as ``"512MiB"``, on top of the
            result's four tables.
        empty_rows: Whether rows with nothing to attend to are an ``"error"``, or are
            taken as without attention, ``"skip"``: their norms are 0, but for the
            identity of a residual.

    Returns:
        Norms per pair (i, j), shape (..., T, T), or (..., H, T, T) per head.

    Raises:
        ValueError: If an option is none of its choices, shapes or types do not fit, a
            value is not finite, a head is smaller than its norms can be, a row has
            nothing to attend to, ``residual`` is asked for and the output is not as
            wide as the input, or ``max_memory`` is too little.

    Example:
        >>> import numpy as np
        >>> zero = np.zeros((2, 1, 2))  # no query, no key: uniform attention
        >>> w = AttentionWeights(query=zero, key=zero, value=3 * np.eye(2)[:, None])
        >>> norms = path_norms(np.eye(2), w, residual=False)
        >>> norms.total.tolist()  # ||W^V|| / T
        [[1.5, 1.5], [1.5, 1.5]]

    References:
        arXiv 2602.10956, Eq. 4 and 10-22.
    """
    check_choice("norm", norm, Norm)
    check_choice("engine", engine, Engine)
    check_choice("empty_rows", empty_rows, EmptyRows)
    if engine == "autodiff":
        compute = functools.partial(block_path_norms, row_of_layer)
    elif isinstance(weights, AttentionWeights) and weights.form is not None:
        compute = functools.partial(block_path_norms, row_of_form)
        if _is_large(weights) and (per_head or weights.heads == 1):
            compute = form_path_norms
    else:
        compute = closed_form_path_norms

    def norms(x: Array, weights: AttentionWeights, bias: ScoreBias) -> PathNorms:
        adds = adds_identity(residual, weights, per_head)

        def plan(x: Any) -> Plan:
            if compute is form_path_norms:
                return plan_form(x, weights, norm, max_memory)
            if compute is not closed_form_path_norms:
                return plan_autodiff(x, weights, per_head, max_memory)
            mixed = not per_head and weights.heads > 1
            own = plan_layer if mixed else plan_heads
            return own(x, weights, norm, max_memory)

        with saying_what_fits(x, plan):
            return compute(x, weights, bias, norm, adds, per_head, max_memory)

    words = f"{norm} norms of {'heads' if per_head else 'the layer'} by {engine}"
    return run(norms, x, weights, score_bias, empty_rows, words, forms=True)


def _is_large(weights: AttentionWeights) -> bool:
    """Whether blocks are too large to be formed; a norm of values has no other way."""
    form = weights.form
    known = form is not None and form.norm_scale is None
    return known and weights.model_width * weights.head_output_width > _FORMED
