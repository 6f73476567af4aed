"""The attention layers of one trained forecaster, measured at what they really see."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.diagnostics.diagnose import (
    courses,
    summarize,
    summarize_courses,
    values,
    with_mean,
)
from analysis.diagnostics.seen import Seen, look
from sensitivity import LayerInput, PathNorms
from sensitivity.certificates import certificates
from sensitivity.norms import Norm

MAPS = ("attention", *PathNorms._fields)


class Part(NamedTuple):
    """What was measured of one forecaster."""

    table: pd.DataFrame  # the rows of `diagnose`, with the number of their layer
    curves: pd.DataFrame  # the rows of `summarize_courses`, likewise
    # Means over samples, in the order of `MAPS`; heads in order, then the whole layer.
    maps: Float[np.ndarray, "L heads maps T T"]


def measure(layers: Sequence[LayerInput], norm: Norm) -> Part:
    """Measure every layer of a forecaster, window by window."""
    tables, curves, maps = [], [], []
    for number, layer in enumerate(layers):
        found = [
            (values(seen), courses(seen), _maps(seen)) for seen in look(layer, norm)
        ]
        for rows, table in (
            (tables, summarize([own for own, _, _ in found])),
            (curves, summarize_courses([own for _, own, _ in found])),
        ):
            table.insert(0, "layer", number)
            rows.append(table)
        maps.append(sum(own for _, _, own in found) / len(found))
    joined = [pd.concat(rows, ignore_index=True) for rows in (tables, curves)]
    return Part(*joined, np.stack(maps))


def _maps(seen: Seen) -> Float[np.ndarray, "heads maps T T"]:
    found = [with_mean(seen.alpha).mean(0)]
    for heads, layer in zip(seen.heads, seen.layer, strict=True):
        found.append(np.concatenate([heads, layer[:, None]], 1).mean(0))
    return np.stack(found, 1)


def certify(
    layers: Sequence[LayerInput], nodes: Sequence[int], count: int
) -> pd.DataFrame:
    """Judge the certificates of every layer on samples of all windows and nodes."""
    # In place of the sample a row has the number of its window among those looked at,
    # and its node.
    tables = []
    for number, layer in enumerate(layers):
        B, N = layer.x.shape[:2]
        chosen = np.unique(np.linspace(0, B * N - 1, min(count, B * N)).round())
        b, n = np.divmod(chosen.astype(int), N)
        table = certificates(
            layer.x[b, n], layer.weights, layer.score_bias, residual=layer.residual
        )
        sample = table.pop("sample").to_numpy()
        places = {"window_index": b[sample], "node": np.array(nodes)[n[sample]]}
        tables.append(pd.DataFrame({"layer": number, **places}).join(table))
    return pd.concat(tables, ignore_index=True)
