"""What every forecaster must beat: last value, time-of-week average, ridge regression.

Each takes a prepared series and the starts of windows and forecasts speeds in mph, as
`models.training.Trainer.predict` does.
"""

import dataclasses
import functools
from typing import Protocol

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int

from data import Prepared
from data.dataset import filled


class Baseline(Protocol):
    """A forecaster without a neural network."""

    name: str

    def predict(self, starts: Int[np.ndarray, " W"]) -> Float[np.ndarray, "W H N"]:
        """Forecast the windows that start there, in mph."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class LastValue:
    """The last observed reading of each node, for every step of the horizon."""

    prepared: Prepared
    name = "last value"

    def predict(self, starts: Int[np.ndarray, " W"]) -> Float[np.ndarray, "W H N"]:
        """Forecast; the training mean where nothing has been observed yet."""
        prepared = self.prepared
        speeds = filled(prepared.series, prepared.scaler, "forward")
        last = speeds[starts + prepared.window - 1]
        return np.repeat(last[:, None], prepared.horizon, axis=1)


@dataclasses.dataclass(frozen=True, eq=False)
class TimeOfWeek:
    """The training part's average of each node at that time of the week."""

    prepared: Prepared
    name = "time of week"

    def predict(self, starts: Int[np.ndarray, " W"]) -> Float[np.ndarray, "W H N"]:
        """Forecast the windows that start there, in mph."""
        average = self.prepared.time_of_week.predict(self.prepared.series.time)
        return average[_steps(self.prepared, starts)]


@dataclasses.dataclass(frozen=True, eq=False)
class Ridge:
    r"""Ridge regression on all nodes of the window and the average over the horizon.

    One linear map from the :math:`T N` speeds, the :math:`H N` averages by time of
    week, all z-scored, and a constant, to the :math:`H N` speeds:

    .. math:: W = (X^\top X + \lambda m I)^{-1} X^\top Y

    with m training windows and :math:`\lambda` the one with the least validation MAE.
    A training step's average leaves out its own reading, as `data.Prepared` has it.
    A missing reading counts as its average by time of week, whether it is read or
    forecast: filled in two ways, outages would teach that readings do not last.

    Attributes:
        prepared: The series.
        penalties: Values of :math:`\lambda` to choose from.
    """

    prepared: Prepared
    penalties: tuple[float, ...] = (1e-3, 1e-2, 3e-2, 1e-1, 3e-1)
    name = "ridge"

    def predict(self, starts: Int[np.ndarray, " W"]) -> Float[np.ndarray, "W H N"]:
        """Forecast; the first call fits."""
        return self._apply(self._map, starts)

    @functools.cached_property
    def _average(self) -> Float[np.ndarray, "S N"]:
        """z-scored averages by time of week at every step."""
        return self.prepared.scaler.transform(self.prepared.averages)

    @functools.cached_property
    def _readings(self) -> Float[np.ndarray, "S N"]:
        """z-scored speeds at every step, missing ones as the average."""
        series = self.prepared.series
        scores = self.prepared.scaler.transform(series.values)
        return np.where(series.missing, self._average, scores)

    def _features(self, starts: np.ndarray) -> Float[np.ndarray, "W F"]:
        past = starts[:, None] + np.arange(self.prepared.window)
        ahead = _steps(self.prepared, starts)
        parts = (self._readings[past], self._average[ahead], np.ones(len(starts)))
        return np.concatenate([part.reshape(len(starts), -1) for part in parts], 1)

    def _targets(self, starts: np.ndarray) -> Float[np.ndarray, "W HN"]:
        return self._readings[_steps(self.prepared, starts)].reshape(len(starts), -1)

    @functools.cached_property
    def _map(self) -> Float[np.ndarray, "F HN"]:
        split = self.prepared.split
        gram = cross = 0.0
        for part in np.array_split(split.train, max(len(split.train) // 4096, 1)):
            features = self._features(part)
            gram = gram + features.T @ features
            cross = cross + features.T @ self._targets(part)
        gram, cross, size = np.asarray(gram), np.asarray(cross), len(split.train)
        steps = _steps(self.prepared, split.validation)
        truth = self.prepared.series.values[steps]
        observed = ~self.prepared.series.missing[steps]
        best, least = np.zeros_like(cross), np.inf
        for penalty in self.penalties:
            shifted = gram + penalty * size * np.eye(len(gram))
            one = scipy.linalg.solve(shifted, cross, assume_a="pos")
            forecast = self._apply(one, split.validation)
            error = np.abs(forecast - truth)[observed].mean()
            if error < least:
                best, least = one, error
        return best

    def _apply(self, one: np.ndarray, starts: np.ndarray) -> np.ndarray:
        scores = self._features(starts) @ one
        nodes, horizon = len(self.prepared.series.sensor_ids), self.prepared.horizon
        scores = scores.reshape(len(starts), horizon, nodes)
        return self.prepared.scaler.inverse(scores)


def ridge_bytes(prepared: Prepared) -> int:
    """Bytes that fitting the ridge takes: its equations twice, and three maps."""
    nodes = len(prepared.series.sensor_ids)
    forecasts = prepared.horizon * nodes
    features = prepared.window * nodes + forecasts + 1
    return 8 * features * (2 * features + 3 * forecasts)


def baselines(prepared: Prepared, max_bytes: int = 4 * 2**30) -> list[Baseline]:
    """The baselines of a series.

    Args:
        prepared: The series.
        max_bytes: Memory above which the ridge is left out.

    Returns:
        Last value, time of week and, if `ridge_bytes` are at most so many, ridge.
    """
    simple = [LastValue(prepared), TimeOfWeek(prepared)]
    fits = ridge_bytes(prepared) <= max_bytes
    return [*simple, Ridge(prepared)] if fits else simple


def _steps(prepared: Prepared, starts: np.ndarray) -> Int[np.ndarray, "W H"]:
    """The steps that windows forecast."""
    return starts[:, None] + prepared.window + np.arange(prepared.horizon)
