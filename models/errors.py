"""Masked errors as sums: of a batch under jit, added over batches, then finished.

A target of 0 is a missing reading and counts for nothing. H is the number of steps of
the horizon here: the sums are kept for each of them apart.
"""

import dataclasses
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
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


MEAN = "mean"
"""In a column ``horizon``: the mean over all steps of their errors."""


def array_sums(
    prediction: Float[ArrayLike, "W H N"], target: Float[ArrayLike, "W H N"]
) -> ErrorSums:
    """Sums of masked errors in float64: `models.errors.error_sums` without jax.

    Args:
        prediction: Speeds in mph, shape (W, H, N). What is predicted where a reading is
            missing has no effect.
        target: Speeds in mph, 0 where missing, shape (W, H, N).

    Returns:
        The sums over windows and nodes, each of shape (H,).

    Raises:
        ValueError: If the shapes differ or are not (W, H, N), or a target is not
            finite.

    Example:
        >>> sums = array_sums([[[30.0, 30], [30, 30]]], [[[50.0, 0], [40, 20]]])
        >>> sums.absolute.tolist(), sums.count.tolist()
        ([20.0, 20.0], [1.0, 2.0])
    """
    y_hat, y = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
    if y.ndim != 3 or y_hat.shape != y.shape:
        raise ValueError(
            "prediction and target must have the same shape (W, H, N), got "
            f"{y_hat.shape} and {y.shape}."
        )
    if not np.isfinite(y).all():
        window, step, node = np.argwhere(~np.isfinite(y))[0]
        raise ValueError(
            f"target must be finite, and 0 where missing, got {y[window, step, node]} "
            f"in window {window} at step {step + 1} of node {node}."
        )
    counts, has_percent = y != 0, np.abs(y) > SMALLEST_PERCENT_TARGET
    error = np.abs(np.subtract(y_hat, y, where=counts, out=np.zeros_like(y)))
    share = np.divide(error, np.abs(y), where=has_percent, out=np.zeros_like(y))
    return ErrorSums(
        absolute=error.sum((0, 2)),
        square=(error**2).sum((0, 2)),
        percent=share.sum((0, 2)),
        count=counts.sum((0, 2), dtype=np.float64),
        percent_count=has_percent.sum((0, 2), dtype=np.float64),
    )


def step_metrics(
    prediction: Float[ArrayLike, "W H N"], target: Float[ArrayLike, "W H N"]
) -> Metrics:
    r"""Masked MAE, RMSE and MAPE at each single step of the horizon.

    .. math::
        \text{MAE}_h = \operatorname{mean}_{y \neq 0} |e|, \quad
        \text{RMSE}_h = \sqrt{\operatorname{mean}_{y \neq 0} e^2}, \quad
        \text{MAPE}_h = 100 \operatorname{mean}_{|y| > 10^{-4}} |e / y|

    with :math:`e = \hat y - y`, each mean over all windows and nodes together.

    Args:
        prediction: Speeds in mph, shape (W, H, N).
        target: Speeds in mph, 0 where missing, shape (W, H, N).

    Returns:
        MAE and RMSE in mph, MAPE in percent, shape (H,) each; NaN at a step where every
        reading is missing.

    Raises:
        ValueError: If the shapes differ or are not (W, H, N), or a target is not
            finite.

    Example:
        >>> metrics = step_metrics([[[30.0, 30], [30, 30]]], [[[50.0, 0], [40, 20]]])
        >>> metrics.mae.tolist(), metrics.mape.round(1).tolist()
        ([20.0, 10.0], [40.0, 37.5])
    """
    return metrics_of(array_sums(prediction, target))


def mean_over_steps(metrics: Metrics) -> Metrics:
    r"""The mean over the steps 1 to H of the errors at each.

    .. math:: \text{MAE} = \tfrac{1}{H} \textstyle\sum_h \text{MAE}_h

    and likewise for the others: the RMSE is a mean of H roots, so that it is not the
    root of the mean square over all steps.

    Args:
        metrics: At each step, shape (..., H).

    Returns:
        Their means, shape (...). NaN if a step has no reading: a mean over the other
        steps would be of an easier or a harder task.

    Example:
        >>> import numpy as np
        >>> mean_over_steps(Metrics(*np.array([[1.0, 3], [2, 6], [10, 20]])))
        Metrics(mae=2.0, rmse=4.0, mape=15.0)
    """
    return Metrics(*(_plain(x.mean(-1)) for x in metrics))


def _plain(mean: Float64[np.ndarray, "*batch"]) -> Float64[np.ndarray, "*batch"]:
    """A number, where no axis is left, prints as one."""
    return mean.item() if mean.ndim == 0 else mean


def metric_rows(sums: ErrorSums) -> pd.DataFrame:
    """Tidy rows of the test errors, as a run's ``test.csv`` has them.

    Args:
        sums: Of all windows, shape (H,).

    Returns:
        A row per step 1 to H and one for their mean, with the columns ``horizon`` (the
        step, or ``"mean"``), ``mae`` and ``rmse`` (mph), ``mape`` (percent) and
        ``readings``, the number that count. Errors are NaN where that is 0.

    Raises:
        ValueError: If the sums have other axes than that of the steps.

    Example:
        >>> metric_rows(array_sums([[[3.0], [4]]], [[[4.0], [2]]]))
          horizon  mae  rmse   mape  readings
        0       1  1.0   1.0   25.0         1
        1       2  2.0   2.0  100.0         1
        2    mean  1.5   1.5   62.5         2
    """
    count = np.asarray(sums.count, np.float64)
    if count.ndim != 1:
        raise ValueError(f"sums must have shape (H,), got {count.shape}.")
    steps = metrics_of(sums)
    rows = {
        name: [*getattr(steps, name), getattr(mean_over_steps(steps), name)]
        for name in Metrics._fields
    }
    horizon = [*range(1, len(count) + 1), MEAN]
    readings = [*count.astype(int), int(count.sum())]
    return pd.DataFrame({"horizon": horizon} | rows | {"readings": readings})
