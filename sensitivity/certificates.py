r"""Bounds on the whole Jacobian of an attention layer, beside its exact norm.

With :math:`A_n = W^{Q\top}_n W^K_n / \sqrt K`, tokens no longer than R, c the largest
column sum of the attention weights of head n, and

.. math:: a = \|A_n\| R^2, \qquad
    \kappa = (\|A_n\| R + \|W^{K\top}_n b^Q_n\| / \sqrt K) \, R,

the perturbed output of a head is :math:`W^V` applied to :math:`\sum_j \alpha_{ij} dx_j`
(norm at most :math:`\sqrt c`, as rows add up to 1), plus the key path (Cauchy-Schwarz
under :math:`\alpha_i`: at most :math:`\kappa \sqrt c`), plus the query path, a
covariance under :math:`\alpha_i` (at most a). The bounds here add these three up.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, ArrayLike, Float

from sensitivity._devices import program
from sensitivity._inputs import as_score_bias, run
from sensitivity._lanczos import top_eigenvalue
from sensitivity._residual import check_residual
from sensitivity._streaming import over_samples
from sensitivity.attention import attend_rows, attention_weights, project
from sensitivity.norms import length, power_of_two, root
from sensitivity.weights import AttentionWeights, ScoreBias

CERTIFICATES = ("column_sum", "any_attention", "castin", "mean_field")


def certificates(
    x: Float[ArrayLike, "*batch T D"],
    weights: AttentionWeights,
    score_bias: ScoreBias | None = None,
    residual: bool = False,
) -> pd.DataFrame:
    r"""Which bounds on the spectral norm of a whole layer's Jacobian hold, how tightly.

    The Jacobian is that of all outputs by all inputs, :math:`(T O) \times (T D)`: all
    paths, heads and the output projection. Bounds, for one head (:math:`\|W^V\|` is
    :math:`\|W^O_n W^V_n\|`):

    ================= ==================================================== ============
    certificate       bound                                                domain
    ================= ==================================================== ============
    ``column_sum``    :math:`\|W^V\| (\sqrt c (1 + \kappa) + a)`           any layer
    ``any_attention`` the same with c = T, the most there can be           any layer
    ``castin``        :math:`\sqrt 3 \|W^V\|
                      \sqrt{a^2 + T (4 \kappa^2 + 1)}`                     any layer
    ``mean_field``    :math:`\|W^V\| (1 + 3 \kappa) e^{2 \kappa}`          no score bias
    ================= ==================================================== ============

    Castin et al. state the last two for one head without biases, masks and residual
    (:math:`\kappa = a`). What goes beyond that is proven the same way: :math:`b^K`
    shifts the scores of a row alike and :math:`b^V` all outputs alike, so neither moves
    the Jacobian; :math:`b^Q` enters the key path only, by :math:`\kappa`; their first
    bound takes from the attention weights that rows add up to 1, whatever the scores;
    the second that :math:`\alpha_{ij} \le e^{2 \kappa} / T`, which a mask or a score
    bias breaks. Heads add up; without an output projection, where they stand side by
    side, their squares do. A residual adds 1.

    Args:
        x: Inputs, shape (..., T, D); leading axes are samples.
        weights: The layer.
        score_bias: What is added to the scores; nothing by default.
        residual: Whether the layer is ``x + attention(x)``.

    Returns:
        A row for each sample and certificate, with the columns ``sample`` (its number,
        leading axes flattened), ``certificate``, ``exact`` (by Lanczos, to 1e-9 in
        float64), ``bound``, ``ratio`` of exact / bound (1 where both are 0), ``holds``
        (exact <= bound within 1e-9, in float32 1e-4; missing where there is no bound)
        and ``applies``: ``"as published"``, ``"extended to ..."``, or ``"no: ..."``,
        where bound and ratio are NaN.

    Raises:
        ValueError: If shapes or types do not fit, a value is not finite, a row has
            nothing to attend to, or ``residual`` is asked for and the output is not as
            wide as the input.

    Example:
        >>> import numpy as np
        >>> zero = np.zeros((2, 1, 2))  # no query, no key: uniform attention
        >>> w = AttentionWeights(query=zero, key=zero, value=3 * np.eye(2)[:, None])
        >>> table = certificates(np.eye(2), w).set_index("certificate")
        >>> table["exact"].round(6).tolist()
        [3.0, 3.0, 3.0, 3.0]
        >>> table["bound"].round(6).tolist()
        [3.0, 4.242641, 7.348469, 3.0]

    References:
        Castin, Ablin and Peyre, `How smooth is attention?
        <https://arxiv.org/abs/2312.14820>`_, 2024 (``castin``, ``mean_field``);
        ``column_sum`` and ``any_attention`` are this project's.
    """
    bias = as_score_bias(score_bias)

    def measure(x: Array, weights: AttentionWeights, bias: ScoreBias) -> _Measured:
        if residual:
            check_residual(weights, per_head=False)
        return _measured(x, weights, bias, residual)

    measured = run(measure, x, weights, bias, words="certificates", forms=True)
    exact = np.ravel(np.asarray(measured.exact))
    slack = 1e-9 if exact.dtype == np.float64 else 1e-4
    exact = exact.astype(np.float64)
    column = np.asarray(measured.column, np.float64).reshape(-1, weights.heads)
    tokens = np.asarray(x, np.float64)
    tokens = tokens.reshape(-1, *tokens.shape[-2:])
    bounds = _bounds(tokens, weights, column)
    domains = _domains(tokens.shape[1], weights, bias, residual)
    tables = []
    for name, bound in bounds.items():
        counts, applies = domains[name]
        bound = (bound + residual) if counts else np.full_like(bound, np.nan)
        holds = pd.array(exact <= bound * (1 + slack), dtype="boolean")
        ratio = np.divide(exact, bound, out=np.ones_like(exact), where=bound != 0)
        columns = {
            "sample": np.arange(len(exact)),
            "certificate": name,
            "exact": exact,
            "bound": bound,
            "ratio": ratio,
            "holds": holds if counts else pd.array([pd.NA] * len(exact), "boolean"),
            "applies": applies,
        }
        tables.append(pd.DataFrame(columns))
    table = pd.concat(tables, ignore_index=True)
    return table.sort_values("sample", kind="stable", ignore_index=True)


def operator_norm(
    function: Callable[[Float[Array, "..."]], Float[Array, "..."]],
    x: Float[Array, "..."],
) -> Float[Array, ""]:
    r"""The spectral norm of a function's Jacobian, which is never formed.

    .. math:: \|J\|_2 = \sqrt{\lambda_{max}(J^\top J)}

    by Lanczos on Jacobian-vector and vector-Jacobian products.

    Args:
        function: From one array to one array; traceable by jax.
        x: Where.

    Returns:
        The norm; tests hold it to 1e-9 of a dense decomposition in float64.
    """
    _, push = jax.linearize(function, x)
    pull = jax.linear_transpose(push, x)
    # In units of the Jacobian's own size: squares neither vanish nor overflow.
    probe = np.random.default_rng(0).normal(size=x.shape) / max(x.size, 1) ** 0.5
    unit = power_of_two(length(push(jnp.asarray(probe, x.dtype)).ravel()))

    def apply(vector: Float[Array, " N"]) -> Float[Array, " N"]:
        (image,) = pull(push(vector.reshape(x.shape)) / unit)
        return image.ravel() / unit

    return unit * root(top_eigenvalue(apply, (x.size,), x.dtype))


class _Domain(NamedTuple):
    counts: bool  # whether the bound speaks of the layer
    applies: str  # in words


class _Measured(NamedTuple):
    exact: Float[Array, "*batch"]  # norm of the layer's Jacobian
    column: Float[Array, "*batch H"]  # largest column sum of each head's weights


@program(3)
def _measured(
    x: Array, weights: AttentionWeights, score_bias: ScoreBias, residual: bool
) -> _Measured:
    rows = jnp.arange(x.shape[-2])

    def sample(x: Array, bias: ScoreBias) -> _Measured:
        def layer(x: Array) -> Array:
            y = attend_rows(x, x, x, weights, bias, rows)
            return x + y if residual else y

        q = project(x, weights.query, weights.query_bias)
        k = project(x, weights.key, weights.key_bias)
        alpha, _ = attention_weights(q, k, bias, rows)
        return _Measured(operator_norm(layer, x), alpha.sum(-2).max(-1))

    return over_samples(sample, x, score_bias)


def _bounds(
    x: Float[np.ndarray, "B T D"],
    weights: AttentionWeights,
    column: Float[np.ndarray, "B H"],
) -> dict[str, Float[np.ndarray, " B"]]:
    """Every bound as if it applied, without the residual's 1."""
    wide = {
        name: np.moveaxis(np.asarray(getattr(weights, name), np.float64), 1, 0)
        for name in ("query", "key", "value")
    }  # (H, D, K)
    root_K, T = weights.key_width**0.5, x.shape[1]
    product = np.linalg.norm(wide["query"] @ wide["key"].mT, 2, axis=(1, 2)) / root_K
    offset = np.zeros(weights.heads)
    if weights.query_bias is not None:
        bias = np.asarray(weights.query_bias, np.float64)
        offset = np.linalg.norm(np.einsum("hdk,hk->hd", wide["key"], bias), axis=1)
    folded = wide["value"]
    if weights.out is not None:
        folded = folded @ np.asarray(weights.out, np.float64)
    value = np.linalg.norm(folded, 2, axis=(1, 2))
    R = np.linalg.norm(x, axis=-1).max(-1)[:, None]  # (B, 1)
    a = product * R**2
    kappa = (product * R + offset / root_K) * R
    with np.errstate(over="ignore"):  # an infinite bound is one
        growth = np.exp(2 * kappa)
        per_head = {
            "column_sum": np.sqrt(column) * (1 + kappa) + a,
            "any_attention": T**0.5 * (1 + kappa) + a,
            "castin": np.sqrt(3 * (a**2 + T * (4 * kappa**2 + 1))),
            "mean_field": (1 + 3 * kappa) * growth,
        }
    # A head without values moves nothing, however large the rest is.
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = {k: np.where(value > 0, value * b, 0) for k, b in per_head.items()}
        add = np.hypot if weights.out is None else np.add
        found = {name: add.reduce(bound, axis=-1) for name, bound in scaled.items()}
    return found


def _domains(
    T: int, weights: AttentionWeights, score_bias: ScoreBias, residual: bool
) -> dict[str, _Domain]:
    """Whether each certificate speaks of such a layer."""
    if weights.form is not None:
        no = _Domain(False, f"no: attention with {', '.join(weights.form.names)}")
        return dict.fromkeys(
            ("column_sum", "any_attention", "castin", "mean_field"), no
        )
    moved = not _shifts_rows_alike(T, score_bias)
    beyond = {
        "several heads": weights.heads > 1,
        "a query bias": weights.query_bias is not None,
        "key and value biases": weights.key_bias is not None
        or weights.value_bias is not None,
        "a score bias": moved,
        "a residual": residual,
    }
    words = [word for word, there in beyond.items() if there]
    derived = _Domain(True, "as derived")
    extended = f"extended to {', '.join(words)}" if words else "as published"
    published, outside = _Domain(True, extended), "no: masks and score biases"
    return {
        "column_sum": derived,
        "any_attention": derived,
        "castin": published,
        "mean_field": _Domain(False, outside) if moved else published,
    }


def _shifts_rows_alike(T: int, score_bias: ScoreBias) -> bool:
    """Whether a score bias adds one number to all scores of a row: it does nothing."""
    one = np.where(np.eye(T, dtype=bool), np.float64(score_bias.diagonal), 0.0)
    if score_bias.causal:
        one = np.where(np.tri(T, dtype=bool), one, -np.inf)
    away = np.abs(np.subtract.outer(np.arange(T), np.arange(T)))
    if score_bias.window is not None:
        one = np.where(away < score_bias.window, one, -np.inf)
    if score_bias.slopes is not None:
        one = one - np.multiply.outer(np.asarray(score_bias.slopes), away)
    if score_bias.array is not None:
        one = one + np.asarray(score_bias.array, np.float64)
    return bool((one.max(-1) == one.min(-1)).all())
