"""The small freeway that is simulated: two roads that merge, ramps, and detectors."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int

from data.freeway_solver import Road

MAIN_KM, BRANCH_KM = 14.0, 4.0
MERGE_KM, DROP_KM, EXIT_KM, EXIT_SHARE = 6.0, 7.0, 9.0, 0.15


class Entry(NamedTuple):
    """Where vehicles come from, and how many want to on an average weekday.

    Attributes:
        road: ``"main"`` or ``"branch"``.
        km: Where on it, in km from its beginning.
        lanes: Lanes of the entry.
        night: Demand at night, in veh/h.
        day: Demand by day outside the peaks, in veh/h.
        morning: What the morning peak adds to it at its height, in veh/h.
        evening: What the evening peak adds to it at its height, in veh/h.
    """

    road: str
    km: float
    lanes: float
    night: float
    day: float
    morning: float
    evening: float


ENTRIES = (
    Entry("main", 0.0, 3, night=460, day=3000, morning=2200, evening=1500),
    Entry("branch", 0.0, 2, night=230, day=1750, morning=1600, evening=930),
    Entry("main", 3.0, 1, night=70, day=520, morning=400, evening=230),
    Entry("main", 10.0, 2, night=120, day=1050, morning=230, evening=1500),
)


class Freeway(NamedTuple):
    """The road, and where its N detectors are.

    Attributes:
        road: Its M cells: those of the main road first, then those of the branch.
        detector_cells: Cell of each detector, shape (N,), in the order of the cells.
        detector_names: Road and kilometre of each detector, as ``"main-3.5"``.
        distances: Kilometres to drive from detector to detector, shape (N, N); inf
            where the way is closed, for it is one-way.
    """

    road: Road
    detector_cells: Int[np.ndarray, " N"]
    detector_names: tuple[str, ...]
    distances: Float64[np.ndarray, "N N"]


def build_freeway(cell_km: float = 0.25, detector_km: float = 1.0) -> Freeway:
    """Build the freeway.

    The main road of 14 km has 3 lanes. At km 6 a branch of 4 km and 2 lanes joins, and
    5 lanes go on; at km 7 they become 4, where queues of the morning begin. At km 9,
    15 % of the flow leaves; at km 10 a ramp feeds in, where queues of the evening
    begin. Detectors stand in the middle of each ``detector_km`` of both roads.

    Args:
        cell_km: Length of a cell in km; a whole number of cells must fit in 0.5 km.
        detector_km: Distance of detectors in km, a whole number of cells, at most 4.

    Returns:
        The freeway.

    Raises:
        ValueError: If a length breaks its rule.

    Example:
        >>> freeway = build_freeway()
        >>> len(freeway.road.lanes), len(freeway.detector_cells)
        (72, 18)
        >>> names = freeway.detector_names
        >>> way = freeway.distances[names.index("branch-3.5"), names.index("main-7.5")]
        >>> float(way)
        2.0
    """
    for name, km in (("0.5 km", 0.5), ("detector_km", detector_km)):
        cells = km / cell_km if cell_km > 0 else 0.0
        if round(cells) < 1 or abs(cells - round(cells)) > 1e-9:
            raise ValueError(
                f"cell_km must fit a whole number of times in {name}, got "
                f"cell_km = {cell_km} and detector_km = {detector_km}."
            )
    if detector_km > BRANCH_KM:
        raise ValueError(f"detector_km must be at most {BRANCH_KM}, got {detector_km}.")
    main, branch = _cells(MAIN_KM, cell_km), _cells(BRANCH_KM, cell_km)
    first = {"main": 0, "branch": main}
    km = (np.arange(main) + 0.5) * cell_km
    lanes = np.select([km < MERGE_KM, km < DROP_KM], [3.0, 5.0], 4.0)
    next_cell = np.arange(1, main + branch + 1)
    next_cell[main - 1], next_cell[-1] = -1, _cells(MERGE_KM, cell_km)
    exit_share = np.zeros(main + branch)
    exit_share[_cells(EXIT_KM, cell_km) - 1] = EXIT_SHARE  # at the end of that cell
    entry_cells = [first[entry.road] + _cells(entry.km, cell_km) for entry in ENTRIES]
    road = Road(
        cell_km=cell_km,
        lanes=np.append(lanes, np.full(branch, 2.0)),
        next_cell=next_cell,
        entry_cells=np.array(entry_cells),
        entry_lanes=np.array([float(entry.lanes) for entry in ENTRIES]),
        exit_share=exit_share,
    )
    detectors, names = [], []
    for name, length in (("main", MAIN_KM), ("branch", BRANCH_KM)):
        for k in range(int(length / detector_km + 1e-9)):
            middle = (k + 0.5) * detector_km
            detectors.append(first[name] + int(middle / cell_km + 1e-9))
            names.append(f"{name}-{middle:g}")
    distances = road_distances(road)[np.ix_(detectors, detectors)]
    return Freeway(road, np.array(detectors), tuple(names), distances)


def _cells(km: float, cell_km: float) -> int:
    return round(km / cell_km)


def road_distances(road: Road) -> Float64[np.ndarray, "M M"]:
    """Kilometres to drive from each cell to each other one.

    Args:
        road: One-way roads.

    Returns:
        Distances, shape (M, M), from row to column; inf where no way leads there.
    """
    M = len(road.lanes)
    distances = np.full((M, M), np.inf)
    for start in range(M):
        cell, steps = start, 0
        while cell >= 0 and np.isinf(distances[start, cell]):
            distances[start, cell] = steps * road.cell_km
            cell, steps = int(road.next_cell[cell]), steps + 1
    return distances


def road_adjacency(
    distances: Float64[np.ndarray, "N N"], threshold: float = 0.1
) -> Float64[np.ndarray, "N N"]:
    r"""Weights of a directed graph of detectors by the way between them.

    .. math:: A_{ij} = \exp(-d_{ij}^2 / s^2)

    where s is the standard deviation of the finite distances; below ``threshold`` the
    weight is 0. It is 1 from a detector to itself.

    Args:
        distances: Kilometres from detector to detector, shape (N, N); inf for no way.
        threshold: Smallest weight that is kept.

    Returns:
        Weights, shape (N, N).

    Example:
        >>> road_adjacency(np.array([[0.0, 1.0], [np.inf, 0.0]])).round(3).tolist()
        [[1.0, 0.0], [0.0, 1.0]]

    References:
        Li et al., `Diffusion convolutional recurrent neural network
        <https://arxiv.org/abs/1707.01926>`_, 2018, section 4 and its code.
    """
    spread = distances[np.isfinite(distances)].std()
    weights = np.exp(-((distances / (spread if spread > 0 else 1.0)) ** 2))
    return np.where(weights < threshold, 0.0, weights)
