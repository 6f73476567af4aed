"""Learning rate by epoch: linear warm-up, then a cosine, as the reference has it."""

import math


def learning_rate(
    epoch: int, epochs: int, *, peak: float, warmup: int = 5, floor: float = 1e-6
) -> float:
    r"""Learning rate of one epoch.

    With w epochs of warm-up out of E, for epoch e = 0, 1, ..., E - 1,

    .. math::
        \eta_e = \eta\,(0.1 + 0.9\, e / w) \quad (e < w), \qquad
        \eta_e = \eta_0 + (\eta - \eta_0)\, \tfrac12
            \left(1 + \cos \pi \frac{e - w}{E - w}\right) \quad (e \ge w)

    Args:
        epoch: The epoch e, from 0.
        epochs: Number of epochs E.
        peak: Largest rate :math:`\eta`.
        warmup: Epochs w of warm-up.
        floor: What the cosine falls to, :math:`\eta_0`, at epoch E.

    Returns:
        The rate.

    Example:
        >>> [round(learning_rate(e, 4, peak=1.0, warmup=2), 3) for e in range(4)]
        [0.1, 0.55, 1.0, 0.5]
    """
    # Not optax's, which is the same to rounding: in float32 two of three rates differ,
    # and in float64 the last digits of those that runs have on record.
    if epoch < warmup:
        return peak * (0.1 + 0.9 * epoch / warmup)
    phase = math.pi * (epoch - warmup) / max(epochs - warmup, 1)
    return floor + (peak - floor) * 0.5 * (1 + math.cos(phase))
