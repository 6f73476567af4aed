"""Masks of other libraries, one table for each sample, in as few numbers as will do."""

import numpy as np
from jaxtyping import Bool, Float

from sensitivity.weights import ScoreBias


def bias_of(
    allowed: Bool[np.ndarray, "*B #H #T T"],
    added: Float[np.ndarray, "*B #H #T T"],
    window: int | None = None,
) -> tuple[ScoreBias, Bool[np.ndarray, "B T"] | None]:
    """What a mask does to scores, and which steps are real, if not all."""
    # window: what a sliding window may be, if there is one. A step that no row attends
    # to is padding, and so is a row that sees nothing: such rows are given all steps.
    T = allowed.shape[-1]
    whole = np.broadcast_to(allowed, (*allowed.shape[:-2], T, T))
    seen, empty = np.any(whole, (1, 2)), ~np.any(whole, (1, 3))  # (B, T)
    real = np.logical_and(seen, ~empty)
    rows = None if real.all() else real
    near = None if window is None or window >= T else int(window)
    away = np.subtract.outer(np.arange(T), np.arange(T))
    for causal, close in ((c, w) for c in (False, True) for w in {None, near}):
        may = (away >= 0) | (not causal)
        may &= np.abs(away) < (T if close is None else close)
        here = may & seen[:, None]  # (B, T, T)
        same = (whole == here[:, None]).all((1, 3)) | ~real
        if same.all() and not added.any() and here.any(-1).all():
            keys = np.where(seen, 0.0, -np.inf)[:, None, None]
            array = None if seen.all() else keys
            return ScoreBias(causal=causal, window=close, array=array), rows
    if not empty.any():
        return ScoreBias(array=np.where(allowed, added, -np.inf)), rows
    table = np.where(whole | empty[:, None, :, None], added, -np.inf)
    return ScoreBias(array=table), rows
