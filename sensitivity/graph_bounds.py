r"""Bounds on influence between the nodes of a graph: over-squashing.

A layer lets node u reach node v no more than a gain times an entry of a fixed matrix S
of the graph; m layers no more than the m-th power of both.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from sensitivity.arguments import check_at_least


def message_passing_bound(
    adjacency: Float[Any, "N N"],
    gain: float,
    layers: int,
    *,
    own: float = 1.0,
    neighbours: float = 1.0,
) -> Float[np.ndarray, "N N"]:
    r"""How much the nodes of a message-passing network can move each other.

    For :math:`h^{(m+1)}_v = \sigma(c_r W_r h_v + c_a W_a \sum_u A_{vu} h_u)`

    .. math:: \left\| \frac{\partial h^{(m)}_v}{\partial h^{(0)}_u} \right\|
        \le g^m (S^m)_{vu}, \qquad S = |c_r| I + |c_a| |A|

    in the norm that the gain g is of: with `entry_gain` the largest column sum, with
    `spectral_gain` the largest singular value.

    Args:
        adjacency: A, row v the receiver; entries of any sign, shape (N, N).
        gain: g, of all layers.
        layers: Their number m.
        own: The coefficient c_r.
        neighbours: The coefficient c_a.

    Returns:
        Bounds [v, u], shape (N, N).

    Raises:
        ValueError: If the adjacency is not square and finite, or ``layers`` or ``gain``
            negative.

    Example:
        >>> import numpy as np
        >>> path = np.array([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]])
        >>> message_passing_bound(path, gain=0.5, layers=2)[0].tolist()
        [0.5, 0.5, 0.25]

    References:
        Di Giovanni et al., `On over-squashing <https://arxiv.org/abs/2302.02941>`_,
        2023, Theorem 3.2 (with `entry_gain`); the spectral form is this project's.
    """
    A = _square("adjacency", adjacency)
    check_at_least(0, layers=layers, gain=gain)
    S = abs(own) * np.eye(len(A)) + abs(neighbours) * np.abs(A)
    return gain**layers * np.linalg.matrix_power(S, layers)


def entry_gain(*weights: Float[Any, "*batch P P"], slope: float = 1.0) -> float:
    r"""The gain :math:`c_\sigma w p` of layers of width p, w their largest entry.

    It bounds the operator norm from L1 to L1, the largest column sum of absolute values
    (and that from L-infinity, the largest row sum). It is no bound on the sum of all
    absolute entries of a block, which can be p times as large.

    Args:
        weights: The matrices W_r and W_a, of one layer or of all.
        slope: Largest slope of the nonlinearity.

    Returns:
        The gain.

    Example:
        >>> import numpy as np
        >>> entry_gain(np.eye(4), np.full((4, 4), -0.5))
        4.0

    References:
        Di Giovanni et al., arXiv 2302.02941, 2023, Theorem 3.2.
    """
    sizes = [
        np.abs(np.asarray(w, np.float64)).max() * max(np.shape(w)[-2:]) for w in weights
    ]
    return float(slope * max(sizes))


def spectral_gain(*weights: Float[Any, "*batch O D"], slope: float = 1.0) -> float:
    r"""The gain :math:`c_\sigma \max(\|W_r\|_2, \|W_a\|_2)`.

    Args:
        weights: The matrices W_r and W_a, of one layer or of all.
        slope: Largest slope of the nonlinearity.

    Returns:
        The gain.

    Example:
        >>> import numpy as np
        >>> spectral_gain(2 * np.eye(4), np.zeros((4, 4)), slope=0.5)
        1.0
    """
    norms = [
        np.linalg.norm(np.asarray(w, np.float64), 2, axis=(-2, -1)).max()
        for w in weights
    ]
    return float(slope * max(norms))


class FilterBound(NamedTuple):
    """A bound on the blocks of a graph filter: a gain times a matrix of the graph.

    Attributes:
        gain: The largest spectral norm of a weight block.
        reach: S, from node m to node n at [n, m], shape (N, N).
    """

    gain: float
    reach: Float[np.ndarray, "N N"]

    def table(self) -> Float[np.ndarray, "N N"]:
        """The bounds, shape (N, N)."""
        return self.gain * self.reach


def filter_bound(
    weights: Float[Any, "blocks O D"],
    adjacencies: Float[Any, "M N N"],
    *,
    residual: bool = False,
) -> FilterBound:
    r"""How much the nodes move each other through a polynomial graph filter.

    For :math:`y_n = W_0 x_n + \sum_a \sum_{k=1}^K \sum_m (A_a^k)_{nm} W_{a,k} x_m`, a
    forward and a backward adjacency for instance,

    .. math:: \|B_{nm}\|_2 \le \theta S_{nm}, \qquad
        S = I + \sum_a \sum_{k=1}^K |A_a^k|,
        \qquad \theta = \max_k \|W_k\|_2

    where a residual adds I to :math:`W_0`. With adjacencies that are not negative,
    :math:`|A^k| = A^k`.

    Args:
        weights: W_0, then those of the first adjacency by power, and of the next, shape
            (1 + M K, O, D).
        adjacencies: Shape (M, N, N).
        residual: Whether the input is added to the output.

    Returns:
        The bound, as its two factors.

    Raises:
        ValueError: If the number of weight blocks is not 1 + M K, an adjacency is not
            square and finite, or a residual does not fit.

    Example:
        >>> import numpy as np
        >>> blocks = np.stack([3 * np.eye(2), np.eye(2)])
        >>> swap = np.array([[[0.0, 1.0], [1.0, 0.0]]])
        >>> filter_bound(blocks, swap).table().tolist()
        [[3.0, 3.0], [3.0, 3.0]]

    References:
        Marisca et al., `arXiv 2506.15507 <https://arxiv.org/abs/2506.15507>`_, 2025,
        Theorem 5.1, whose factor of a message-passing layer this is.
    """
    blocks = np.array(weights, np.float64)
    steps = [_square("adjacencies", step) for step in np.asarray(adjacencies)]
    if (len(blocks) - 1) % max(len(steps), 1) or (len(blocks) > 1 and not steps):
        raise ValueError(
            "weights must be 1 + M K blocks for M adjacencies, got "
            f"{len(blocks)} for {len(steps)}."
        )
    if residual:
        if blocks.shape[1] != blocks.shape[2]:
            raise ValueError(
                "residual needs weights whose blocks are square, got blocks of shape "
                f"{blocks.shape[1:]}."
            )
        blocks[0] += np.eye(blocks.shape[1])
    hops = (len(blocks) - 1) // max(len(steps), 1)
    reach = np.eye(np.shape(adjacencies)[-1])
    for step in steps:
        power = np.eye(len(step))
        for _ in range(hops):
            power = power @ step
            reach = reach + np.abs(power)
    return FilterBound(spectral_gain(blocks), reach)


def effective_resistance(
    adjacency: Float[Any, "N N"],
) -> Float[np.ndarray, "N N"]:
    r"""Effective resistances between the nodes of an undirected graph.

    .. math:: R_{uv} = (e_u - e_v)^\top L^+ (e_u - e_v), \qquad L = D - A

    Of the edges of a connected graph, :math:`\sum_e w_e R_e = N - 1` (Foster).

    Args:
        adjacency: Symmetric, not negative, shape (N, N); the diagonal does not matter.

    Returns:
        Resistances, shape (N, N); infinite between parts that are not connected.

    Raises:
        ValueError: If the adjacency is not square, finite, symmetric and not negative.

    Example:
        >>> import numpy as np
        >>> path = np.array([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]])
        >>> effective_resistance(path).round(6)[0].tolist()
        [0.0, 1.0, 2.0]

    References:
        Black et al., `Understanding oversquashing through effective resistance
        <https://arxiv.org/abs/2302.06835>`_, 2023.
    """
    A = _square("adjacency", adjacency)
    if (A < 0).any() or (A != A.T).any():
        raise ValueError(
            "adjacency must be symmetric and not negative, got asymmetry up to "
            f"{np.abs(A - A.T).max()} and entries down to {A.min()}."
        )
    inverse = np.linalg.pinv(np.diag(A.sum(1)) - A, hermitian=True)
    levels = np.diagonal(inverse)
    resistance = levels[:, None] + levels - 2 * inverse
    # A dense array would lose edges below 1e-8: scipy takes them for 0.
    _, part = connected_components(csr_array((A > 0).astype(float)), directed=False)
    return np.where(part[:, None] == part, np.maximum(resistance, 0), np.inf)


def commute_times(adjacency: Float[Any, "N N"]) -> Float[np.ndarray, "N N"]:
    r"""How many steps a random walk takes from a node to another and back, on average.

    .. math:: C_{uv} = R_{uv} \sum_{i, j} A_{ij}

    over the nodes of their part of the graph, with the effective resistance R. It
    grows where message passing is obstructed; entries on the diagonal, where a walk
    waits, add to it.

    Args:
        adjacency: Symmetric, not negative, shape (N, N).

    Returns:
        Steps, shape (N, N); infinite between parts that are not connected.

    Raises:
        ValueError: As `effective_resistance`.

    Example:
        >>> import numpy as np
        >>> path = np.array([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]])
        >>> commute_times(path).round(6)[0].tolist()
        [0.0, 4.0, 8.0]

    References:
        Di Giovanni et al., arXiv 2302.02941, 2023, Theorem 5.5.
    """
    resistance = effective_resistance(adjacency)
    joined = np.isfinite(resistance)
    volume = joined @ np.asarray(adjacency, np.float64).sum(1)
    endless = np.full_like(resistance, np.inf)
    return np.multiply(resistance, volume[:, None], where=joined, out=endless)


def _square(name: str, matrix: Any) -> Float[np.ndarray, "N N"]:
    """A square matrix of finite numbers in float64, or an error."""
    array = np.asarray(matrix, np.float64)
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise ValueError(f"{name} must be square, got shape {array.shape}.")
    if not np.isfinite(array).all():
        place = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
        raise ValueError(f"{name} must be finite, got {array[place]} at {place}.")
    return array
