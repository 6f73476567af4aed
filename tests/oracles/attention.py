"""Oracles of attention weights and norms by path."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.helpers import PATHS
from tests.oracles.view import Oracle, View


def per_row(samples: list[View], of: Callable[[np.ndarray], Any]) -> list[Any]:
    """A function of a row of attention: mean over heads, of every row."""
    return [np.mean([of(np.roll(a[i], -i)) for a in view.alphas])  # j = i is first
            for view in samples for i in range(view.T)]  # fmt: skip


def alphas(samples: list[View]) -> list[np.ndarray]:
    """All attention matrices."""
    return [alpha for view in samples for alpha in view.alphas]


def others(table: np.ndarray, i: int) -> Any:
    """Mean of a row off the diagonal."""
    return np.mean([table[i, j] for j in range(len(table)) if j != i])


def off(samples: list[View], path: str) -> list[float]:
    """Means of all rows off the diagonal."""
    return [others(v.norms[path], i) for v in samples for i in range(v.T)]


def on(samples: list[View], path: str) -> list[float]:
    """The diagonal of all rows."""
    return [v.norms[path][i, i] for v in samples for i in range(v.T)]


def kept(samples: list[View]) -> list[float]:
    """Norms with the identity of all rows."""
    return [value for v in samples for value in v.kept]  # pyright: ignore


def ratios(samples: list[View], own: list[float] | None = None) -> list[float]:
    """Parroting ratios of the rows that have one."""
    pairs = zip(own or on(samples, "total"), off(samples, "total"), strict=True)
    return [a / b for a, b in pairs if b > 0]


def nats(row: np.ndarray) -> float:
    """Entropy, in nats."""
    return sum(-p * np.log(p) for p in row if p > 0)


def share(samples: list[View]) -> float:
    """Diagonal share."""
    return float(np.mean(per_row(samples, lambda row: row[0])))


ORACLES: dict[str, Oracle] = {
    "diagonal_share": share,
    "uniform_share": lambda s: 1 / s[0].T,
    "diagonal_excess": lambda s: share(s) / ((1 - share(s)) / (s[0].T - 1)),
    "entropy": lambda s: np.mean(per_row(s, lambda r: nats(r) / np.log(sum(r > 0)))),
    "attention_entropy": lambda s: np.mean(per_row(s, nats)),
    "effective_steps": lambda s: np.mean(per_row(s, lambda r: np.exp(nats(r)))),
    "largest_column_mean": lambda s: np.mean([max(a.mean(0)) for a in alphas(s)]),
    **{f"{path}_diagonal": lambda s, p=path: np.mean(on(s, p)) for path in PATHS},
    **{f"{path}_off_diagonal": lambda s, p=path: np.mean(off(s, p)) for path in PATHS},
    "parroting_median": lambda s: np.median(ratios(s)),
    "parroting_mean": lambda s: np.mean(ratios(s)),
    "total_with_residual_diagonal": lambda s: np.mean(kept(s)),
    "parroting_with_residual_median": lambda s: np.median(ratios(s, kept(s))),
    "parroting_with_residual_mean": lambda s: np.mean(ratios(s, kept(s))),
    "mean_lag": lambda s: np.mean([sum(a[i, j] * abs(i - j) for j in range(len(a)))
                                   for a in alphas(s) for i in range(len(a))]),
    "rows": lambda s: sum(v.T for v in s),
    "rows_without_ratio": lambda s: sum(rest == 0 for rest in off(s, "total")),
}  # fmt: skip
