"""Oracles of rank collapse, of the spectrum of attention and of contraction."""

from collections.abc import Callable

import numpy as np

from tests.oracles.view import Oracle, View


def over_samples(of: Callable[[View], float]) -> Oracle:
    """Mean over the samples that have a value."""

    def oracle(samples: list[View]) -> float:
        found = [of(view) for view in samples]
        there = [value for value in found if not np.isnan(value)]
        return float(np.mean(there)) if there else float("nan")

    return oracle


def over_heads(of: Callable[[View, int], float]) -> Oracle:
    """The same of a function of a head: of a layer it is the mean over heads."""
    return over_samples(lambda v: float(np.mean([of(v, n) for n in v.heads])))


def alpha_of(view: View, head: int) -> np.ndarray:
    """Attention of a head."""
    return view.alphas[view.heads.index(head)]


# --- rank collapse --------------------------------------------------------------------


def centred(points: np.ndarray) -> np.ndarray:
    """Each step less the mean step."""
    steps = range(len(points))
    mean = sum(points[i] for i in steps) / len(points)
    return np.array([points[i] - mean for i in steps])


def norms(matrix: np.ndarray) -> tuple[float, float]:
    """The largest column sum and the largest row sum of absolute values."""
    height, width = matrix.shape
    columns = [sum(abs(matrix[i, j]) for i in range(height)) for j in range(width)]
    rows = [sum(abs(matrix[i, j]) for j in range(width)) for i in range(height)]
    return max(columns), max(rows)


def composite(matrix: np.ndarray) -> float:
    """The norm of Dong et al."""
    return float(np.sqrt(np.prod(norms(matrix))))


def residual_ratio(points: np.ndarray) -> float:
    """Of the points without their mean, over that with it."""
    return composite(centred(points)) / composite(points)


def folded(view: View, head: int) -> np.ndarray:
    """Value kernel of a head with its block of the output projection."""
    value, out = view.weights.value[:, head], view.weights.out
    return value if out is None else value @ out[head]


def part(view: View, head: int) -> np.ndarray:
    """What a head adds to the output."""
    v, out = view.projected("value", head), view.weights.out
    alpha, steps = alpha_of(view, head), range(view.T)
    h = np.array([sum(alpha[i, j] * v[j] for j in steps) for i in steps])
    return h if out is None else h @ out[head]


def output(view: View) -> np.ndarray:
    """Of a head, or of the layer without its residual connection."""
    parts = [part(view, head) for head in view.heads]
    if len(parts) == 1:  # layers of one head here have no bias of the output
        return parts[0]
    if view.weights.out is None:
        return np.concatenate(parts, 1)
    bias = view.weights.out_bias
    return np.sum(parts, 0) + (0 if bias is None else bias)


def bound_ratio(view: View) -> float:
    """The output's residual over its bound; none with a score bias."""
    if view.bias.any():
        return float("nan")
    w, scores, columns, rows = view.weights, [], [], []
    for n in view.heads:
        scores.append(norms(w.query[:, n] @ w.key[:, n].T)[0])
        column, row = norms(folded(view, n))
        columns.append(column)
        rows.append(row)
    beta = max(scores) * np.sqrt(max(columns) * max(rows))
    factor = 4 * beta * len(view.heads) / np.sqrt(w.query.shape[2])
    bound = factor * composite(centred(view.x)) ** 3
    return composite(centred(output(view))) / bound


# --- the spectrum ---------------------------------------------------------------------


def values_of(matrix: np.ndarray) -> list[float]:
    """Singular values, by the eigenvalues of [[0, A], [A', 0]], in falling order."""
    T, nothing = len(matrix), np.zeros_like(matrix)
    both = np.block([[nothing, matrix], [matrix.T, nothing]])
    return sorted(np.abs(np.linalg.eigvalsh(both)), reverse=True)[: 2 * T : 2]


def off_mean(alpha: np.ndarray) -> np.ndarray:
    """A - (1/T) 1 1^T."""
    T = len(alpha)
    seen = [j for j in range(T) if any(alpha[i, j] > 0 for i in range(T))]
    return np.array([[a - (j in seen) / len(seen) for j, a in enumerate(row)]
                     for row in alpha])  # fmt: skip


def stable_rank(matrix: np.ndarray) -> float:
    """Squares of all entries, over that of the norm."""
    return sum(a * a for row in matrix for a in row) / values_of(matrix)[0] ** 2


def predicted(view: View, head: int) -> float:
    """2 sigma_A / sqrt T; none where a step is forbidden."""
    alpha, T = alpha_of(view, head), view.T
    if not (alpha > 0).all():
        return float("nan")
    return 2 * float(np.std([T * a for row in alpha for a in row])) / np.sqrt(T)


# --- contraction ----------------------------------------------------------------------


def tau(alpha: np.ndarray) -> float:
    """The Dobrushin coefficient."""
    return max(sum(abs(a - b) for a, b in zip(one, other, strict=True)) / 2
               for one in alpha for other in alpha)  # fmt: skip


def diameter(points: np.ndarray) -> float:
    """The largest distance of two points."""
    return max(float(np.linalg.norm(a - b)) for a in points for b in points)


def spread(points: np.ndarray) -> float:
    """Root of the sum of squared distances from the mean."""
    return float(np.sqrt(sum(row @ row for row in centred(points))))


def shrunk(view: View, head: int, measure: Callable[[np.ndarray], float]) -> float:
    """Of attended values, over that of the values some step attends to."""
    alpha, v, T = alpha_of(view, head), view.projected("value", head), view.T
    attended = np.array([sum(alpha[i, j] * v[j] for j in range(T)) for i in range(T)])
    seen = [v[j] for j in range(T) if any(alpha[i, j] > 0 for i in range(T))]
    return measure(attended) / measure(np.array(seen))


ORACLES: dict[str, Oracle] = {
    "rank_residual_input": over_samples(lambda v: residual_ratio(v.x)),
    "rank_residual_output": over_samples(lambda v: residual_ratio(output(v))),
    "rank_residual_with_residual": over_samples(
        lambda v: residual_ratio(v.x + output(v))
    ),
    "rank_bound_ratio": over_samples(bound_ratio),
    "spectral_norm": over_heads(lambda v, n: values_of(alpha_of(v, n))[0]),
    "second_singular_value": over_heads(lambda v, n: values_of(alpha_of(v, n))[1]),
    "predicted_second_singular_value": over_heads(predicted),
    "second_singular_value_ratio": over_heads(
        lambda v, n: values_of(alpha_of(v, n))[1] / predicted(v, n)
    ),
    "spectral_gap": over_heads(
        lambda v, n: values_of(alpha_of(v, n))[0] - values_of(alpha_of(v, n))[1]
    ),
    "stable_rank": over_heads(lambda v, n: stable_rank(alpha_of(v, n))),
    "stable_rank_without_mean": over_heads(
        lambda v, n: stable_rank(off_mean(alpha_of(v, n)))
    ),
    "dobrushin": over_heads(lambda v, n: tau(alpha_of(v, n))),
    "contraction": over_heads(lambda v, n: shrunk(v, n, diameter)),
    "spread_contraction": over_heads(lambda v, n: shrunk(v, n, spread)),
}
