"""Masked errors as sums: of a batch under jit, added over batches, then finished.

A target of 0 is a missing reading and counts for nothing. H is the number of steps of
the horizon here: the sums are kept for each of them apart.
"""

import dataclasses
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Float64

SMALLEST_PERCENT_TARGET = 1e-4
"""Percentages leave out targets that are not above this, in mph."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, slots=True)
class ErrorSums:
    """Sums of errors over windows and nodes, for each step of the horizon.

    A pytree: it can leave a jitted function, be stacked by a scan and mapped over. Sums
    of two sets of windows are added with ``+``.

    Attributes:
        absolute: Sum of absolute errors, in mph, shape (..., H).
        square: Sum of squared errors, in mph squared, shape (..., H).
        percent: Sum of absolute errors as shares of the target (1 is 100 %), shape
            (..., H).
        count: Readings that are not missing, shape (..., H).
        percent_count: Those of them that a percentage is taken of, shape (..., H).
    """

    absolute: Float[ArrayLike, "*batch H"]
    square: Float[ArrayLike, "*batch H"]
    percent: Float[ArrayLike, "*batch H"]
    count: Float[ArrayLike, "*batch H"]
    percent_count: Float[ArrayLike, "*batch H"]

    def __add__(self, other: "ErrorSums") -> Self:
        """The sums over the windows of both."""
        return jax.tree.map(lambda one, two: one + two, self, other)

    def total(self, axis: int = 0) -> Self:
        """Add up stacked batches in float64, outside of jit.

        Args:
            axis: Which axis counts the batches; not the last one.

        Returns:
            The sums without that axis, as float64 NumPy arrays.
        """
        return jax.tree.map(lambda x: np.asarray(x, np.float64).sum(axis), self)


class Metrics(NamedTuple):
    """Errors of a forecaster at each step of the horizon.

    A step at which no reading counts has no error, and NaN stands there.

    Attributes:
        mae: Mean absolute error, in mph, shape (..., H).
        rmse: Root of the mean squared error, in mph, shape (..., H).
        mape: Mean absolute error in percent of the target, shape (..., H).
    """

    mae: Float64[np.ndarray, "*batch H"]
    rmse: Float64[np.ndarray, "*batch H"]
    mape: Float64[np.ndarray, "*batch H"]


def error_sums(
    prediction: Float[Array, "B H N"], target: Float[Array, "B H N"]
) -> ErrorSums:
    r"""Sums of masked errors of a batch; runs under jit and can be differentiated.

    With the errors :math:`e_{bhn} = \hat y_{bhn} - y_{bhn}`, at each step h

    .. math::
        \sum_{y \neq 0} |e|, \quad \sum_{y \neq 0} e^2, \quad
        \sum_{|y| > 10^{-4}} |e / y|, \quad
        \sum_{y \neq 0} 1, \quad \sum_{|y| > 10^{-4}} 1

    over the windows b and nodes n. What is predicted where a reading is missing has no
    effect, not even NaN. A window that only fills up a batch counts for nothing once
    its targets are 0.

    Args:
        prediction: Speeds in mph, shape (B, H, N).
        target: Speeds in mph, 0 where missing, shape (B, H, N).

    Returns:
        The sums, each of shape (H,), in float32 or the wider dtype of the arguments.
        Counts are exact up to 2^24 readings a step: keep to one batch.

    Raises:
        ValueError: If the shapes differ or are not (B, H, N).

    Example:
        >>> import jax.numpy as jnp
        >>> target = jnp.array([[[50.0, 0.0], [40.0, 20.0]]])  # the 0 is missing
        >>> sums = error_sums(jnp.full((1, 2, 2), 30.0), target)
        >>> sums.absolute.tolist(), sums.count.tolist()
        ([20.0, 20.0], [1.0, 2.0])
    """
    if prediction.ndim != 3 or prediction.shape != target.shape:
        raise ValueError(
            "prediction and target must have the same shape (B, H, N), got "
            f"{prediction.shape} and {target.shape}."
        )
    dtype = jnp.promote_types(
        jnp.promote_types(prediction.dtype, target.dtype), jnp.float32
    )
    target = target.astype(dtype)
    counts = target != 0
    has_percent = jnp.abs(target) > SMALLEST_PERCENT_TARGET
    # Masked before anything is computed: what is missing reaches no gradient either.
    error = jnp.where(counts, prediction.astype(dtype) - target, 0)
    absolute = jnp.abs(error)
    share = jnp.where(has_percent, absolute / jnp.where(has_percent, target, 1), 0)

    def over_windows_and_nodes(x: Array) -> Array:
        return x.sum((0, 2), dtype=dtype)

    return ErrorSums(
        absolute=over_windows_and_nodes(absolute),
        square=over_windows_and_nodes(error * error),
        percent=over_windows_and_nodes(jnp.abs(share)),
        count=over_windows_and_nodes(counts),
        percent_count=over_windows_and_nodes(has_percent),
    )


def pooled_mae(sums: ErrorSums) -> Float[Array, "*batch"]:
    r"""Masked MAE over all steps together, under jit: the loss of training.

    .. math:: \sum_h \sum |e| \; / \; \max(1, \sum_h \text{count}_h)

    Each reading weighs the same, so that it differs a little from the mean over the
    steps of :attr:`Metrics.mae` where steps miss different numbers of readings.

    Args:
        sums: Sums of absolute errors and counts, shape (..., H).

    Returns:
        In mph, shape (...); 0, with gradient 0, where every reading is missing.

    Example:
        >>> import jax.numpy as jnp
        >>> target = jnp.array([[[50.0, 0.0], [40.0, 20.0]]])
        >>> round(float(pooled_mae(error_sums(jnp.full((1, 2, 2), 30.0), target))), 4)
        13.3333
    """
    count = jnp.asarray(sums.count).sum(-1)
    return jnp.asarray(sums.absolute).sum(-1) / jnp.maximum(count, 1)


def metrics_of(sums: ErrorSums) -> Metrics:
    r"""Finish sums: masked MAE, RMSE and MAPE at each step of the horizon.

    .. math::
        \text{MAE}_h = \frac{\sum |e|}{\text{count}_h}, \quad
        \text{RMSE}_h = \sqrt{\frac{\sum e^2}{\text{count}_h}}, \quad
        \text{MAPE}_h = 100 \, \frac{\sum |e / y|}{\text{percent count}_h}

    The root is of the mean square over all windows and nodes, not a mean of roots.

    Args:
        sums: Of all windows, shape (..., H).

    Returns:
        The metrics in float64, shape (..., H); NaN at a step where no reading counts.

    Example:
        >>> import numpy as np
        >>> sums = np.array([[6, 0], [20, 0], [0.25, 0], [2, 0], [2, 0]])
        >>> metrics = metrics_of(ErrorSums(*sums))  # the second step has no reading
        >>> metrics.mae.tolist(), metrics.mape.tolist()
        ([3.0, nan], [12.5, nan])
    """
    absolute, square, percent, count, percent_count = (
        np.asarray(getattr(sums, field.name), np.float64)
        for field in dataclasses.fields(ErrorSums)
    )
    count = np.where(count > 0, count, np.nan)
    percent_count = np.where(percent_count > 0, percent_count, np.nan)
    return Metrics(
        mae=absolute / count,
        rmse=np.sqrt(square / count),
        mape=100 * percent / percent_count,
    )
