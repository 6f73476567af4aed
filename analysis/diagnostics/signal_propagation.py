"""How probable it is that a step's score stays where the softmax is linear."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import erf

from analysis.diagnostics.diagnostic import Diagnostic, Panel
from analysis.diagnostics.query_key_spectrum import covariance, trace, trace_of_square
from analysis.diagnostics.seen import BILINEAR, Seen


def walk_moments(
    tau: Float[np.ndarray, "*#steps"],
    q: Float[np.ndarray, "S H T K"],
    k: Float[np.ndarray, "S H T K"],
    real: Bool[np.ndarray, "S T"],
) -> tuple[Float[np.ndarray, "*steps"], Float[np.ndarray, "*steps"]]:
    """Mean and variance of (w_t - mean w) / T, t = tau T, w_t = q_T . k_t of a walk."""
    # Its increments have the covariances of q and k; tau broadcasts to (S, H, steps).
    kq, kk, qq = (covariance(*pair, real) for pair in ((k, q), (k, k), (q, q)))
    late = tau - 0.5
    own = np.einsum("hkl,hlk->h", kk, qq)[:, None]  # tr(W_QK Sigma W_QK^T Sigma)
    return late * trace(kq)[:, None], (
        (late**2 + 1 / 12) * own + late**2 * trace_of_square(kq)[:, None]
    )


def linear_probability(
    mean: Float[np.ndarray, "*steps"], variance: Float[np.ndarray, "*steps"]
) -> Float[np.ndarray, "*steps"]:
    """P(0 < w < 1) of w ~ N(mean, variance); 1/2 on an edge of it without variance."""
    spread = np.sqrt(2 * np.maximum(variance, np.finfo(float).tiny))
    return (erf((1 - mean) / spread) + erf(mean / spread)) / 2


def signal_propagation(
    q: Float[np.ndarray, "S H T K"],
    k: Float[np.ndarray, "S H T K"],
    real: Bool[np.ndarray, "S T"],
) -> Float[np.ndarray, "S H T"]:
    """Rho at tau = t / T, t = 1, ..., T, counted over the real rows alone."""
    tau = real.cumsum(-1) / np.maximum(real.sum(-1, keepdims=True), 1)
    tau = np.where(real, tau, np.nan)[:, None]
    return linear_probability(*walk_moments(tau, q, k, real))


def _of_heads(seen: Seen) -> Float[np.ndarray, "S H T"]:
    if not seen.is_bilinear:
        return np.full(seen.q.shape[:-1], np.nan)
    return signal_propagation(seen.q, seen.k * seen.score_rate, seen.real)


ENTRIES = (
    Diagnostic(
        name="signal_propagation",
        label="signal propagation",
        meaning="probability that a step's score against the last query of a random "
        "walk, less its mean over steps and over T, is between 0 and 1, where a "
        "piecewise linear softmax is linear: rho(tau) = (erf((1 - mu) / sqrt(2 v)) + "
        "erf(mu / sqrt(2 v))) / 2, mu = (tau - 1/2) tr W, v = ((tau - 1/2)^2 + 1/12) "
        "tr(W_QK Sigma W_QK^T Sigma) + (tau - 1/2)^2 tr W^2, W = W_QK Sigma as in "
        "`qk_increment_trace`; mean over tau = 1/T, ..., 1",
        source="Bao et al., arXiv 2402.02098; mu and v are ours, derived anew",
        function=_of_heads,
        needs=f"two steps in a row, {BILINEAR}",
        panel=Panel("Signal propagation", power_law=False),
    ),
)
