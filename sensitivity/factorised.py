r"""Bounds on influence that factor into one over time and one over space.

They are coarser than the product of gains (`sensitivity.gains.product_bound`), which
keeps what each layer does at each place, and show what is lost by looking at time and
space apart.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sensitivity.gains import Gains, NodeGains, PlaceGains, StepGains


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


def coarse_gains(
    gains: Sequence[Gains], reaches: Sequence[Float[Any, "N_ N"]] | None = None
) -> list[Gains]:
    r"""Every layer as one number times which places it joins.

    A layer over steps becomes its largest gain times its 0/1 support, as in
    :math:`c_\sigma w R`; a layer over nodes the smallest multiple of a matrix S that is
    nowhere below it, as in :math:`\theta S`; a layer that mixes nothing its largest
    gain. None is below what it stands for, so nor is any product of them.

    Args:
        gains: Of the layers, in the order in which they act.
        reaches: A matrix S for each layer over nodes, shape (N', N), not negative; the
            0/1 supports by default.

    Returns:
        The coarser gains, of the same shapes.

    Raises:
        ValueError: If the number of ``reaches`` is not that of the layers over nodes,
            or one has another shape, a negative entry, or a zero where its layer joins
            nodes.

    Example:
        >>> import numpy as np
        >>> layer = StepGains(np.array([[[0.5, 0.0], [0.2, 0.8]]]))
        >>> coarse_gains([layer])[0].array.tolist()
        [[[0.8, 0.0], [0.8, 0.8]]]

    References:
        Marisca et al., arXiv 2506.15507, 2025, Theorem 5.1.
    """
    number = sum(isinstance(layer, NodeGains) for layer in gains)
    if reaches is not None and len(reaches) != number:
        raise ValueError(
            f"reaches must have one matrix for each of the {number} layers over nodes, "
            f"got {len(reaches)}."
        )
    given = iter(reaches or [None] * number)
    found: list[Gains] = []
    for layer in gains:
        match layer:
            case StepGains(array):
                coarse = array.max() * (array > 0).any(0)
                found.append(StepGains(np.broadcast_to(coarse, array.shape)))
            case NodeGains(array):
                coarse = _multiple(array.max(0), next(given))
                found.append(NodeGains(np.broadcast_to(coarse, array.shape)))
            case PlaceGains(array):
                found.append(PlaceGains(np.full_like(array, array.max())))
    return found


def _multiple(
    most: Float[np.ndarray, "N_ N"], reach: Float[Any, "N_ N"] | None
) -> Float[np.ndarray, "N_ N"]:
    """The smallest multiple of a matrix that is nowhere below another."""
    S = (most > 0).astype(float) if reach is None else np.asarray(reach, np.float64)
    if S.shape != most.shape:
        raise ValueError(f"reaches must have shape {most.shape}, got {S.shape}.")
    wrong = ~(S >= 0) | ((S == 0) & (most > 0))
    if wrong.any():
        place = tuple(np.argwhere(wrong)[0].tolist())
        raise ValueError(
            "reaches must be at least 0, and above 0 where their layer joins nodes, "
            f"got {S[place]} at {place}, where the gain is {most[place]}."
        )
    ratio = np.divide(most, S, out=np.zeros_like(most), where=S > 0)
    return ratio.max() * S
