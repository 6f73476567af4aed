"""Which attention of a forecaster stands out from that of resampled windows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.attention._comparison import MEAN, compare, seeds_table
from analysis.attention._sources import Source
from analysis.attention.options import AttentionOptions
from analysis.diagnostics.diagnose import WHOLE
from analysis.diagnostics.nulls import count_resamples, resampled_windows
from analysis.diagnostics.rows import mean
from analysis.diagnostics.significance import (
    FEWEST_EDGES,
    Edges,
    compare_with_null,
    local_false_discovery_rate,
    null_proportion,
    signed_rmsd,
    survives,
)
from sensitivity import LayerInput
from sensitivity.arguments import ArgumentError
from sensitivity.attention import attention_matrix

MAPS = ("attention", "surviving_lfdr", "surviving_p")
_AT_ONCE = 16 * 2**20  # bytes of weights: several times as much is held


class Quantity(NamedTuple):
    """A number of a head."""

    label: str
    meaning: str
    needs: str


_EDGE = "an edge: a weight above 0 that changes with the window"
_ON, _OFF = "an edge on the diagonal", "an edge off the diagonal"
_MANY = (
    f"at least {FEWEST_EDGES} edges a head, some {{}} the diagonal, with a density "
    "that can be fitted"
)
QUANTITIES = {
    "edges": Quantity("edges", "edges of all windows and nodes", _EDGE),
    "pi0": Quantity("pi0", "share of edges that are as in the null, Storey", _EDGE),
    "srmsd": Quantity(
        "srmsd of p", "signed root mean square distance of p from uniform", _EDGE
    ),
    "z_diagonal": Quantity("z on the diagonal", "mean z of the edges i = j", _ON),
    "z_off_diagonal": Quantity("z off it", "mean z of the edges i != j", _OFF),
    "share_surviving_diagonal": Quantity(
        "survive on the diagonal",
        "share of the edges i = j with z >= 0 and a local false discovery rate of at "
        "most --false-discovery",
        _MANY.format("on"),
    ),
    "share_surviving_off_diagonal": Quantity(
        "survive off it", "the same of the edges i != j", _MANY.format("off")
    ),
    "share_surviving_p_diagonal": Quantity(
        "by p, on the diagonal",
        "share of the edges i = j with z >= 0 and p of at most --false-discovery",
        _ON,
    ),
    "share_surviving_p_off_diagonal": Quantity(
        "by p, off it", "the same of the edges i != j", _OFF
    ),
}


class Significance(NamedTuple):
    """What was found in one forecaster."""

    values: Float[np.ndarray, "L heads quantities"]  # heads in order, then their mean
    maps: Float[np.ndarray, "L maps T T"]  # in the order of `MAPS`, over all heads


def check_lengths(options: AttentionOptions, sources: Sequence[Source]) -> None:
    """Refuse windows of one step, which have no other order."""
    for source in sources:
        if options.resamples and source.T < 2:
            raise ArgumentError(
                "resamples",
                f"({options.resamples}) needs windows of at least 2 steps, but those "
                f"of {source.run.folder} have {source.T}.",
            )


def measure_significance(
    layers: Sequence[LayerInput], options: AttentionOptions
) -> Significance:
    """Compare every layer's attention with that of its resampled input windows."""
    values, maps = [], []
    for number, layer in enumerate(layers):
        # Of a layer alone: the same resamples for all variants, seeds and steps.
        rng = np.random.default_rng([options.resample_seed, number])
        found = list(_compared(layer, options, rng))
        alpha, z, p = (np.concatenate(parts) for parts in zip(*found, strict=True))
        M = count_resamples(options.null_model, options.resamples, z.shape[-1])
        own, survival = _judged(Edges(z, p), M, options.false_discovery)
        values.append(np.vstack([own, [mean(column) for column in own.T]]))
        maps.append(np.stack([alpha.mean((0, 1)), *survival]))
    return Significance(np.stack(values), np.stack(maps))


def _compared(
    layer: LayerInput, options: AttentionOptions, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, ...]]:
    """Attention, z and p, (S, H, T, T), of some windows and nodes after others."""
    T, D = layer.x.shape[-2:]
    x, H = layer.x.reshape(-1, T, D), layer.weights.heads
    M = count_resamples(options.null_model, options.resamples, T)
    at_once = max(1, _AT_ONCE // ((M + 1) * H * T * T * x.itemsize))
    for own in np.split(x, range(at_once, len(x), at_once)):
        null = resampled_windows(own, options.null_model, M, rng)
        alpha, nulls = (
            np.asarray(attention_matrix(windows, layer.weights, layer.score_bias))
            for windows in (own, null)
        )
        yield alpha, *compare_with_null(alpha, nulls)


def _judged(edges: Edges, resamples: int, most: float) -> tuple[np.ndarray, np.ndarray]:
    """By head its numbers, (H, quantities), and the two maps of survival, (2, T, T)."""
    numbers, lfdr = [], np.full_like(edges.z, np.nan)
    for head in range(edges.z.shape[1]):
        edge = ~np.isnan(edges.z[:, head])
        z, p = edges.z[:, head][edge], edges.p[:, head][edge]
        pi0 = null_proportion(p, resamples)
        lfdr[:, head][edge] = local_false_discovery_rate(z, pi0)
        numbers.append([len(z) or np.nan, pi0, signed_rmsd(p)])
    shares = [
        np.where(np.isnan(score), np.nan, survives(edges.z, score, most))
        for score in (lfdr, edges.p)
    ]
    diagonal = np.eye(edges.z.shape[-1], dtype=bool)
    split = [
        [mean(table[:, head][..., where]) for head in range(len(numbers))]
        for table in (edges.z, *shares)
        for where in (diagonal, ~diagonal)
    ]
    maps = [_mean_over_samples(share) for share in shares]
    return np.column_stack([numbers, *split]), np.stack(maps)


def _mean_over_samples(share: np.ndarray) -> np.ndarray:
    """Of each edge over all windows, nodes and heads that have it; NaN where none."""
    count = (~np.isnan(share)).sum((0, 1))
    missing = np.full(count.shape, np.nan)
    return np.divide(np.nansum(share, (0, 1)), count, out=missing, where=count > 0)


def significance_table(found: Significance) -> pd.DataFrame:
    """A row per layer, head and quantity; what has no value says what it needs."""
    layers, heads, _ = found.values.shape
    names = [*map(str, range(heads - 1)), WHOLE]
    index = pd.MultiIndex.from_product(
        [range(layers), names, QUANTITIES], names=["layer", "head", "quantity"]
    )
    table = pd.DataFrame({"value": found.values.ravel()}, index=index).reset_index()
    notes = {name: f"needs {entry.needs}" for name, entry in QUANTITIES.items()}
    note = table["quantity"].map(notes).where(table["value"].isna(), "")
    return table.assign(note=note)


def significance_note(options: AttentionOptions, lengths: Sequence[int]) -> str:
    """What an edge was compared with."""
    counts = {T: count_resamples(options.null_model, options.resamples, T)
              for T in lengths}  # fmt: skip
    several = " or ".join(map(str, sorted(set(counts.values()))))
    what = {
        "steps": "of their own steps drawn with replacement",
        "shift": "turned in a circle (T steps have T - 1 other shifts: p is 1/T or "
        "more)",
        "gaussian": "of normal channels of the same mean and deviation",
    }[options.null_model]
    note = (
        f"Weights beside those of {several} resamples of the layer's own input "
        f"windows, {what}, seed {options.resample_seed}. Survive: z >= 0, and a local "
        "false discovery rate or p of at most "
        f"{options.false_discovery:g}; on noise half as many by p."
    )
    if options.null_model == "gaussian":
        return note
    return (
        f"{note} Such resamples keep the pairs of steps that a window has: in a layer "
        "without masks or other score biases p is nearly uniform over the edges of a "
        "window, whatever was learned, and where edges survive says more than how many "
        "do."
    )


def significance_page(
    table: pd.DataFrame, references: Mapping[tuple[int, str], str], note: str
) -> str:
    """``significance.md``: variants over seeds and beside (b), mean over layers."""
    rows = compare(table.dropna(subset=["value"]), references, QUANTITIES)
    labels = {name: entry.label for name, entry in QUANTITIES.items()}
    lines = ["# Attention beside resampled windows", "", note, ""]
    lines += [*seeds_table(rows[rows["layer"] == MEAN], labels), ""]
    for name, entry in QUANTITIES.items():
        if table.loc[table["quantity"] == name, "value"].isna().any():
            lines += [f"Where {entry.label} is missing: needs {entry.needs}.", ""]
    lines += ["## What they are", ""]
    lines += [f"- **{e.label}**: {e.meaning}" for e in QUANTITIES.values()]
    return "\n".join([*lines, ""])
