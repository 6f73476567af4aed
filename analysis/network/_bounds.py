"""What each bound is, holds for and comes from: in rising order, then what is none."""

from typing import NamedTuple

_MARISCA = "Marisca et al., arXiv 2506.15507"
_DI_GIOVANNI = "Di Giovanni et al., arXiv 2302.02941"
_BARBERO = "Barbero et al., arXiv 2406.04267"


class Bound(NamedTuple):
    """What is said of a bound wherever its numbers are."""

    name: str
    holds_for: str  # its domain
    meaning: str
    source: str
    is_bound: bool = True  # whether nothing may exceed it


_WINDOW = "the window"
_COARSE = "as graph, or graph and taps"
_ATTENTION = "the window, by its attention, norms and read-out"
BOUNDS = {
    bound.name: bound
    for bound in (
        Bound(
            "gain product",
            _WINDOW,
            "product of the exact gains of all layers",
            "ours: chain rule and triangle inequality",
        ),
        Bound(
            "factorised",
            _WINDOW,
            "the same with each layer's largest gains over nodes, or over steps: a "
            "factor of time by one of space",
            f"form of {_MARISCA}, Theorem 5.1; gains in place of constants are ours",
        ),
        Bound(
            "graph",
            _ATTENTION,
            "factorised, with theta S in place of each graph layer",
            f"{_MARISCA}, Theorem 5.1 (theta S)",
        ),
        Bound(
            "graph and taps",
            "every window, but for its norms",
            "factorised, with theta S in place of each graph layer and g R in place of "
            "each convolution",
            f"{_MARISCA}, Theorem 5.1; norms and read-out are ours",
        ),
        Bound(
            "message passing",
            _COARSE,
            "the same with one gain and one S for all graph layers, theta^L S^L, and "
            "one gain for all convolutions, g^L R^L",
            f"{_DI_GIOVANNI}, Theorem 3.2, in spectral norms, which is ours; "
            f"{_MARISCA}, Theorem 4.1",
        ),
        Bound(
            "message passing by entry",
            _COARSE,
            "the same with width x largest entry of the graph layers' weights as their "
            "gain",
            f"{_DI_GIOVANNI}, Theorem 3.2",
        ),
        Bound(
            "frozen attention",
            "no bound",
            "gain product of the value path alone: key and query paths are left out",
            f"{_BARBERO} (attention that does not move); gains are ours",
            is_bound=False,
        ),
        Bound(
            "rollout",
            "no bound, no scale",
            "product of A + I (I with a residual) over attention layers, A averaged "
            "over heads, and of S over graph layers: no norms, so it has no scale",
            f"{_BARBERO} (A / beta + I); beta = 1, the mean over heads and S are ours",
            is_bound=False,
        ),
    )
}
