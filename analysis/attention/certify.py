"""Certificates on the whole Jacobian of trained layers, on a few samples."""

import numpy as np
import pandas as pd

from analysis.attention.measure import LayerInput
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
        and in place of the sample its ``test_window`` (from 1) and ``node`` (from 0).
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
        places = {"test_window": b[sample] + 1, "node": np.array(nodes)[n[sample]]}
        table = pd.DataFrame({"layer": number, **places}).join(table)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
