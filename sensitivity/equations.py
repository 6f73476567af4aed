r"""The statements: Eq. 5-8 as printed and corrected, and tighter rungs.

One head, row i, E the mean over j = 1..T, alpha the attention weights:

==================================  ==================================================
``eq5``                             E ||value|| = ||W^V|| / T
``eq6_middle``                      E ||key|| = sum_j alpha_ij ||v_j - h_i||
                                    ||W^K^T q_i|| / (T sqrt(K))
``eq6``                             E ||key|| <= C_K,i / (T sqrt(K))
``eq7``                             E ||query|| <= C_Q,i / (T sqrt(K))
``eq8_off_diagonal``                sum_{j != i} ||J_ij|| / T
                                    <= (||W^V|| + C_K,i / sqrt(K)) / T
``eq8_off_diagonal_conditional``    mean over the T - 1 steps j != i of ||J_ij||
                                    <= sum_{j != i} alpha_ij / (T - 1)
                                    (||W^V|| + C_K,i / sqrt(K))
``eq8_diagonal_as_printed``         mean_i ||I + J_ii|| <= ||I|| + mean_i alpha_ii
                                    (||W^V|| + (max_i C_K,i + max_i C_Q,i) / sqrt(K))
``eq8_diagonal_as_printed_per_row`` the same row by row: no means, no maxima
``eq8_diagonal_corrected``          ||I + J_ii|| <= ||I|| + alpha_ii
                                    (||W^V|| + C_K,i / sqrt(K)) + C_Q,i / sqrt(K)
``eq8_off_diagonal_tight``          sum_{j != i} ||J_ij|| / T <= sum_{j != i} alpha_ij
                                    (||W^V|| + ||v_j - h_i|| ||W^K^T q_i|| / sqrt(K))
                                    / T
``eq8_diagonal_tight``              ||I + J_ii|| <= ||I|| + alpha_ii (||W^V||
                                    + ||v_i - h_i|| ||W^K^T q_i|| / sqrt(K))
                                    + the bound ``query_covariance``
``query_max`` ...                   ||J^query_ii|| <= C_Q,i / sqrt(K), and the rungs
                                    below it
==================================  ==================================================

The two printed diagonal lines are **not** true: the query path carries no factor
alpha_ii. They stand beside the corrected line, never in its place. For a layer the
bounds of its heads add up (||I|| once); ``eq5`` and ``eq6_middle`` are inequalities.

The two tight lines are what the triangle inequality alone gives, each path with its own
norm (the query path with a bound of it): they do not loosen with T.

Rounding errors of a row are multiples of its rounding scale s_i. Statements on sums
that are divided by T carry s_i / T, the conditional one s_i / (T - 1), all others s_i;
those with ``query_covariance`` carry the error of its covariances on top.
"""

import numpy as np
from jaxtyping import Bool, Float

from sensitivity.profiles import Means, Profile

STATEMENTS = (
    "eq5",
    "eq6_middle",
    "eq6",
    "eq7",
    "eq8_off_diagonal",
    "eq8_off_diagonal_conditional",
    "eq8_diagonal_as_printed",
    "eq8_diagonal_as_printed_per_row",
    "eq8_diagonal_corrected",
    "eq8_off_diagonal_tight",
    "eq8_diagonal_tight",
    "query_max",
    "query_weighted",
    "query_centred",
    "query_covariance",
)

_WITH_IDENTITY = (
    "eq8_diagonal_as_printed",
    "eq8_diagonal_as_printed_per_row",
    "eq8_diagonal_corrected",
    "eq8_diagonal_tight",
)
_DIVIDED_BY_T = (
    *("eq5", "eq6_middle", "eq6", "eq7", "eq8_off_diagonal"),
    "eq8_off_diagonal_tight",
)
OFF_DIAGONAL = tuple(name for name in STATEMENTS if "off_diagonal" in name)
OF_COVARIANCES = ("eq8_diagonal_tight", "query_covariance")


def rounding_share(statement: str, T: int) -> float:
    """What part of a row's rounding scale a statement carries."""
    if statement in _DIVIDED_BY_T:
        return 1 / T
    if statement == "eq8_off_diagonal_conditional":
        return 1 / max(T - 1, 1)
    return 1.0


def pooled(field: np.ndarray, per_head: bool) -> np.ndarray:
    """Heads as they are, (..., H, R), or added up for the layer, (..., R)."""
    return field if per_head else field.sum(-2)


def mean_over(
    kept: Bool[np.ndarray, "*batch T"], field: Float[np.ndarray, "*batch T"]
) -> Float[np.ndarray, "*batch 1"]:
    """Means over the rows that are judged, 0 where none is."""
    rows = np.maximum(kept.sum(-1, keepdims=True), 1)
    return np.where(kept, field, 0).sum(-1, keepdims=True) / rows


def sides(
    means: Means,
    heads: Profile,
    K: int,
    identity: float,
    per_head: bool,
    kept: Bool[np.ndarray, "*batch T"],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Exact side and bound of every statement, row by row: R is T, or 1."""
    # identity: ||I||, or 0 where the diagonal lines have no identity. kept: the rows
    # that are judged; a mean or maximum over i runs over them.
    T = heads.value_norm.shape[-1]
    value, own_value = heads.value_norm, heads.own_value_norm
    key, query = heads.key_constant / K**0.5, heads.query_constant / K**0.5
    own, others = heads.diagonal_weight, heads.off_diagonal_weight
    rows = kept if per_head else kept[..., None, :]
    most = sum(
        np.where(rows, field, 0).max(-1, keepdims=True)
        for field in (own_value, key, query)
    )
    rest = max(T - 1, 1)
    statements = {
        "eq5": (means.value_mean, value / T),
        "eq6_middle": (means.key_mean, heads.key_mean),
        "eq6": (means.key_mean, key / T),
        "eq7": (means.query_mean, query / T),
        "eq8_off_diagonal": (means.off_diagonal_mean, (value + key) / T),
        "eq8_off_diagonal_conditional": (
            means.off_diagonal_mean * T / rest,
            heads.value_off_diagonal_mean * T / rest + others / rest * key,
        ),
        "eq8_diagonal_as_printed": (
            mean_over(kept, np.asarray(means.diagonal_norm)),
            mean_over(rows, np.asarray(own * most)),
        ),
        "eq8_diagonal_as_printed_per_row": (
            means.diagonal_norm,
            own * (own_value + key + query),
        ),
        "eq8_diagonal_corrected": (
            means.diagonal_norm,
            own * (own_value + key) + query,
        ),
        "eq8_off_diagonal_tight": (
            means.off_diagonal_mean,
            heads.value_off_diagonal_mean + heads.key_off_diagonal_mean,
        ),
        "eq8_diagonal_tight": (
            means.diagonal_norm,
            own * own_value + heads.key_diagonal_norm + heads.query_covariance,
        ),
        "query_max": (means.query_norm, query),
        "query_weighted": (means.query_norm, heads.query_weighted),
        "query_centred": (means.query_norm, heads.query_centred),
        "query_covariance": (means.query_norm, heads.query_covariance),
    }
    return {
        name: (exact, pooled(bound, per_head) + identity * (name in _WITH_IDENTITY))
        for name, (exact, bound) in statements.items()
    }
