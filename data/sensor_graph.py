"""A sensor graph with the ids that its file gives, put in the order of a series."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Num


class SensorGraph(NamedTuple):
    """Weights between sensors, as a file has them.

    Attributes:
        ids: Ids of the M sensors.
        weights: Weights, to be of shape (M, M): from the row's sensor to the column's.
    """

    ids: Sequence[str]
    weights: Num[np.ndarray, "..."]

    def in_order_of(self, sensors: Sequence[str]) -> Float64[np.ndarray, "N N"]:
        """The weights with rows and columns in the order of a series.

        Args:
            sensors: Ids of the N sensors of the series.

        Returns:
            Weights, shape (N, N), float64.

        Raises:
            ValueError: If an id occurs twice, the ids are others than the series', the
                array is not square, or a weight is negative or not finite.

        Example:
            >>> graph = SensorGraph(["b", "a"], np.array([[0, 1], [2, 3]]))
            >>> graph.in_order_of(["a", "b"]).tolist()
            [[3.0, 2.0], [1.0, 0.0]]
        """
        place = {sensor: position for position, sensor in enumerate(self.ids)}
        if len(place) < len(self.ids):
            raise ValueError("sensor ids must differ, but one occurs twice.")
        if place.keys() != set(sensors):
            raise ValueError(
                "the adjacency must be of the sensors of the series; only the "
                f"adjacency has {_some(place.keys() - set(sensors))}, only the series "
                f"has {_some(set(sensors) - place.keys())}."
            )
        shape = (len(place), len(place))
        if self.weights.shape != shape:
            raise ValueError(
                f"adjacency must be of shape {shape}, got {self.weights.dtype} of "
                f"shape {self.weights.shape}."
            )
        weights = self.weights.astype(np.float64)
        sound = np.isfinite(weights) & (weights >= 0)
        if not sound.all():
            row, column = np.argwhere(~sound)[0]
            raise ValueError(
                f"adjacency must be finite and not negative, got "
                f"{weights[row, column]} from {self.ids[row]!r} to "
                f"{self.ids[column]!r}."
            )
        order = [place[sensor] for sensor in sensors]
        return weights[np.ix_(order, order)]


def _some(ids: set[str]) -> str:
    """A few of the ids, or a word that there are none."""
    if not ids:
        return "none"
    shown = ", ".join(repr(sensor[:40]) for sensor in sorted(ids)[:5])
    return shown if len(ids) <= 5 else f"{shown} and {len(ids) - 5} more"
