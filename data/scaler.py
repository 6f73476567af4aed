"""Speeds to z-scores and back, by the moments of what was observed in training."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from jax import Array
from jaxtyping import Bool, Float64

from data.series import check_observed

Values = TypeVar("Values", np.ndarray, Array)


class Scaler(NamedTuple):
    r"""Turns speeds v in mph into z-scores :math:`z = (v - \mu) / \sigma` and back.

    A pytree. ``transform`` and ``inverse`` are pure functions of NumPy or jax arrays
    of shape (..., N), and compute in the array's own dtype, or in float32 if that has
    fewer bits (in bfloat16 a speed is only known to a quarter of a mph).

    Attributes:
        mean: The mean :math:`\mu` in mph, shape (1,), or (N,) if each sensor has its
            own.
        deviation: The standard deviation :math:`\sigma` in mph, same shape.
    """

    mean: Float64[np.ndarray, " #N"]
    deviation: Float64[np.ndarray, " #N"]

    @classmethod
    def fit(
        cls,
        values: Float64[np.ndarray, "S N"],
        missing: Bool[np.ndarray, "S N"],
        per_sensor: bool = False,
        sensor_ids: Sequence[str] | None = None,
    ) -> "Scaler":
        r"""Take mean and standard deviation over the observed readings.

        With the m observed readings v, of all sensors or of one,
        :math:`\mu = \sum v / m` and :math:`\sigma^2 = \sum (v - \mu)^2 / m`.

        Args:
            values: Speeds of the training part in mph, shape (S, N).
            missing: Where a reading is missing; what ``values`` has there is ignored.
            per_sensor: Whether each sensor has moments of its own.
            sensor_ids: Names of the N sensors, for messages.

        Returns:
            The scaler.

        Raises:
            ValueError: If a sensor has no observed reading, the readings (of a sensor,
                with ``per_sensor``) do not vary, or their moments overflow.

        Example:
            >>> import numpy as np
            >>> values = np.array([[40.0, 10.0], [60.0, 0.0]])
            >>> scaler = Scaler.fit(values, values == 0, per_sensor=False)
            >>> scaler.mean.round(2).tolist(), scaler.deviation.round(2).tolist()
            ([36.67], [20.55])
            >>> scaler.inverse(scaler.transform(values)).round(9).tolist()
            [[40.0, 10.0], [60.0, 0.0]]
        """
        check_observed(missing, sensor_ids)
        observed = ~missing
        axis = 0 if per_sensor else None
        low = np.atleast_1d(np.where(observed, values, np.inf).min(axis=axis))
        high = np.atleast_1d(np.where(observed, values, -np.inf).max(axis=axis))
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.atleast_1d(values.mean(axis=axis, where=observed))
            deviation = np.atleast_1d(values.std(axis=axis, where=observed))
        for column in range(len(mean)):
            name = repr(column if sensor_ids is None else sensor_ids[column])
            if low[column] == high[column] or deviation[column] == 0:
                who = f"each sensor must vary to be standardised, but {name}"
                if not per_sensor:
                    who = "readings must vary to be standardised, but every sensor"
                raise ValueError(f"{who} always reads {low[column]} mph.")
            if not np.isfinite(deviation[column]):
                raise ValueError(
                    f"readings{f' of {name}' if per_sensor else ''} are too large to "
                    f"be standardised: from {low[column]} to {high[column]} mph."
                )
        return cls(mean, deviation)

    def transform(self, values: Values) -> Values:
        """Z-scores of speeds.

        Args:
            values: Speeds in mph, shape (..., N).

        Returns:
            Z-scores, same shape.
        """
        mean, deviation = self._moments(values)
        return (values - mean) / deviation

    def inverse(self, scores: Values) -> Values:
        """Speeds of z-scores.

        Args:
            scores: Z-scores, shape (..., N).

        Returns:
            Speeds in mph, same shape.
        """
        mean, deviation = self._moments(scores)
        return scores * deviation + mean

    def _moments(self, values: np.ndarray | Array) -> tuple[np.ndarray, np.ndarray]:
        """Both moments in the dtype that is computed in."""
        dtype = np.promote_types(values.dtype, np.float32)
        return self.mean.astype(dtype), self.deviation.astype(dtype)
