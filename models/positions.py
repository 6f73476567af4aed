"""Position encodings: what is added to an input so that attention can tell the time."""

from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64

from sensitivity.arguments import ArgumentError

PositionKind = Literal["none", "sinusoidal", "tape"]


def frequencies(D: int) -> Float64[np.ndarray, " I"]:
    r"""Angular frequencies of the sinusoidal encoding, in radians per time step.

    .. math::
        \omega_i = 10000^{-2i / D}, \qquad 0 \le i < I = \lceil D / 2 \rceil

    Args:
        D: Model width.

    Returns:
        The frequencies from fast to slow; the first is 1.

    Raises:
        ArgumentError: If ``D`` is below 1.

    Example:
        >>> frequencies(4).tolist()
        [1.0, 0.01]

    References:
        Vaswani et al., `Attention is all you need
        <https://arxiv.org/abs/1706.03762>`_, 2017, section 3.5.
    """
    if D < 1:
        raise ArgumentError("D", f"must be at least 1, got {D}.")
    return 10000.0 ** (-np.arange(0, D, 2) / D)


def position_encoding(kind: PositionKind, T: int, D: int) -> Float64[np.ndarray, "T D"]:
    r"""What a window of T steps adds to its inputs of width D.

    With the frequencies :math:`\omega_i` of :func:`frequencies`,

    .. math::
        p_{t, 2i} = \sin(t\, c\, \omega_i), \qquad
        p_{t, 2i + 1} = \cos(t\, c\, \omega_i)

    where :math:`c = 1` for ``sinusoidal`` and :math:`c = D / T` for ``tape`` (time
    absolute position encoding), so that a window of any length spans the angles of D
    steps; ``none`` is zero. For even D,

    .. math::
        p_t \cdot p_s = \textstyle\sum_i \cos((t - s)\, c\, \omega_i), \qquad
        p_t \cdot p_t = D / 2:

    the similarity of two steps depends on their lag alone. For odd D the last column
    is a sine without its cosine, and neither holds.

    Args:
        kind: ``"none"``, ``"sinusoidal"`` or ``"tape"``.
        T: Number of time steps in the window.
        D: Model width.

    Returns:
        The encoding, without unit.

    Raises:
        ArgumentError: If ``kind`` is none of the three, or ``T`` or ``D`` is below 1.

    Example:
        >>> position_encoding("sinusoidal", 2, 2).round(4).tolist()
        [[0.0, 1.0], [0.8415, 0.5403]]
        >>> position_encoding("tape", 2, 4).round(4).tolist()  # twice as fast
        [[0.0, 1.0, 0.0, 1.0], [0.9093, -0.4161, 0.02, 0.9998]]

    References:
        Vaswani et al., `Attention is all you need
        <https://arxiv.org/abs/1706.03762>`_, 2017, section 3.5 (sinusoidal).
        Foumani et al., `Improving position encoding of transformers for multivariate
        time series classification <https://arxiv.org/abs/2305.16642>`_, 2024 (tAPE).
    """
    if kind not in get_args(PositionKind):
        names = ", ".join(map(repr, get_args(PositionKind)))
        raise ArgumentError("kind", f"must be one of {names}, got {kind!r}.")
    if T < 1:
        raise ArgumentError("T", f"must be at least 1, got {T}.")
    omega = frequencies(D)
    encoding = np.zeros((T, D))
    if kind == "none":
        return encoding
    stretch = D / T if kind == "tape" else 1.0
    angle = np.arange(T)[:, None] * (stretch * omega)  # (T, I)
    encoding[:, 0::2] = np.sin(angle)
    encoding[:, 1::2] = np.cos(angle[:, : D // 2])
    return encoding
