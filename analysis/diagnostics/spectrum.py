"""Singular values of a map of attention: one large, and a bulk that carries the rest.

A map has the rows that are real, and the columns of the steps they may attend to.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from analysis.diagnostics.diagnostic import Diagnostic, Panel
from analysis.diagnostics.seen import Seen

ROUNDING = 1e-13  # a map that is no farther from the mean is the mean


def singular_values(
    alpha: Float[np.ndarray, "*batch T T"],
) -> Float[np.ndarray, "*batch T+1"]:
    """In falling order, one for each real row; NaN in the other places."""
    real = ~np.isnan(alpha[..., :1])
    found = np.linalg.svd(np.where(real, alpha, 0), compute_uv=False)
    padded = np.concatenate([found, found[..., :1]], -1)
    there = np.arange(padded.shape[-1]) < real.sum(-2)
    return np.where(there, padded, np.nan)


def without_mean(
    alpha: Float[np.ndarray, "*batch T T"], columns: Bool[np.ndarray, "*batch T"]
) -> Float[np.ndarray, "*batch T T"]:
    """A - (1/T) 1 1^T, T the number of columns; the others stay 0."""
    mean = columns / np.maximum(columns.sum(-1, keepdims=True), 1)
    return alpha - mean[..., None, :]


def stable_rank(
    values: Float[np.ndarray, "*batch T+1"],
) -> Float[np.ndarray, "*batch"]:
    """||A||_F^2 / ||A||^2 by singular values; NaN where they are 0 up to rounding."""
    squares, largest = np.nansum(values**2, -1), values[..., 0]
    missing = np.full(largest.shape, np.nan)
    return np.divide(squares, largest**2, where=largest > ROUNDING, out=missing)


def is_full(
    allowed: Bool[np.ndarray, "*batch T T"], real: Bool[np.ndarray, "*#batch T"]
) -> Bool[np.ndarray, "*batch"]:
    """Whether two real rows or more may attend to all of them, and to nothing else."""
    same = (allowed == real[..., None, :]) | ~real[..., None]
    return same.all((-2, -1)) & (real.sum(-1) > 1)


def predicted_second(
    values: Float[np.ndarray, "*batch T+1"], full: Bool[np.ndarray, "*batch"]
) -> Float[np.ndarray, "*batch"]:
    """2 sigma_A / sqrt T; the deviation of T alpha_ij is ||A - (1/T) 1 1^T||_F."""
    T = np.maximum((~np.isnan(values)).sum(-1), 1)
    return np.where(full, 2 * np.sqrt(np.nansum(values**2, -1) / T), np.nan)


class Spectra(NamedTuple):
    """Of every head of a layer."""

    of_map: Float[np.ndarray, "S H T+1"]
    without_mean: Float[np.ndarray, "S H T+1"]


@functools.lru_cache(maxsize=1)
def _spectra(seen: Seen) -> Spectra:
    """All that the entries need, decomposed once."""
    columns = seen.sources
    maps = np.stack([seen.alpha, without_mean(seen.alpha, columns)])
    return Spectra(*singular_values(maps))


def _predicted(seen: Seen) -> Float[np.ndarray, "S H"]:
    full = is_full(seen.allowed, seen.real[:, None]) & seen.is_softmax
    return predicted_second(_spectra(seen).without_mean, full)


def _over_prediction(seen: Seen) -> Float[np.ndarray, "S H"]:
    second, predicted = _spectra(seen).of_map[..., 1], _predicted(seen)
    missing = np.full(second.shape, np.nan)
    return np.divide(second, predicted, where=predicted > ROUNDING, out=missing)


_SAADA = "Nait Saada et al., arXiv 2410.07799"
_FULL = (
    "a plain softmax and two rows or more, each of which may attend to all of them and "
    "nothing else"
)
_SINGULAR = Panel("Singular values")
_STABLE = Panel("Stable rank")
ENTRIES = (
    Diagnostic(
        name="spectral_norm",
        label="spectral norm s1",
        meaning="largest singular value of a sample's attention map, mean over samples",
        source=_SAADA,
        function=lambda seen: _spectra(seen).of_map[..., 0],
        uniform=lambda _: 1.0,
        panel=_SINGULAR,
    ),
    Diagnostic(
        name="second_singular_value",
        label="second singular value s2",
        meaning="second singular value of a sample's attention map, mean over samples",
        source=_SAADA,
        function=lambda seen: _spectra(seen).of_map[..., 1],
        needs="two rows or more",
        uniform=lambda _: 0.0,
        panel=_SINGULAR,
    ),
    Diagnostic(
        name="predicted_second_singular_value",
        label="prediction of s2",
        meaning="2 sigma_A / sqrt T, sigma_A the standard deviation of T alpha_ij in "
        "the sample: s2 of independent entries at large T, mean over samples",
        source=_SAADA,
        function=_predicted,
        needs=_FULL,
        uniform=lambda _: 0.0,
        panel=_SINGULAR,
    ),
    Diagnostic(
        name="second_singular_value_ratio",
        label="s2 / prediction",
        meaning="second singular value over 2 sigma_A / sqrt T, mean over samples: "
        "near 1 for independent entries, up to sqrt(T) / 2",
        source=f"ours: the ratio of the two of {_SAADA}",
        function=_over_prediction,
        needs=f"{_FULL}, and attention that is not uniform",
    ),
    Diagnostic(
        name="spectral_gap",
        label="spectral gap s1 - s2",
        meaning="largest less second singular value of a sample's attention map, mean "
        "over samples",
        source=f"{_SAADA}; ours: the gap as a difference",
        function=lambda seen: -np.diff(_spectra(seen).of_map[..., :2])[..., 0],
        needs="two rows or more",
        uniform=lambda _: 1.0,
    ),
    Diagnostic(
        name="stable_rank",
        label="stable rank",
        meaning="||A||_F^2 / ||A||^2 of a sample's attention map, mean over samples",
        source=_SAADA,
        function=lambda seen: stable_rank(_spectra(seen).of_map),
        uniform=lambda _: 1.0,
        panel=_STABLE,
    ),
    Diagnostic(
        name="stable_rank_without_mean",
        label="stable rank without mean",
        meaning="stable rank of A - (1/T) 1 1^T, mean over samples; T counts the steps "
        "that some row may attend to",
        source=_SAADA,
        function=lambda seen: stable_rank(_spectra(seen).without_mean),
        needs="attention that is not uniform",
        panel=_STABLE,
    ),
)
