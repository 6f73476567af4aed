r"""Which attention weights stand out from those of resampled windows.

Every edge (i, j) of every window and head is compared with itself alone: with
:math:`\log \alpha_{ij}` in M resamples of the window. Moments and ranks are over those
M + 1 values, the window's own among them. Where the window is one more draw of the
null, all M + 1 are alike, and p is uniform on 1/(M + 1), ..., 1, whatever the masks.

The source pools the moments over the edges of a map. Rows of a causal map are over
different numbers of steps, and the diagonal, where a step meets itself, differs from
what is off it: then p is far from uniform on noise. What is pooled here is what an edge
is not compared with: all edges, windows and nodes of a head share one
:math:`\pi_0` and one density of z.

An edge is a pair of steps whose weight is above 0 in the window and in all its
resamples and not always the same; what a mask forbids is none.
"""

import functools
import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import brentq

FEWEST_EDGES = 100  # that have a density
_CUTS = np.arange(1, 20) / 20  # lambda, as in qvalue
_FREEDOM = 3  # degrees, as there
_FARTHEST = 5  # z beyond it count as there: they spoil the fit, and survive anyway
_ROUNDING = 1e-9  # two weights that differ by less are equal


class Edges(NamedTuple):
    """Every weight beside its own null.

    Attributes:
        z: Standard deviations of log alpha above the mean; NaN where no edge is.
        p: Share of the M + 1 values that are as far from the mean; NaN likewise.
    """

    z: Float[np.ndarray, "S H T T"]
    p: Float[np.ndarray, "S H T T"]


def compare_with_null(
    alpha: Float[np.ndarray, "S H T T"], null: Float[np.ndarray, "S M H T T"]
) -> Edges:
    r"""Standardise every log weight, and rank it, among those of its resamples.

    .. math::
        z = \frac{\log \alpha - \mu}{\sigma}, \qquad
        p = \frac{1 + \#\{m : |z_m| \ge |z|\}}{M + 1}

    Args:
        alpha: Attention weights of the windows.
        null: Those of M resamples of each.

    Returns:
        z and p.

    References:
        Chung and Laletin, arXiv 2604.01339; mean and deviation of each edge by itself,
        the window's own weight among them: ours.
    """
    weights = np.concatenate([alpha[:, None], null], 1)
    edge = (weights > 0).all(1)
    logs = np.log(weights, out=np.zeros_like(weights), where=weights > 0)
    logs -= logs.mean(1, keepdims=True)
    spread = np.sqrt(np.einsum("smhij,smhij->shij", logs, logs) / logs.shape[1])
    edge &= spread > _ROUNDING
    z = np.divide(logs[:, 0], spread, out=np.full(edge.shape, np.nan), where=edge)
    far = np.abs(logs, out=logs)
    p = (far >= (1 - _ROUNDING) * far[:, :1]).mean(1)
    return Edges(z, np.where(edge, p, np.nan))


def null_proportion(p: Float[np.ndarray, " E"], resamples: int) -> float:
    r"""Storey's estimate of the share of edges that are as in the null, at most 1.

    .. math:: \pi_0(\lambda) = \frac{\#\{p > \lambda\}}{E\, P_0(p > \lambda)}

    for :math:`\lambda = 0.05, ..., 0.95`, and of a cubic smoothing spline through it,
    of three degrees of freedom, the value at 0.95. :math:`P_0(p > \lambda)` is that of
    p uniform on k/(M + 1): 1 - lambda but for the steps of p.

    Args:
        p: Of E edges.
        resamples: M.

    Returns:
        The share; NaN without an edge.

    References:
        Storey and Tibshirani, PNAS 100, 2003; ``pi0est`` of the R package qvalue.
    """
    if not p.size:
        return np.nan
    ranks = np.rint(p * (resamples + 1))
    cuts = np.floor(_CUTS * (resamples + 1) + _ROUNDING)
    above = 1 - np.searchsorted(np.sort(ranks), cuts, side="right") / p.size
    found = above / (1 - cuts / (resamples + 1))
    return float(np.clip(_end_of_spline() @ found, 0, 1))


def local_false_discovery_rate(
    z: Float[np.ndarray, " E"], null_share: float
) -> Float[np.ndarray, " E"]:
    r"""How probable it is that an edge of this z is as in the null.

    .. math:: \mathrm{lfdr}(z) = \min(1, \pi_0 \varphi(z) / f(z))

    with the density f of all z by statsmodels: in the logarithm a polynomial of degree
    7, fitted to a histogram. z beyond 5 count as 5.

    Args:
        z: Of E edges.
        null_share: The share :math:`\pi_0`.

    Returns:
        The rates; NaN of fewer than 100 edges, which have no density, and where the fit
        fails, or warns.

    References:
        Efron, Statistical Science 23, 2008; Chung and Laletin, arXiv 2604.01339.
    """
    if z.size < FEWEST_EDGES:
        return np.full(z.shape, np.nan)
    from statsmodels.stats.multitest import local_fdr  # takes a second

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as of an overflow on the way
        try:
            return local_fdr(np.clip(z, -_FARTHEST, _FARTHEST), null_share)
        except (ValueError, Warning):
            return np.full(z.shape, np.nan)


def signed_rmsd(p: Float[np.ndarray, " E"]) -> float:
    r"""How far p is from uniform; above 0 where p is small.

    .. math:: \pm \sqrt{\frac1E \sum_e \Big(\frac{e - 1/2}{E} - p_{(e)}\Big)^2}

    Args:
        p: Of E edges.

    Returns:
        The deviation, of the sign + where the median of p is at most 1/2; NaN without
        an edge.

    References:
        Chung and Laletin, arXiv 2604.01339 (their evaluation).
    """
    if not p.size:
        return np.nan
    uniform = (np.arange(p.size) + 0.5) / p.size
    size = float(np.sqrt(((uniform - np.sort(p)) ** 2).mean()))
    return size if np.median(p) <= 0.5 else -size


def survives(
    z: Float[np.ndarray, "*E"], score: Float[np.ndarray, "*E"], most: float
) -> Bool[np.ndarray, "*E"]:
    """Whether an edge is no lower than its null, and its lfdr or p at most this."""
    return (z >= 0) & (score <= most)


@functools.cache
def _end_of_spline() -> Float[np.ndarray, " L"]:
    """What the spline's value at the last cut takes of the value at each."""
    L = len(_CUTS)
    second = np.diff(np.eye(L), 2, axis=0)
    inner = (4 * np.eye(L - 2) + np.eye(L - 2, k=1) + np.eye(L - 2, k=-1)) / 6
    rough, vectors = np.linalg.eigh(second.T @ np.linalg.solve(inner, second))

    def kept(log_penalty: float) -> np.ndarray:
        return 1 / (1 + np.exp(log_penalty) * rough)

    penalty = brentq(lambda log: kept(log).sum() - _FREEDOM, -20, 20)
    return vectors @ (kept(penalty) * vectors[-1])
