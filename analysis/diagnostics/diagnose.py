"""From a layer at its input to a table of its diagnostics."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from analysis.diagnostics.diagnostic import Diagnostic
from analysis.diagnostics.registry import BY_NAME, CURVES, DIAGNOSTICS
from analysis.diagnostics.rows import mean
from analysis.diagnostics.seen import Seen, look
from sensitivity import LayerInput
from sensitivity.arguments import ArgumentError
from sensitivity.norms import Norm

WHOLE = "layer"


def diagnose(
    layer: LayerInput, names: Sequence[str] | None = None, *, norm: Norm = "frobenius"
) -> pd.DataFrame:
    r"""Measure how a layer's attention spreads, and by which path it influences.

    The layer may be of any origin: trained here (`models.layer_inputs.layer_inputs`),
    captured from a Flax model or read from another one (`sensitivity.capture`). All is
    computed in float64, a sample or window at a time, and only what the names need.

    What can be measured, each with its meaning and source, is the tuple ``DIAGNOSTICS``
    of `analysis.diagnostics.registry`: with attention weights :math:`\alpha` and
    Jacobian blocks :math:`J_{ij} = \partial o_i / \partial x_j` among them the diagonal
    share :math:`\mathrm{tr}\, \alpha / T`, the norms of J by path, on the diagonal and
    off it, and the parroting ratio

    .. math:: \|J_{ii}\| \Big/ \frac{1}{T - 1} \sum_{j \ne i} \|J_{ij}\|

    Args:
        layer: The layer, its input of shape (..., T, D). Leading axes are samples and
            nodes: all count alike. Query rows that its ``rows`` leaves out, those of
            padding, count nowhere.
        names: What to measure, by default everything.
        norm: Norm of the Jacobians, ``"frobenius"`` or ``"spectral"``. Spectral norms
            of a whole layer of several heads are slow.

    Returns:
        A row per ``head`` (``"0"``, ``"1"``, ..., and ``"layer"`` for the layer as a
        whole) and ``quantity``, with its ``value``, and a ``note`` where that is
        missing: what it needs. What is of the residual is of the layer only, and left
        out where it has none.

    Raises:
        ArgumentError: If a name is unknown, with those that are known.
        ValueError: If shapes do not fit, a value is not finite, a row that counts has
            nothing to attend to, or the layer has a residual and its output is not as
            wide as its input.

    Example:
        >>> from sensitivity import AttentionWeights
        >>> zero = np.zeros((2, 1, 2))  # no query, no key: uniform attention
        >>> weights = AttentionWeights(zero, zero, np.eye(2)[:, None])
        >>> layer = LayerInput(x=np.eye(2), weights=weights)
        >>> names = ["diagonal_share", "entropy", "total_off_diagonal"]
        >>> diagnose(layer, names).drop(columns="note")
            head            quantity     value
        0      0      diagonal_share  0.500000
        1      0             entropy  1.000000
        2      0  total_off_diagonal  0.707107
        3  layer      diagonal_share  0.500000
        4  layer             entropy  1.000000
        5  layer  total_off_diagonal  0.707107

    References:
        arXiv 2602.10956, Eq. 4 and 8; for each diagnostic its ``source``.
    """
    if unknown := [name for name in names or () if name not in BY_NAME]:
        known = ", ".join(BY_NAME)
        raise ArgumentError("names", f"must be among {known}, got {unknown[0]!r}.")
    chosen = DIAGNOSTICS if names is None else [BY_NAME[name] for name in names]
    return summarize((values(seen, chosen) for seen in look(layer, norm)), chosen)


def with_mean(heads: np.ndarray) -> np.ndarray:
    """Heads, and behind them their mean, which stands for the layer as a whole."""
    return np.concatenate([heads, heads.mean(1, keepdims=True)], 1)


def values(
    seen: Seen, diagnostics: Iterable[Diagnostic] = DIAGNOSTICS
) -> dict[str, np.ndarray]:
    """Of every row or sample, by name: heads, shape (S, H + 1, ...), the layer last."""
    # What heads do not have has shape (S, 1, ...); what the layer lacks is left out.
    found = {}
    for entry in diagnostics:
        heads = [] if entry.function is None else [entry.function(seen)]
        if entry.whole is None:
            found[entry.name] = with_mean(*heads)
        elif (whole := entry.whole(seen)) is not None:
            found[entry.name] = np.concatenate([*heads, whole[:, None]], 1)
    return found


def summarize(
    parts: Iterable[dict[str, np.ndarray]],
    diagnostics: Sequence[Diagnostic] = DIAGNOSTICS,
) -> pd.DataFrame:
    """The rows of `diagnose`, of what `values` found in each part of the samples."""
    whole = _joined(parts)
    count = max((table.shape[1] for table in whole.values()), default=1)
    rows = []
    for number in range(count):
        for entry in diagnostics:
            table = whole.get(entry.name)
            if table is None:
                continue
            place = number - count + table.shape[1]  # the layer is last
            if place >= 0:
                value = entry.reduce(table[:, place])
                note = f"needs {entry.needs}" if np.isnan(value) else ""
                rows.append([_head(number, count), entry.name, value, note])
    return pd.DataFrame(rows, columns=["head", "quantity", "value", "note"])


def courses(seen: Seen) -> dict[str, np.ndarray]:
    """Of every sample, by name of a curve: heads and the layer, (S, H + 1, points)."""
    return {entry.name: with_mean(entry.function(seen)) for entry in CURVES}


def summarize_courses(parts: Iterable[dict[str, np.ndarray]]) -> pd.DataFrame:
    """A row per head, curve and point: the mean over all samples that have a value."""
    whole, tables = _joined(parts), []
    for entry in CURVES:
        found = whole[entry.name]
        number, at = np.indices(found.shape[1:])
        means = [mean(found[:, n, k]) for n, k in np.ndindex(*found.shape[1:])]
        names = [_head(int(n), found.shape[1]) for n in number.ravel()]
        columns = {
            "head": names,
            "quantity": entry.name,
            "at": at.ravel() + entry.first,
        }
        tables.append(pd.DataFrame(columns | {"value": means}))
    return pd.concat(tables, ignore_index=True)


def _joined(parts: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What was found in each part of the samples, as one array by name."""
    parts = list(parts)
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def _head(number: int, count: int) -> str:
    return WHOLE if number == count - 1 else str(number)
