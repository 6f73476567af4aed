r"""The small freeway that is simulated: two roads that merge, ramps, and detectors.

The main road of 14 km has 3 lanes. At km 6 a branch of 4 km and 2 lanes joins, and 5
lanes go on; at km 7 they become 4, where queues of the morning begin. At km 9, 15 % of
the flow leaves; at km 10 a ramp feeds in, where queues of the evening begin. Detectors
stand in the middle of each ``detector_km`` of both roads.

The graph of the detectors is that of Li et al., `Diffusion convolutional recurrent
neural network <https://arxiv.org/abs/1707.01926>`_, 2018, section 4 and its code, with
the way :math:`d_{ij}` from detector to detector, which is one-way, and the standard
deviation s of those ways that are open:

.. math:: A_{ij} = \exp(-d_{ij}^2 / s^2)
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int

from data._road import Road

EXIT_SHARE = 0.15
_MAIN_KM, _BRANCH_KM = 14.0, 4.0
_MERGE_KM, _DROP_KM, _EXIT_KM = 6.0, 7.0, 9.0
_LEAST_WEIGHT = 0.1  # below, two detectors are not joined


class Entry(NamedTuple):
    """Where vehicles come from, and how many want to on an average weekday in veh/h."""

    road: str
    km: float
    lanes: float
    night: float
    day: float  # outside the peaks
    morning: float  # what the peak adds to it at its height
    evening: float


ENTRIES = (
    Entry("main", 0.0, 3, night=460, day=3000, morning=2200, evening=1500),
    Entry("branch", 0.0, 2, night=230, day=1750, morning=1600, evening=930),
    Entry("main", 3.0, 1, night=70, day=520, morning=400, evening=230),
    Entry("main", 10.0, 2, night=120, day=1050, morning=230, evening=1500),
)


class Freeway(NamedTuple):
    """The road, and where its N detectors are."""

    road: Road  # the cells of the main road first, then those of the branch
    detector_cells: Int[np.ndarray, " N"]
    detector_names: tuple[str, ...]  # road and kilometre, as "main-3.5"
    distances: Float64[np.ndarray, "N N"]  # km to drive; inf where no way leads there


def build_freeway(cell_km: float = 0.25, detector_km: float = 1.0) -> Freeway:
    """Build the freeway; a ValueError says which length breaks its rule."""
    for name, km in (("0.5 km", 0.5), ("detector_km", detector_km)):
        cells = km / cell_km if cell_km > 0 else 0.0
        if round(cells) < 1 or abs(cells - round(cells)) > 1e-9:
            raise ValueError(
                f"cell_km must fit a whole number of times in {name}, got "
                f"cell_km = {cell_km} and detector_km = {detector_km}."
            )
    if detector_km > _BRANCH_KM:
        raise ValueError(
            f"detector_km must be at most {_BRANCH_KM}, got {detector_km}."
        )
    main, branch = _cells(_MAIN_KM, cell_km), _cells(_BRANCH_KM, cell_km)
    first = {"main": 0, "branch": main}
    km = (np.arange(main) + 0.5) * cell_km
    lanes = np.select([km < _MERGE_KM, km < _DROP_KM], [3.0, 5.0], 4.0)
    next_cell = np.arange(1, main + branch + 1)
    next_cell[main - 1], next_cell[-1] = -1, _cells(_MERGE_KM, cell_km)
    exit_share = np.zeros(main + branch)
    exit_share[_cells(_EXIT_KM, cell_km) - 1] = EXIT_SHARE  # at the end of that cell
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
    for name, length in (("main", _MAIN_KM), ("branch", _BRANCH_KM)):
        for k in range(int(length / detector_km + 1e-9)):
            middle = (k + 0.5) * detector_km
            detectors.append(first[name] + int(middle / cell_km + 1e-9))
            names.append(f"{name}-{middle:g}")
    distances = road_distances(road)[np.ix_(detectors, detectors)]
    return Freeway(road, np.array(detectors), tuple(names), distances)


def _cells(km: float, cell_km: float) -> int:
    return round(km / cell_km)


def road_distances(road: Road) -> Float64[np.ndarray, "M M"]:
    """Kilometres to drive from each cell to each other; inf where no way leads."""
    M = len(road.lanes)
    distances = np.full((M, M), np.inf)
    for start in range(M):
        cell, steps = start, 0
        while cell >= 0 and np.isinf(distances[start, cell]):
            distances[start, cell] = steps * road.cell_km
            cell, steps = int(road.next_cell[cell]), steps + 1
    return distances


def road_adjacency(
    distances: Float64[np.ndarray, "N N"],
) -> Float64[np.ndarray, "N N"]:
    """Weights of the graph of the detectors: 1 from each to itself, 0 where small."""
    spread = distances[np.isfinite(distances)].std()
    weights = np.exp(-((distances / (spread if spread > 0 else 1.0)) ** 2))
    return np.where(weights < _LEAST_WEIGHT, 0.0, weights)
