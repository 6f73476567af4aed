"""Certificates on the whole Jacobian of trained layers, on a few samples."""

import numpy as np
import pandas as pd

from analysis.attention._measure import LayerInput
from sensitivity.certificates import certificates


def certify(layers: list[LayerInput], nodes: list[int], count: int) -> pd.DataFrame:
    """Judge the certificates of every layer.

    Args:
        layers: Of one forecaster.
        nodes: Numbers of the nodes of their inputs.
        count: Samples, evenly spaced over windows and, within these, nodes; at most
            all.

    Returns:
        The rows of `sensitivity.certificates.certificates`, with ``layer`` (from 0),
        and in place of the sample its ``window_index`` among the windows looked at and
        its ``node`` (both from 0).
    """
    tables = []
    for number, layer in enumerate(layers):
        N, B = layer.x.shape[:2]
        total = N * B
        chosen = np.unique(np.linspace(0, total - 1, min(count, total)).round())
        b, n = np.divmod(chosen.astype(int), N)
        table = certificates(
            layer.x[n, b], layer.weights, layer.score_bias, residual=layer.residual
        )
        sample = table.pop("sample").to_numpy()
        places = {"window_index": b[sample], "node": np.array(nodes)[n[sample]]}
        table = pd.DataFrame({"layer": number, **places}).join(table)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def certificate_table(table: pd.DataFrame, note: str) -> str:
    """The certificates beside the exact norm, as a Markdown page.

    Args:
        table: The rows of ``certificates.csv``.
        note: What was measured.

    Returns:
        The page: a row per length, variant and certificate, over all samples.
    """
    head = (
        *("T", "variant", "certificate", "applies", "samples", "holds"),
        *("exact, median", "bound, median", "exact / bound, median", "worst"),
    )
    lines = [
        "# The whole Jacobian of trained layers: exact spectral norm and certificates",
        "",
        *(note, "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"),
    ]
    names = ["T", "variant", "certificate", "applies"]
    for key, own in table.groupby(names, sort=False, dropna=False):
        inside = own.dropna(subset=["bound"])
        holding = f"{int(inside['holds'].astype(bool).sum())} of {len(inside)}"
        medians = [own["exact"].median()]
        if len(inside):
            medians += [inside["bound"].median(), inside["ratio"].median()]
            medians += [inside["ratio"].max()]
        else:
            holding = ""
        numbers = [f"{value:.3g}" for value in medians] + [""] * (4 - len(medians))
        cells = [*map(str, key), str(len(own)), holding, *numbers]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])
