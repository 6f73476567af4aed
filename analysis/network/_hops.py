"""How many edges of the road graph lie between two sensors."""

import numpy as np
from jaxtyping import Float, Int

UNREACHABLE = -1


def road_hops(adjacency: Float[np.ndarray, "N N"]) -> Int[np.ndarray, "N N"]:
    """Least number of edges between nodes, either way along each.

    Every weight above 0 is an edge. Direction is left out because influence goes both
    ways: graph layers walk the road forwards and backwards.

    Args:
        adjacency: Weights of the road graph, shape (N, N).

    Returns:
        Hops, shape (N, N); 0 on the diagonal, `UNREACHABLE` where there is no path.

    Example:
        >>> import numpy as np
        >>> line = np.array([[0, 1, 0, 0], [0, 0, 0.2, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
        >>> road_hops(line)[0].tolist()
        [0, 1, 2, -1]
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import shortest_path

    edges = csr_array((np.asarray(adjacency) > 0).astype(float))
    found = shortest_path(edges, directed=False, unweighted=True)
    return np.where(np.isfinite(found), found, UNREACHABLE).astype(int)


def hop_name(hop: int) -> str:
    """A number of hops in words."""
    return "unreachable" if hop == UNREACHABLE else str(hop)
