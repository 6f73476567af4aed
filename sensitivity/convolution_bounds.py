r"""Bounds on influence between time steps through a stack of causal convolutions.

In lag coordinates, i the lag of an input behind the newest step and j that of an
output, a layer of P taps lets an input reach an output if it is i - j < P steps older:
the 0/1 lower triangular Toeplitz matrix R. L layers of gain g let it through no more
than :math:`g^L (R^L)_{ij}`. By step, t' = T - 1 - j and t = T - 1 - i, the table
:math:`[t', t]` is the same matrix, as long as it is Toeplitz.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from sensitivity.arguments import check_at_least


def lag_matrix(T: int, taps: int) -> Float[np.ndarray, "T T"]:
    r"""Which lags of its input a causal convolution sees.

    .. math:: R_{ij} = 1 \text{ where } 0 \le i - j < P

    Args:
        T: Number of steps.
        taps: P.

    Returns:
        R, input lag i by output lag j, shape (T, T).

    Raises:
        ValueError: If a number is below 1.

    Example:
        >>> lag_matrix(3, taps=2).tolist()
        [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]

    References:
        Marisca et al., `arXiv 2506.15507 <https://arxiv.org/abs/2506.15507>`_, 2025,
        section 4.
    """
    check_at_least(1, T=T, taps=taps)
    lag = np.arange(T)[:, None] - np.arange(T)
    return ((lag >= 0) & (lag < taps)).astype(np.float64)


def tap_gain(
    taps: Float[Any, "*layers P O D"], *, slope: float = 1.0, residual: bool = False
) -> float:
    r"""The gain :math:`c_\sigma w` of convolutions, w the largest norm of a tap.

    .. math:: g = \max_l \max \big( c_\sigma \max_p \|W_p\|_2, \;
        1 + c_\sigma \|W_0\|_2 \text{ with a residual} \big)

    Args:
        taps: Weights W_p of one layer or of all, own step first, shape (..., P, O, D).
        slope: Largest slope of the nonlinearity.
        residual: Whether the input of a layer is added behind its nonlinearity.

    Returns:
        The gain.

    Example:
        >>> import numpy as np
        >>> tap_gain(np.stack([np.eye(2), 3 * np.eye(2)]), residual=True)
        3.0
    """
    norms = slope * np.linalg.norm(np.asarray(taps, np.float64), 2, axis=(-2, -1))
    norms[..., 0] += residual
    return float(norms.max())


def convolution_bound(
    T: int, taps: int, gain: float, layers: int
) -> Float[np.ndarray, "T T"]:
    r"""How much each step moves each other through a stack of causal convolutions.

    For layers :math:`h_t = \sigma(\sum_p W_p x_{t - p})` that begin with zeros

    .. math:: \left\| \frac{\partial h^{(L)}_{t-j}}{\partial x_{t-i}} \right\|_2
        \le g^L (R^L)_{ij}

    Args:
        T: Number of steps.
        taps: P.
        gain: g, of all layers (`tap_gain`).
        layers: Their number L.

    Returns:
        Bounds from step t to step t' at [t', t], which is also from lag i to lag j at
        [i, j], shape (T, T).

    Raises:
        ValueError: If a number is below 1, or ``gain`` or ``layers`` negative.

    Example:
        >>> convolution_bound(3, taps=2, gain=1.0, layers=2).tolist()
        [[1.0, 0.0, 0.0], [2.0, 1.0, 0.0], [1.0, 2.0, 1.0]]

    References:
        Marisca et al., arXiv 2506.15507, 2025, Theorem 4.1.
    """
    check_at_least(0, gain=gain, layers=layers)
    return gain**layers * np.linalg.matrix_power(lag_matrix(T, taps), layers)
