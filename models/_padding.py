"""Batches of equal size: the last one is filled up, and what fills it is known."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int


class PaddedBatches(NamedTuple):
    """Windows in batches of B.

    Attributes:
        starts: Starts of the windows, shape (batches, B).
        real: Which of them are asked for, and do not only fill up, same shape.
    """

    starts: Int[np.ndarray, "batches B"]
    real: Bool[np.ndarray, "batches B"]


def padded_batches(starts: Int[np.ndarray, " W"], size: int) -> PaddedBatches:
    """Cut windows into batches; the first windows fill up the last batch.

    Args:
        starts: Starts of the W windows.
        size: Windows B in a batch.

    Returns:
        The batches.

    Example:
        >>> import numpy as np
        >>> batches = padded_batches(np.arange(5, 8), 2)
        >>> batches.starts.tolist(), batches.real.tolist()
        ([[5, 6], [7, 5]], [[True, True], [True, False]])
    """
    count = -(-len(starts) // size)
    padded = np.resize(starts, (count, size)).astype(np.int32)
    real = np.arange(count * size).reshape(count, size) < len(starts)
    return PaddedBatches(padded, real)
