r"""Bounds on influence between time steps through a stack of causal convolutions.

In lag coordinates, i the lag of an input behind the newest step and j that of an
output, a layer of P taps lets an input reach an output if it is i - j < P steps older:
the 0/1 lower triangular Toeplitz matrix R. L layers of gain g let it through no more
than :math:`g^L (R^L)_{ij}`. By step, t' = T - 1 - j and t = T - 1 - i, the table
:math:`[t', t]` is the same matrix, as long as it is Toeplitz.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from sensitivity.arguments import check_at_least


def lag_matrix(T: int, taps: int, dilation: int = 1) -> Float[np.ndarray, "T T"]:
    r"""Which lags of its input a causal convolution sees.

    .. math:: R_{ij} = 1 \text{ where } i - j \in \{0, d, \dots, (P - 1) d\}

    Args:
        T: Number of steps.
        taps: P.
        dilation: d.

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
    check_at_least(1, T=T, taps=taps, dilation=dilation)
    lag = np.arange(T)[:, None] - np.arange(T)
    seen = (lag >= 0) & (lag % dilation == 0) & (lag < taps * dilation)
    return seen.astype(np.float64)


def row_normalised(lags: Float[Any, "T T"]) -> Float[np.ndarray, "T T"]:
    r"""The matrix :math:`R_N = \mathrm{diag}(R 1)^{-1} R` of Marisca et al.

    It is that of convolutions whose input at lag i is divided by the number
    :math:`\min(i + 1, P)` of outputs that it reaches. Lag 0 is absorbing, so
    :math:`(R_N^L)_{i0} \to 1` for every i: deep stacks forget no step and prefer none.

    Args:
        lags: R, without empty rows, shape (T, T).

    Returns:
        R_N, rows adding up to 1. It is no Toeplitz matrix: to turn its powers into a
        table by step, reverse both axes and transpose.

    Raises:
        ValueError: If a row is empty.

    Example:
        >>> row_normalised(lag_matrix(3, taps=2)).tolist()
        [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]

    References:
        Marisca et al., arXiv 2506.15507, 2025, section 4.
    """
    R = np.asarray(lags, np.float64)
    total = R.sum(1, keepdims=True)
    if (total == 0).any():
        raise ValueError(f"lags must have no empty row, got one at {total.argmin()}.")
    return R / total


def dilations(taps: int, layers: int, T: int) -> list[int]:
    r"""Dilations :math:`d^{(l)} = P^{l-1}`, which start anew once T steps are seen.

    :math:`\lceil \log_P T \rceil` such layers reach each of the T lags in exactly one
    way: the first column of the product of their R is all ones.

    Args:
        taps: P, at least 2.
        layers: L.
        T: Number of steps.

    Returns:
        One dilation for each layer.

    Raises:
        ValueError: If ``taps`` is below 2: one tap sees one step at any dilation.

    Example:
        >>> dilations(taps=2, layers=5, T=8)
        [1, 2, 4, 1, 2]

    References:
        Marisca et al., arXiv 2506.15507, 2025, section 4.
    """
    check_at_least(2, taps=taps)
    cycle, reached = [], 1
    while reached < T or not cycle:
        cycle.append(reached)
        reached *= taps
    return [cycle[layer % len(cycle)] for layer in range(layers)]


def ways_to_newest(T: int, taps: int, layers: int) -> Float[np.ndarray, " T"]:
    r"""In how many ways each lag reaches the newest output: a closed form.

    .. math:: (R^L)_{i0} = [z^i] \, (1 + z + \dots + z^{P-1})^L
        = \binom{L}{i} \text{ for } P = 2

    For fixed i it grows like :math:`L^i / i!`, so the older of two steps wins by a
    power of L: the primacy bias.

    Args:
        T: Number of steps.
        taps: P.
        layers: L.

    Returns:
        By lag i, shape (T,).

    Example:
        >>> ways_to_newest(4, taps=2, layers=3).tolist()
        [1.0, 3.0, 3.0, 1.0]

    References:
        Marisca et al., arXiv 2506.15507, 2025, Proposition 4.2 (the limit; the closed
        form is this project's).
    """
    ways = np.eye(1, T)[0]
    for _ in range(layers):
        ways = np.convolve(ways, np.ones(min(taps, T)))[:T]
    return ways


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
    T: int, taps: int, gain: float, dilation: Sequence[int]
) -> Float[np.ndarray, "T T"]:
    r"""How much each step moves each other through a stack of causal convolutions.

    For layers :math:`h_t = \sigma(\sum_p W_p x_{t - p d})` that begin with zeros

    .. math:: \left\| \frac{\partial h^{(L)}_{t-j}}{\partial x_{t-i}} \right\|_2
        \le g^L \Big( \prod_l R^{(l)} \Big)_{ij}

    Args:
        T: Number of steps.
        taps: P.
        gain: g, of all layers (`tap_gain`).
        dilation: Of each layer; ``[1] * L`` for L plain ones, whose product is R^L.

    Returns:
        Bounds from step t to step t' at [t', t], which is also from lag i to lag j at
        [i, j], shape (T, T).

    Raises:
        ValueError: If a number is below 1, or ``gain`` negative.

    Example:
        >>> convolution_bound(3, taps=2, gain=1.0, dilation=[1, 1]).tolist()
        [[1.0, 0.0, 0.0], [2.0, 1.0, 0.0], [1.0, 2.0, 1.0]]

    References:
        Marisca et al., arXiv 2506.15507, 2025, Theorem 4.1.
    """
    check_at_least(0, gain=gain)
    product = np.eye(T)
    for d in dilation:
        product = product @ lag_matrix(T, taps, d)
    return gain ** len(dilation) * product
