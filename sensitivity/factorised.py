r"""Bounds on influence that factor into one over time and one over space.

They are coarser than the product of gains (`product_bound`), which keeps what each layer does at each place, and show what is lost by looking at time and
space apart.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sensitivity.layer_gains import Gains, NodeGains, PlaceGains, StepGains


class Factors(NamedTuple):
    """A bound as its two factors.

    Attributes:
        time: From step t to step t', shape (T', T).
        space: From node n to node n', shape (N', N).
    """

    time: Float[np.ndarray, "T_ T"]
    space: Float[np.ndarray, "N_ N"]

    def table(self) -> Float[np.ndarray, "T_ N_ T N"]:
        """The bound itself, shape (T', N', T, N)."""
        return np.einsum("st,mn->smtn", self.time, self.space)


def factorised_bound(gains: Sequence[Gains], T: int, N: int) -> Factors:
    r"""The bound that is left when places do not differ.

    .. math:: \left\| \frac{\partial y[t', n']}{\partial x[t, n]} \right\|_2
        \le \Big[ \prod_l \hat G^{time}_l \Big]_{t't}
        \Big[ \prod_l \hat G^{space}_l \Big]_{n'n}

    with the entrywise maximum over nodes of each `StepGains`, that over steps of each
    `NodeGains`, and the largest number of each `PlaceGains`. Then every layer is a
    Kronecker product with an identity, those of time and of space commute, and their
    order in the network no longer matters. It is never below the product of the gains.

    Args:
        gains: Of the layers, in the order in which they act.
        T: Number of input steps.
        N: Number of nodes.

    Returns:
        The two factors; the gains of layers that mix nothing are in the first.

    Example:
        >>> import numpy as np
        >>> mean = StepGains(np.array([[[0.5, 0.5]], [[0.2, 0.8]]]))  # of two nodes
        >>> factorised_bound([mean], T=2, N=2).table()[0, 1].tolist()
        [[0.0, 0.5], [0.0, 0.8]]

    References:
        Marisca et al., `arXiv 2506.15507 <https://arxiv.org/abs/2506.15507>`_, 2025,
        Theorem 5.1 (the form, with constants in place of gains).
    """
    time, space = np.eye(T), np.eye(N)
    for layer in gains:
        match layer:
            case StepGains(array):
                time = array.max(0) @ time
            case NodeGains(array):
                space = array.max(0) @ space
            case PlaceGains(array):
                time = array.max() * time
    return Factors(time, space)
