"""From maps of attention and of path norms to numbers: pure functions of arrays.

A *row* is a query step i of one sample. Off the diagonal, means are over the T - 1
other steps.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

PATHS = ("value", "key", "query", "total")
RESIDUAL = "total_with_residual_diagonal"
DESCRIPTIONS = {
    "diagonal_share": "mean attention weight on the diagonal, tr A / T",
    "uniform_share": "1/T",
    "diagonal_excess": "mean weight on the diagonal over the mean weight off it",
    "entropy": "mean entropy of a row of attention over that of uniform attention, "
    "the log of the number of steps it may attend to",
    "largest_column_mean": "share of all rows' attention that the most attended step "
    "of a sample gets, mean over samples",
    "..._diagonal": "norm of the path's Jacobian at j = i, mean over rows",
    "..._off_diagonal": "its mean over the T - 1 steps j != i, mean over rows",
    RESIDUAL: "norm of I + J_ii, mean over rows",
    "parroting_median": "norm of J_ii over the mean norm of J_ij, j != i, without the "
    "residual: median over rows",
    "parroting_mean": "the same ratio: mean over rows",
    "parroting_with_residual_median": "the same with I + J_ii: median over rows",
    "parroting_with_residual_mean": "the same with I + J_ii: mean over rows",
    "rows": "query steps x samples",
    "rows_without_ratio": "rows whose off-diagonal norms are all 0: left out of it",
}
"""What each quantity is. Of a layer as a whole attention is the mean over heads, and
norms are those of the sum over heads, with the output projection."""


class Parroting(NamedTuple):
    r"""How much more a step moves its own output than another step does.

    .. math:: \|J_{ii}\| \Big/ \frac{1}{T - 1} \sum_{j \ne i} \|J_{ij}\|

    Attributes:
        median: Over rows.
        mean: Over rows.
        left_out: Rows whose off-diagonal norms are all zero: they have no ratio, and
            are in neither number.
    """

    median: float
    mean: float
    left_out: int


def diagonal(table: Float[np.ndarray, "*batch T T"]) -> Float[np.ndarray, "*batch T"]:
    """Entries with j = i."""
    return np.einsum("...ii->...i", table)


def off_diagonal(
    table: Float[np.ndarray, "*batch T T"],
) -> Float[np.ndarray, "*batch T"]:
    """Mean over the T - 1 steps j != i of every row; NaN where T = 1.

    Args:
        table: Shape (..., T, T).

    Returns:
        Shape (..., T).

    Example:
        >>> off_diagonal(np.array([[9.0, 1.0], [3.0, 9.0]])).tolist()
        [1.0, 3.0]
    """
    T = table.shape[-1]
    if T == 1:
        return np.full(table.shape[:-1], np.nan)
    return np.where(np.eye(T, dtype=bool), 0, table).sum(-1) / (T - 1)


def relative_entropy(
    alpha: Float[np.ndarray, "*batch T T"],
    allowed: Int[np.ndarray, "*#batch #T"] | None = None,
) -> Float[np.ndarray, "*batch T"]:
    r"""Entropy of every row over that of uniform attention.

    .. math:: -\sum_j \alpha_{ij} \log \alpha_{ij} / \log n_i

    Args:
        alpha: Attention weights, shape (..., T, T).
        allowed: The number of steps n_i a row may attend to, shape (..., T); by default
            T. A mask allows fewer.

    Returns:
        From 0 (one step) to 1 (uniform over what is allowed), shape (..., T); NaN where
        a row may attend to one step only.

    Example:
        >>> relative_entropy(np.array([[1.0, 0.0], [0.5, 0.5]])).tolist()
        [0.0, 1.0]
    """
    steps = alpha.shape[-1] if allowed is None else allowed
    most = np.log(np.broadcast_to(steps, alpha.shape[:-1]))
    logs = np.log(alpha, where=alpha > 0, out=np.zeros_like(alpha))
    entropy = np.abs((alpha * logs).sum(-1))
    return np.divide(entropy, most, where=most > 0, out=np.full(most.shape, np.nan))


def largest_column_mean(
    alpha: Float[np.ndarray, "*batch T T"],
) -> Float[np.ndarray, "*batch"]:
    """What the step that is looked at most gets of all rows' attention: a sink's share.

    Args:
        alpha: Attention weights, shape (..., T, T).

    Returns:
        From 1/T to 1, shape (...).
    """
    return alpha.mean(-2).max(-1)


def diagonal_excess(share: float, T: int) -> float:
    r"""The mean weight on the diagonal over the mean weight off it.

    .. math:: \frac{s}{(1 - s) / (T - 1)}, \qquad s = \mathrm{tr} A / T

    Args:
        share: Mean weight s on the diagonal.
        T: Number of steps.

    Returns:
        1 for uniform attention, 0 under a full mask, infinite where all is on the
        diagonal; NaN where T = 1.

    Example:
        >>> diagonal_excess(0.25, 4), diagonal_excess(0.0, 4)
        (1.0, 0.0)
    """
    if T == 1:
        return float("nan")
    return share / ((1 - share) / (T - 1)) if share < 1 else float("inf")


def parroting(
    own: Float[np.ndarray, "*batch T"], others: Float[np.ndarray, "*batch T"]
) -> Parroting:
    """Ratios of the rows, in two numbers.

    Args:
        own: Norms on the diagonal, shape (..., T).
        others: Mean norms off it, shape (..., T).

    Returns:
        Median, mean, and how many rows have no ratio; NaN where none has one.

    Example:
        >>> parroting(np.array([2.0, 9.0, 1.0]), np.array([1.0, 3.0, 0.0]))
        Parroting(median=2.5, mean=2.5, left_out=1)
    """
    there = others > 0
    if not there.any():
        return Parroting(float("nan"), float("nan"), int(there.size))
    ratios = own[there] / others[there]
    left_out = int(there.size - there.sum())
    return Parroting(float(np.median(ratios)), float(ratios.mean()), left_out)


def quantities(rows: dict[str, Float[np.ndarray, "S T"]]) -> dict[str, float]:
    """All numbers of one head, or of a layer as a whole, over its samples.

    Args:
        rows: ``attention_diagonal`` and ``entropy`` of every row; ``sink`` of every
            sample, shape (S, 1); for each path its norm ``..._diagonal`` and
            ``..._off_diagonal``; with a residual also ``total_with_residual_diagonal``.

    Returns:
        By name; see `DESCRIPTIONS` for what each is.
    """
    own = rows["attention_diagonal"]
    T, share = own.shape[-1], float(own.mean())
    found = {
        "diagonal_share": share,
        "uniform_share": 1 / T,
        "diagonal_excess": diagonal_excess(share, T),
        "entropy": float(rows["entropy"].mean()),
        "largest_column_mean": float(rows["sink"].mean()),
    }
    for path in PATHS:
        for place in ("diagonal", "off_diagonal"):
            found[f"{path}_{place}"] = float(rows[f"{path}_{place}"].mean())
    others = rows["total_off_diagonal"]
    ratio = parroting(rows["total_diagonal"], others)
    found["parroting_median"], found["parroting_mean"] = ratio.median, ratio.mean
    if RESIDUAL in rows:
        found[RESIDUAL] = float(rows[RESIDUAL].mean())
        kept = parroting(rows[RESIDUAL], others)
        found["parroting_with_residual_median"] = kept.median
        found["parroting_with_residual_mean"] = kept.mean
    found["rows"], found["rows_without_ratio"] = float(own.size), float(ratio.left_out)
    return found
