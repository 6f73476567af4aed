"""What oracles are given: one sample of a head or layer, from the definitions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tests import reference
from tests.helpers import PATHS


class View(NamedTuple):
    """One sample of a head, or of a layer: the attention of its heads, its norms."""

    x: np.ndarray
    weights: Any
    bias: np.ndarray  # of all heads, (H, T, T)
    heads: list[int]  # which of the layer's heads are looked at
    alphas: list[np.ndarray]  # theirs
    norms: dict[str, np.ndarray]
    kept: np.ndarray | None  # norms of I + J_ii

    @property
    def T(self) -> int:
        """Number of steps."""
        return len(self.x)

    def projected(self, name: str, head: int) -> np.ndarray:
        """Queries, keys or values of a head, by its kernel's name, (T, K)."""
        kernel = getattr(self.weights, name)[:, head]
        bias = getattr(self.weights, f"{name}_bias")
        return self.x @ kernel + (0 if bias is None else bias[head])

    def scores(self, head: int) -> np.ndarray:
        """Scores of a head, (T, T)."""
        q, k = self.projected("query", head), self.projected("key", head)
        return q @ k.T / np.sqrt(q.shape[1]) + self.bias[head]


Oracle = Callable[[list[View]], Any]  # of all samples, to the number of the table


def views(x: np.ndarray, w: Any, bias: np.ndarray, norm: str, residual: bool):
    """By head, the samples of a layer, from the definitions."""
    found: dict[str, list[View]] = {}
    order = reference.ORDER[norm]
    for sample in x:
        alphas = [*reference.weights(sample, w, bias)]
        heads = reference.path_jacobians(sample, w, bias, per_head=True)
        layer = reference.path_jacobians(sample, w, bias)
        for head in [*range(len(alphas)), "layer"]:
            blocks = layer if head == "layer" else {p: heads[p][head] for p in PATHS}
            norms = {p: np.linalg.norm(blocks[p], order, (-2, -1)) for p in PATHS}
            chosen = [*range(len(alphas))] if head == "layer" else [int(head)]
            kept = None
            if residual and head == "layer":
                steps = range(len(sample))
                eyes = [np.eye(sample.shape[1]) + layer["total"][i, i] for i in steps]
                kept = np.array([np.linalg.norm(block, order) for block in eyes])
            view = View(
                sample, w, bias, chosen, [alphas[n] for n in chosen], norms, kept
            )
            found.setdefault(str(head), []).append(view)
    return found
