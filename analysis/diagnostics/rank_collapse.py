"""How near the steps of a layer come to being all the same: rank collapse.

With R = res(X), the mean as its centre, and b = ||W^QK||_1 ||R||^2 / sqrt K, the scores
are r_i W^QK r_j / sqrt K, at most b / 2, and what shifts a row's or all rows' alike, as
biases of the projections do. So two rows of alpha differ by at most 2 tanh(b / 2) in
all and by half of it in a step, and ||res(alpha X W^V)|| is at most
sqrt(T - 1) tanh(b / 2) ||R|| ||W^V||, reached at T = 2: up to T = 65 that is below the
bound of Dong et al., 4 b ||R|| ||W^V||, which they state for the nearest centre.
"""

import numpy as np
from jaxtyping import Bool, Float

from analysis.diagnostics.diagnostic import Diagnostic, Panel, Values
from analysis.diagnostics.seen import Seen
from sensitivity import AttentionWeights

ROUNDING = 1e-12  # below this share of the output a bound on it says nothing


def residual(
    points: Float[np.ndarray, "*batch T W"], kept: Bool[np.ndarray, "*#batch T"]
) -> Float[np.ndarray, "*batch T W"]:
    """res(X) = X - 1 mean(X)^T over the steps that are kept; 0 in the others."""
    kept = kept[..., None]
    count = np.maximum(kept.sum(-2, keepdims=True), 1)
    mean = np.where(kept, points, 0).sum(-2, keepdims=True) / count
    return np.where(kept, points - mean, 0)


def composite_norm(
    matrix: Float[np.ndarray, "*batch T W"],
) -> Float[np.ndarray, "*batch"]:
    """||X||_{1,inf} = sqrt(||X||_1 ||X||_inf): the largest sums of columns and rows."""
    return np.sqrt(_columns(matrix) * _rows(matrix))


def rank_residual(
    points: Float[np.ndarray, "*batch T W"], kept: Bool[np.ndarray, "*#batch T"]
) -> Float[np.ndarray, "*batch"]:
    """||res(X)|| / ||X||: 0 where all steps are the same, NaN where all are 0."""
    size = composite_norm(np.where(kept[..., None], points, 0))
    left, missing = composite_norm(residual(points, kept)), np.full(size.shape, np.nan)
    return np.divide(left, size, where=size > 0, out=missing)


def rank_bound_factor(
    weights: AttentionWeights, whole: bool
) -> Float[np.ndarray, "..."]:
    """4 beta / sqrt K of every head, or with 4 beta H that of the layer as a whole."""
    scores = np.einsum("dhk,ehk->hde", weights.query, weights.key)
    values = np.moveaxis(weights.value, 1, 0)
    values = values if weights.out is None else values @ weights.out
    parts = [_columns(scores), _columns(values), _rows(values)]
    if whole:
        # The composite norm has no triangle inequality, the two in its root have one.
        parts = [weights.heads * parts[0].max(), parts[1].max(), parts[2].max()]
    return 4 / weights.key_width**0.5 * parts[0] * np.sqrt(parts[1] * parts[2])


def _columns(matrix: np.ndarray) -> np.ndarray:
    return np.abs(matrix).sum(-2).max(-1)


def _rows(matrix: np.ndarray) -> np.ndarray:
    return np.abs(matrix).sum(-1).max(-1)


def _heads(seen: Seen) -> Float[np.ndarray, "S H T O"]:
    """What every head adds to the output."""
    out = seen.weights.out
    return seen.projected if out is None else seen.projected @ out


def _layer(seen: Seen) -> Float[np.ndarray, "S T O"]:
    """The output, without the residual."""
    if seen.weights.out is None:
        return np.moveaxis(seen.projected, 1, 2).reshape(*seen.x.shape[:2], -1)
    bias = seen.weights.out_bias
    return _heads(seen).sum(1) + (0 if bias is None else bias)


def _input(seen: Seen) -> Float[np.ndarray, "S H"]:
    found = rank_residual(seen.x, seen.real)
    return np.repeat(found[:, None], seen.weights.heads, 1)


def _with_residual(seen: Seen) -> Values:
    if not seen.residual:
        return None
    return rank_residual(seen.x + _layer(seen), seen.real)


def _bound_ratio(seen: Seen, whole: bool) -> Float[np.ndarray, "S ..."]:
    """||res(SAN(X))|| over its bound; X is all steps, as all are attended."""
    output, kept = _layer(seen), seen.real
    if not whole:
        output, kept = _heads(seen), seen.real[:, None]
    cube = composite_norm(residual(seen.x, np.ones(seen.x.shape[:2], bool))) ** 3
    bound = np.multiply.outer(cube, rank_bound_factor(seen.weights, whole))
    size = composite_norm(np.where(kept[..., None], output, 0))
    plain = seen.score_bias.is_nothing and seen.weights.form is None
    known = plain & (size > 0) & (bound > ROUNDING * size)
    left, missing = composite_norm(residual(output, kept)), np.full(size.shape, np.nan)
    return np.divide(left, bound, where=known, out=missing)


_DONG = "Dong et al., arXiv 2103.03404"
_NORM = "||X - 1 mean(X)^T|| / ||X||, ||X|| = sqrt(||X||_1 ||X||_inf), of"
_NOT_0 = "a row that counts and is not 0"
_RESIDUAL = Panel("Distance from rank one", r"$\|X - 1 \bar{x}^T\| / \|X\|$", log=True)
ENTRIES = (
    Diagnostic(
        name="rank_residual_input",
        label="rank-one residual of the input",
        meaning=f"{_NORM} the layer's input, mean over samples",
        source=_DONG,
        function=_input,
        needs=_NOT_0,
        panel=_RESIDUAL,
    ),
    Diagnostic(
        name="rank_residual_output",
        label="rank-one residual of the output",
        meaning=f"{_NORM} the output of a head, or of the layer without its residual "
        "connection, mean over samples",
        source=_DONG,
        function=lambda seen: rank_residual(_heads(seen), seen.real[:, None]),
        whole=lambda seen: rank_residual(_layer(seen), seen.real),
        needs=_NOT_0,
        uniform=lambda _: 0.0,
        panel=_RESIDUAL,
    ),
    Diagnostic(
        name="rank_residual_with_residual",
        label="rank-one residual of input + output",
        meaning=f"{_NORM} the layer's output with its residual connection, mean over "
        "samples",
        source=_DONG,
        function=None,
        whole=_with_residual,
        needs=_NOT_0,
        panel=_RESIDUAL,
    ),
    Diagnostic(
        name="rank_bound_ratio",
        label="rank-one residual / bound",
        meaning="norm of the output's rank-one residual over its bound 4 beta H / "
        "sqrt(K) ||X - 1 mean(X)^T||^3, beta = ||W^QK||_1 ||W^V||_{1,inf}, H = 1 of a "
        "head, mean over samples",
        source=f"{_DONG}, the bound of one layer; ours: a proof for T <= 65, with "
        "biases of projections",
        function=lambda seen: _bound_ratio(seen, whole=False),
        whole=lambda seen: _bound_ratio(seen, whole=True),
        needs="a row that counts, plain attention without mask or score bias, and a "
        "bound above rounding",
        panel=Panel("Residual / its bound", log=True),
    ),
)
