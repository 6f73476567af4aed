"""One-way roads cut into cells, and the arrays that a solver needs of them.

Roads join but do not fork: several cells may have the same next cell. The face between
two cells has the lanes of the cell before it, scaled down where those that arrive are
more than the lanes that go on: that is where a bottleneck is.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Road:
    """M cells of one length and R entries; a ValueError says what is no road."""

    cell_km: float
    lanes: Float64[np.ndarray, " M"]
    next_cell: Int[np.ndarray, " M"]  # -1 where the road ends
    entry_cells: Int[np.ndarray, " R"]  # beginnings of roads, and on-ramps; all differ
    entry_lanes: Float64[np.ndarray, " R"]
    exit_share: Float64[np.ndarray, " M"]  # of the flow through the end of each cell

    def __post_init__(self) -> None:
        M, R = len(self.lanes), len(self.entry_cells)
        shapes = {"next_cell": M, "exit_share": M, "entry_lanes": R}
        for name, size in shapes.items():
            if (shape := getattr(self, name).shape) != (size,):
                raise ValueError(f"{name} must have shape ({size},), got {shape}.")
        if not self.cell_km > 0:
            raise ValueError(f"cell_km must be above 0, got {self.cell_km}.")
        for name in ("lanes", "entry_lanes"):
            if (getattr(self, name) <= 0).any():
                raise ValueError(
                    f"{name} must be above 0, got {getattr(self, name).min()}."
                )
        for name, least in (("next_cell", -1), ("entry_cells", 0)):
            cells = getattr(self, name)
            if ((cells < least) | (cells >= M)).any():
                raise ValueError(f"{name} must be cells below {M}, got {cells}.")
        if not ((self.exit_share >= 0) & (self.exit_share < 1)).all():
            raise ValueError(
                f"exit_share must be at least 0 and below 1, got {self.exit_share}."
            )
        if len(set(self.entry_cells.tolist())) < R:
            raise ValueError(f"entry_cells must differ, got {self.entry_cells}.")


class Mesh(NamedTuple):
    """A road as arrays; each cell has at most F cells that lead into it."""

    cell_km: Float[Array, ""]
    lanes: Float[Array, "M 1"]
    down: Int[Array, " M"]  # the next cell; the cell itself where the road ends
    up: Int[Array, "M F"]  # the cells before each; M where there is none
    face_lanes: Float[Array, "M 1"]  # of the face between each cell and the next
    ends: Float[Array, "M 1"]  # 1 where the road ends, else 0
    nozzle: Float[Array, "M 1"]  # lanes of that face less those of the faces behind
    up_weight: Float[Array, "M F 1"]  # share of the lanes that come from each
    entry_of: Int[Array, " M"]  # the entry that feeds each cell; R where there is none
    entry_cells: Int[Array, " R"]
    entry_lanes: Float[Array, "R 1"]
    exit_share: Float[Array, "M 1"]


def build_mesh(road: Road) -> Mesh:
    """The arrays of a road, on the default device."""
    M, R = len(road.lanes), len(road.entry_cells)
    ends = road.next_cell < 0
    down = np.where(ends, np.arange(M), road.next_cell)
    arriving = np.bincount(down[~ends], road.lanes[~ends], minlength=M)
    narrow = np.minimum(1, road.lanes / np.maximum(arriving, road.lanes))
    face_lanes = np.where(ends, road.lanes, road.lanes * narrow[down])
    before = [np.flatnonzero(road.next_cell == m) for m in range(M)]
    up = np.full((M, max(1, *map(len, before))), M)
    for m, cells in enumerate(before):
        up[m, : len(cells)] = cells
    feeding = np.append(face_lanes, 0)[up]
    total = feeding.sum(1, keepdims=True)
    entry_of = np.full(M, R)
    entry_of[road.entry_cells] = np.arange(R)
    parts = {
        "cell_km": np.float64(road.cell_km),
        "lanes": road.lanes[:, None],
        "down": down,
        "up": up,
        "face_lanes": face_lanes[:, None],
        "ends": ends[:, None].astype(np.float64),
        "nozzle": face_lanes[:, None] - total,
        "up_weight": (feeding / np.where(total > 0, total, 1))[:, :, None],
        "entry_of": entry_of,
        "entry_cells": road.entry_cells,
        "entry_lanes": road.entry_lanes[:, None],
        "exit_share": road.exit_share[:, None],
    }
    return Mesh(**{name: jnp.asarray(part) for name, part in parts.items()})
