"""Oracles of queries, the matrix of queries and keys, and attended values."""

import math

import numpy as np

from tests.oracles.view import Oracle, View


def sigma(xs: list[np.ndarray]) -> np.ndarray:
    """Second moment of the increments of all windows, (D, D)."""
    steps = [x[t + 1] - x[t] for x in xs for t in range(len(x) - 1)]
    return np.sum([np.outer(step, step) for step in steps], 0) / len(steps)


def w_qk(weights, head: int) -> np.ndarray:
    """W_QK, (D, D): the score of i with j is x_i^T W_QK x_j, but for biases."""
    W_Q, W_K = np.asarray(weights.query)[:, head].T, np.asarray(weights.key)[:, head].T
    return W_Q.T @ W_K / math.sqrt(len(W_Q))


def spectrum(W: np.ndarray) -> dict[str, float]:
    """Sum, sum of squares and variance of the eigenvalues themselves."""
    values = np.linalg.eigvals(W)
    variance = sum((value - sum(values) / len(values)) ** 2 for value in values)
    return {
        "trace": sum(values).real,
        "scale": sum(value**2 for value in values).real,
        "variance": (variance / len(values)).real,
    }


def propagation(W: np.ndarray, cov: np.ndarray, T: int) -> float:
    """rho, mean over the steps of a window."""
    found = []
    for t in range(1, T + 1):
        tau = t / T
        mu = (tau - 1 / 2) * np.trace(W @ cov)
        v = (tau**2 - tau + 1 / 3) * np.trace(W @ cov @ W.T @ cov)
        v += (tau - 1 / 2) ** 2 * np.trace(W @ cov @ W @ cov)
        parts = [math.erf(edge / math.sqrt(2 * v)) for edge in (1 - mu, mu)]
        found.append(sum(parts) / 2)
    return sum(found) / T


def of_spectrum(name: str, increments: bool) -> Oracle:
    """A measure of the eigenvalues, each sample with its own increments."""

    def value(view: View, head: int) -> float:
        W = w_qk(view.weights, head)
        return spectrum(W @ sigma([view.x]) if increments else W)[name]

    return lambda s: np.mean([value(view, head) for view in s for head in view.heads])


def cosine(q: np.ndarray, t: int, s: int) -> float:
    """Of two queries; 0 if one of them is 0."""
    norms = math.sqrt(q[t] @ q[t]) * math.sqrt(q[s] @ q[s])
    return q[t] @ q[s] / norms if norms > 0 else 0.0


def similarity(q: np.ndarray, lags: range) -> float:
    """Mean cosine of the pairs at these lags."""
    T = len(q)
    pairs = [(t, s) for t in range(T) for s in range(T) if abs(t - s) in lags]
    return float(np.mean([cosine(q, t, s) for t, s in pairs]))


def of_queries(lags: range) -> Oracle:
    """Mean over samples and heads."""
    return lambda s: np.mean(
        [similarity(v.projected("query", n), lags) for v in s for n in v.heads]
    )


def period(alpha: np.ndarray, may: np.ndarray) -> int:
    """The period of a map, 0 without."""
    T = len(alpha)
    profile = {}
    for lag in range(T):
        pairs = [(i, j) for i in range(T) for j in range(T) if abs(i - j) == lag]
        weights = [alpha[i, j] for i, j in pairs if may[i, j]]
        if weights:
            profile[lag] = np.mean(weights)
    mean = np.mean([*profile.values()])
    c = [profile.get(lag, mean) - mean for lag in range(T)]
    r = [sum(c[n] * c[n + lag] for n in range(T - lag)) for lag in range(T)]
    peaks = [n for n in range(2, T - 1) if r[n] > max(r[n - 1], r[n + 1], 0)]
    return max(peaks, key=lambda lag: r[lag], default=0)


def head_class(alpha: np.ndarray, may: np.ndarray) -> str:
    """The class of a map."""
    T, every = len(alpha), period(alpha, may)
    even = np.array([[may[i, j] / sum(may[i]) for j in range(T)] for i in range(T)])

    def share(table: np.ndarray, belongs) -> float:
        pairs = [(i, j) for i in range(T) for j in range(T) if belongs(abs(i - j))]
        return sum(table[i, j] for i, j in pairs) / T

    masses = {
        "reaccess": lambda a: max(sum(a[i, j] for i in range(T)) / T for j in range(T)),
        "sequential": lambda a: share(a, lambda lag: lag in (0, 1)),
        "periodic": lambda a: share(a, lambda lag: every and lag % every == 0),
    }
    for name, mass in masses.items():
        if mass(even) < 1 - 1e-9:
            if (mass(alpha) - mass(even)) / (1 - mass(even)) > 1 / 2:
                return name
    return "unpredictable"


def of_class(name: str) -> Oracle:
    """Share of all samples and heads in a class."""
    return lambda s: np.mean(
        [
            head_class(alpha, view.bias[n] > -np.inf) == name
            for view in s
            for n, alpha in zip(view.heads, view.alphas, strict=True)
        ]
    )


def channel_variances(view: View, head: int, alpha: np.ndarray) -> list[float]:
    """Var(o_t) of every row."""
    v, found = view.projected("value", head), []
    for row in alpha:
        o = [sum(row[j] * v[j, c] for j in range(len(v))) for c in range(v.shape[1])]
        mean = sum(o) / len(o)
        found.append(sum((value - mean) ** 2 for value in o) / len(o))
    return found


def per_head(samples: list[View], of) -> list[float]:
    """A function of the variances and the map of every sample and head."""
    return [
        of(channel_variances(view, n, alpha), alpha)
        for view in samples
        for n, alpha in zip(view.heads, view.alphas, strict=True)
    ]


def squares(alpha: np.ndarray) -> list[float]:
    """sum_j alpha_ij^2 of every row."""
    return [sum(weight**2 for weight in row) for row in alpha]


def pearson(one, other) -> float:
    """Correlation, NaN without spread."""
    if min(np.std(one), np.std(other)) < 1e-9:
        return math.nan
    return float(np.corrcoef(one, other)[0, 1])


ORACLES: dict[str, Oracle] = {
    **{f"qk_{n}": of_spectrum(n, False) for n in ("trace", "scale", "variance")},
    **{
        f"qk_increment_{n}": of_spectrum(n, True)
        for n in ("trace", "scale", "variance")
    },
    "signal_propagation": lambda s: np.mean(
        [propagation(w_qk(v.weights, n), sigma([v.x]), v.T) for v in s for n in v.heads]
    ),
    "query_similarity": lambda s: of_queries(range(1, s[0].T))(s),
    "query_similarity_consecutive": of_queries(range(1, 2)),
    **{
        f"class_{name}": of_class(name)
        for name in ("reaccess", "sequential", "periodic", "unpredictable")
    },
    "value_variance_discrepancy": lambda s: np.mean(
        per_head(s, lambda variances, _: max(variances) / np.median(variances))
    ),
    "effective_support": lambda s: np.mean(
        per_head(s, lambda _, alpha: np.mean([1 / own for own in squares(alpha)]))
    ),
    "support_variance_correlation": lambda s: np.mean(
        per_head(s, lambda var, alpha: pearson(np.log(var), np.log(squares(alpha))))
    ),
    "diagonal_variance_correlation": lambda s: np.mean(
        per_head(s, lambda var, alpha: pearson(np.log(var), np.diag(alpha)))
    ),
}
