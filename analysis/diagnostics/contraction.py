"""How far attention draws the values of the steps together."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from analysis.diagnostics.diagnostic import Diagnostic, Panel
from analysis.diagnostics.rank_collapse import residual
from analysis.diagnostics.seen import Seen

Measure = Callable[[np.ndarray, np.ndarray], np.ndarray]


def dobrushin(
    alpha: Float[np.ndarray, "*batch T T"], kept: Bool[np.ndarray, "*#batch T"]
) -> Float[np.ndarray, "*batch"]:
    """Tau = 1/2 max_{i,k} sum_j |alpha_ij - alpha_kj|: from 0, rows alike, to 1."""
    rows = _filled(alpha, kept)
    found = np.zeros(alpha.shape[:-2])
    for i in range(alpha.shape[-2]):  # all pairs at once would take T^3 numbers
        apart = np.abs(rows[..., i:, :] - rows[..., i, None, :]).sum(-1)
        found = np.maximum(found, apart.max(-1) / 2)
    return found


def diameter(
    points: Float[np.ndarray, "*batch T V"], kept: Bool[np.ndarray, "*#batch T"]
) -> Float[np.ndarray, "*batch"]:
    """The largest Euclidean distance of two of the steps that are kept."""
    # From one of them none is farther: of the largest no digits are lost.
    points = _filled(points, kept)
    points = points - points[..., :1, :]
    size = (points**2).sum(-1)
    squares = points @ points.mT
    squares *= -2
    squares += size[..., None]
    squares += size[..., None, :]
    return np.sqrt(np.maximum(squares.max((-2, -1)), 0))


def spread(
    points: Float[np.ndarray, "*batch T V"], kept: Bool[np.ndarray, "*#batch T"]
) -> Float[np.ndarray, "*batch"]:
    """mu(X) = ||X - 1 mean(X)^T||_F over the steps that are kept."""
    return np.sqrt((residual(points, kept) ** 2).sum((-2, -1)))


def contraction(seen: Seen, measure: Measure) -> Float[np.ndarray, "S H"]:
    """A measure of alpha V over that of V."""
    columns = seen.sources
    v = _filled(seen.v, columns)
    if seen.adds_to_one:  # from the same step: V may lie far
        v = v - v[..., :1, :]
    before, after = measure(v, columns), measure(seen.alpha @ v, seen.real[:, None])
    missing = np.full(before.shape, np.nan)
    return np.divide(after, before, where=before > 0, out=missing)


def _filled(points: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Copies of the first step that is kept where others were: no distance is new."""
    kept = np.broadcast_to(kept, points.shape[:-1])[..., None]
    first = np.take_along_axis(points, kept.argmax(-2, keepdims=True), -2)
    return np.where(kept, points, first)


def _of_values(name: str, measure: Measure, **more: Any) -> Diagnostic:
    """How much attention shrinks a measure of the values."""
    return Diagnostic(
        name=name,
        function=lambda seen: contraction(seen, measure),
        needs="a row that counts, and values that differ",
        uniform=lambda _: 0.0,
        panel=_PANEL,
        **more,
    )


_WU = "Wu et al., arXiv 2405.18781"
_PANEL = Panel("Contraction of the steps", power_law=False)
ENTRIES = (
    Diagnostic(
        name="dobrushin",
        label="Dobrushin coefficient",
        meaning="tau = 1/2 max_ik sum_j |alpha_ij - alpha_kj|, the largest distance of "
        "two rows of attention in total variation, mean over samples",
        source="Dobrushin, Theory Probab. Appl. 1, 1956",
        function=lambda seen: dobrushin(seen.alpha, seen.real[:, None]),
        uniform=lambda _: 0.0,
        panel=_PANEL,
    ),
    _of_values(
        "contraction",
        diameter,
        label="contraction of the diameter",
        meaning="largest Euclidean distance of two attended values over that of two "
        "values, diam(alpha V) / diam(V), at most tau where rows add up to 1; mean "
        "over samples",
        source=f"ours, with Dobrushin's bound; the question: {_WU}",
    ),
    _of_values(
        "spread_contraction",
        spread,
        label="contraction of the spread",
        meaning="mu(alpha V) / mu(V), mu(X) = ||X - 1 mean(X)^T||_F, mean over samples",
        source=f"{_WU}: mu; ours: its ratio in one layer",
    ),
)
