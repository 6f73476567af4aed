"""Oracles of sinks, of salience, and of the least entropy of a row."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests.oracles.attention import nats
from tests.oracles.view import Oracle, View


def importance(alpha: np.ndarray, k: int) -> float:
    """Of step k = 1, ..., T of a causal head, as Gu et al. write it."""
    T = len(alpha)
    return 1 / (T - k + 1) * sum(alpha[i - 1, k - 1] for i in range(k, T + 1))


def salience(alpha: np.ndarray, may: np.ndarray) -> list[float]:
    """Of every step: the sum of its column over the number of rows that may."""
    T, found = len(alpha), []
    for j in range(T):
        rows = [i for i in range(T) if may[i, j]]
        found.append(sum(alpha[i, j] for i in rows) / len(rows) if rows else np.nan)
    return found


def least_entropy(norm: float, n: int) -> float:
    """Of n centred scores of that norm: of those in which one step stands out."""
    if n == 1:
        return 0.0
    scores = np.full(n, -1 / n)
    scores[0] = 1 - 1 / n
    scores *= norm / np.sqrt(sum(scores**2))
    weights = np.exp(scores - max(scores))
    return nats(weights / sum(weights))


def centred_norm(values: np.ndarray) -> float:
    """Norm of what is left without the mean."""
    return float(np.sqrt(sum((value - np.mean(values)) ** 2 for value in values)))


def _of_heads(samples: list[View], of: Callable[[list[float]], Any]) -> Any:
    """A function of the saliences of a head: mean over heads and samples."""
    return np.mean([
        of(salience(alpha, np.isfinite(view.bias[head])))
        for view in samples
        for head, alpha in zip(view.heads, view.alphas, strict=True)
    ])  # fmt: skip


def _rows(samples: list[View]) -> Iterator[tuple[View, int, int, np.ndarray]]:
    for view in samples:
        for head in view.heads:
            for i in range(view.T):
                yield view, head, i, np.flatnonzero(np.isfinite(view.bias[head, i]))


def _bound(samples: list[View]) -> Any:
    return np.mean([
        least_entropy(centred_norm(view.scores(head)[i, steps]), len(steps))
        for view, head, i, steps in _rows(samples)
    ])  # fmt: skip


def norm_by_weights(view: View, head: int) -> float:
    """The norm of a row of q_i . k_j / sqrt K, less its mean, is never more."""
    w, ones = view.weights, np.ones((view.T, 1))
    query, bias = w.query[:, head], w.query_bias
    bias = np.zeros(query.shape[1]) if bias is None else bias[head]
    rows = np.hstack([view.x, ones]) if bias.any() else view.x
    query = np.vstack([query, bias]) if bias.any() else query
    norms = [np.linalg.svd(part)[1][0]
             for part in (query @ w.key[:, head].T, rows, view.x)]  # fmt: skip
    return float(np.prod(norms)) / np.sqrt(query.shape[1])


def _bound_by_weights(samples: list[View]) -> Any:
    return np.mean([
        least_entropy(
            norm_by_weights(view, head) + centred_norm(view.bias[head][i, steps]),
            len(steps),
        )
        for view, head, i, steps in _rows(samples)
    ])  # fmt: skip


ORACLES: dict[str, Oracle] = {
    "entropy_bound": _bound,
    "entropy_bound_by_weights": _bound_by_weights,
    "mean_salience": lambda s: _of_heads(s, np.mean),
    "largest_salience": lambda s: _of_heads(s, max),
    "first_step_sink": lambda s: _of_heads(s, lambda found: found[0] > 0.3),
    "any_sink": lambda s: _of_heads(s, lambda found: any(x > 0.3 for x in found)),
    "sink_share": lambda s: _of_heads(s, lambda found: np.mean(np.array(found) > 0.3)),
    "diagonal_sink": lambda s: np.mean([
        alpha[i, i] > 0.3 for view in s for alpha in view.alphas for i in range(view.T)
    ]),
}  # fmt: skip
