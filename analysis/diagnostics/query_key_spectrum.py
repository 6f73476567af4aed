"""Eigenvalues of W_QK = W_Q^T W_K / sqrt(K), by traces of products as small as a head.

The K x K product that starts at the key has the eigenvalues of the D x D one, but for
zeros: the traces of all powers are the same.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from analysis.diagnostics.diagnostic import Diagnostic, Panel
from analysis.diagnostics.seen import BILINEAR, Seen

Products = Float[np.ndarray, "H K K"]


def covariance(
    one: Float[np.ndarray, "S H T K"],
    other: Float[np.ndarray, "S H T K"],
    real: Bool[np.ndarray, "S T"],
) -> Products:
    """Mean of da db^T, a step's increments, over steps of all samples; NaN of none."""
    both = real[:, 1:] & real[:, :-1]
    da, db = (np.diff(own, axis=-2) * both[:, None, :, None] for own in (one, other))
    return (da.mT @ db).sum(0) / (both.sum() or np.nan)


def of_weights(seen: Seen) -> Products:
    """W_K W_Q^T / sqrt(K): W = W_QK itself."""
    weights = seen.weights
    return np.einsum("dhk,dhl->hkl", weights.key, weights.query) * seen.score_rate


def of_increments(seen: Seen) -> Products:
    """W_K Sigma W_Q^T / sqrt(K): W = W_QK Sigma, Sigma the increments' covariance."""
    return covariance(seen.k, seen.q, seen.real) * seen.score_rate


def trace(product: Products) -> Float[np.ndarray, " H"]:
    """The sum of the eigenvalues."""
    return np.einsum("hkk->h", product)


def trace_of_square(product: Products) -> Float[np.ndarray, " H"]:
    """The sum of the squares of the eigenvalues."""
    return np.einsum("hkl,hlk->h", product, product)


def variance(product: Products, D: int) -> Float[np.ndarray, " H"]:
    """Of all D eigenvalues, with the zeros."""
    return trace_of_square(product) / D - (trace(product) / D) ** 2


_MEASURES: dict[str, tuple[str, Callable[[Products, int], Any]]] = {
    "trace": ("tr W, the sum of its eigenvalues", lambda p, _: trace(p)),
    "scale": (
        "tr W^2, the sum of the squares of its eigenvalues",
        lambda p, _: trace_of_square(p),
    ),
    "variance": (
        "tr(W^2) / D - (tr W / D)^2, the variance of its D eigenvalues, complex ones "
        "squared without conjugate",
        variance,
    ),
}
_OF_WEIGHTS = "W = W_Q^T W_K / sqrt(K)"
_OF_INCREMENTS = (
    "W = W_Q^T W_K Sigma / sqrt(K), Sigma the second moment of x_{t+1} - x_t in the "
    "samples seen at once, all nodes of a window"
)


_EIGENVALUES = Panel("Query-key eigenvalues", signed=True)
_ON_INCREMENTS = Panel("The same on increments", signed=True)


def _of_spectrum(measure: str, increments: bool) -> Diagnostic:
    """One of the three, of W_QK or of W_QK Sigma; alike for all samples."""
    meaning, function = _MEASURES[measure]

    def heads(seen: Seen) -> Float[np.ndarray, "S H"]:
        if not seen.is_bilinear:
            return np.full((len(seen.x), seen.weights.heads), np.nan)
        product = of_increments(seen) if increments else of_weights(seen)
        found = function(product, seen.weights.model_width)
        return np.broadcast_to(found, (len(seen.x), len(found)))

    return Diagnostic(
        name=f"qk_increment_{measure}" if increments else f"qk_{measure}",
        label=f"QK {measure} on increments" if increments else f"QK {measure}",
        meaning=f"{meaning}; {_OF_INCREMENTS if increments else _OF_WEIGHTS}",
        source="Bao et al., arXiv 2402.02098: the QK-eigenspectrum",
        function=heads,
        needs=f"two steps in a row, {BILINEAR}" if increments else BILINEAR,
        uniform=lambda _: 0.0,
        panel=_ON_INCREMENTS if increments else _EIGENVALUES,
    )


ENTRIES = tuple(
    _of_spectrum(measure, increments)
    for increments in (False, True)
    for measure in _MEASURES
)
