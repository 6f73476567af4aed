"""Masked errors: sums over windows and nodes, added over batches, then finished.

A target of 0 is a missing reading and counts for nothing. H is the number of steps of
the horizon here: the sums are kept for each of them apart. The same formulas run under
jit, as the loss of training, and on NumPy arrays in float64.
"""

import dataclasses
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, ArrayLike, Float, Float64

SMALLEST_PERCENT_TARGET = 1e-4
"""Percentages leave out targets that are not above this, in mph."""

MEAN = "mean"
"""In a column ``horizon``: the mean over all steps of their errors."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, slots=True)
class ErrorSums:
    """Sums of errors over windows and nodes, for each step of the horizon.

    A pytree: it can leave a jitted function, be stacked by a scan and mapped over. Sums
    of two sets of windows are added with ``+``.

    Attributes:
        absolute: Sum of absolute errors, in mph.
        square: Sum of squared errors, in mph squared.
        percent: Sum of absolute errors as shares of the target (1 is 100 %).
        count: Readings that are not missing.
        percent_count: Those of them that a percentage is taken of.
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
        """Add up stacked batches in float64 NumPy, over any axis but the last."""
        return jax.tree.map(lambda x: np.asarray(x, np.float64).sum(axis), self)


class Metrics(NamedTuple):
    """Errors of a forecaster at each step of the horizon.

    A step at which no reading counts has no error, and NaN stands there.

    Attributes:
        mae: Mean absolute error, in mph.
        rmse: Root of the mean squared error, in mph.
        mape: Mean absolute error in percent of the target.
    """

    mae: Float64[np.ndarray, "*batch H"]
    rmse: Float64[np.ndarray, "*batch H"]
    mape: Float64[np.ndarray, "*batch H"]


# --- sums ---------------------------------------------------------------------------


def error_sums(
    prediction: Float[Array, "W H N"], target: Float[Array, "W H N"]
) -> ErrorSums:
    r"""Sums of masked errors of a batch; runs under jit and can be differentiated.

    With the errors :math:`e_{whn} = \hat y_{whn} - y_{whn}`, at each step h

    .. math::
        \sum_{y \neq 0} |e|, \quad \sum_{y \neq 0} e^2, \quad
        \sum_{|y| > 10^{-4}} |e / y|, \quad
        \sum_{y \neq 0} 1, \quad \sum_{|y| > 10^{-4}} 1

    over the windows w and nodes n. What is predicted where a reading is missing has no
    effect, not even NaN. A window that only fills up a batch counts for nothing once
    its targets are 0.

    Args:
        prediction: Speeds in mph.
        target: Speeds in mph, 0 where missing.

    Returns:
        The sums, each of shape (H,), in float32 or the wider dtype of the arguments.
        Counts are exact up to 2^24 readings a step: keep to one batch.

    Example:
        >>> import jax.numpy as jnp
        >>> target = jnp.array([[[50.0, 0.0], [40.0, 20.0]]])  # the 0 is missing
        >>> sums = error_sums(jnp.full((1, 2, 2), 30.0), target)
        >>> sums.absolute.tolist(), sums.count.tolist()
        ([20.0, 20.0], [1.0, 2.0])
    """
    _check_shapes(prediction, target)
    given = jnp.promote_types(prediction.dtype, target.dtype)
    dtype = jnp.promote_types(given, jnp.float32)
    return _sums(jnp, prediction.astype(dtype), target.astype(dtype))


def array_sums(
    prediction: Float[ArrayLike, "W H N"], target: Float[ArrayLike, "W H N"]
) -> ErrorSums:
    """`error_sums` in float64, without jax.

    Args:
        prediction: Speeds in mph.
        target: Speeds in mph, 0 where missing.

    Returns:
        The sums, each of shape (H,).

    Raises:
        ValueError: If the shapes differ or are not (W, H, N), or a target is not
            finite.

    Example:
        >>> sums = array_sums([[[30.0, 30], [30, 30]]], [[[50.0, 0], [40, 20]]])
        >>> sums.absolute.tolist(), sums.count.tolist()
        ([20.0, 20.0], [1.0, 2.0])
    """
    y_hat, y = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
    _check_shapes(y_hat, y)
    if not np.isfinite(y).all():
        window, step, node = np.argwhere(~np.isfinite(y))[0]
        raise ValueError(
            f"target must be finite, and 0 where missing, got {y[window, step, node]} "
            f"in window {window} at step {step + 1} of node {node}."
        )
    return _sums(np, y_hat, y)


def _check_shapes(prediction: Any, target: Any) -> None:
    if target.ndim != 3 or prediction.shape != target.shape:
        raise ValueError(
            "prediction and target must have the same shape (W, H, N), got "
            f"{prediction.shape} and {target.shape}."
        )


def _sums(xp: Any, prediction: Any, target: Any) -> ErrorSums:
    """The sums by ``xp``, which is NumPy or jax's, in the dtype of its arrays."""
    counts, has_percent = target != 0, xp.abs(target) > SMALLEST_PERCENT_TARGET
    # Masked before anything is computed: what is missing reaches no gradient either.
    error = xp.where(counts, prediction - target, 0)
    absolute = xp.abs(error)
    share = xp.where(has_percent, absolute / xp.where(has_percent, target, 1), 0)

    def over_windows_and_nodes(x: Any) -> Any:
        return x.sum((0, 2), dtype=target.dtype)

    return ErrorSums(
        absolute=over_windows_and_nodes(absolute),
        square=over_windows_and_nodes(error * error),
        percent=over_windows_and_nodes(xp.abs(share)),
        count=over_windows_and_nodes(counts),
        percent_count=over_windows_and_nodes(has_percent),
    )


# --- what they come to --------------------------------------------------------------


def pooled_mae(sums: ErrorSums) -> Float[Array, "*batch"]:
    r"""Masked MAE over all steps together, under jit: the loss of training.

    .. math:: \sum_h \sum |e| \; / \; \max(1, \sum_h \text{count}_h)

    Each reading weighs the same, so that it differs a little from the mean over the
    steps of :attr:`Metrics.mae` where steps miss different numbers of readings.

    Args:
        sums: Sums of absolute errors and counts.

    Returns:
        In mph; 0, with gradient 0, where every reading is missing.

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
        sums: Of all windows.

    Returns:
        The metrics in float64; NaN at a step where no reading counts.

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


def step_metrics(
    prediction: Float[ArrayLike, "W H N"], target: Float[ArrayLike, "W H N"]
) -> Metrics:
    """Masked MAE, RMSE and MAPE of arrays at each single step of the horizon.

    Args:
        prediction: Speeds in mph.
        target: Speeds in mph, 0 where missing.

    Returns:
        As `metrics_of` the `array_sums`.

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
        metrics: At each step.

    Returns:
        Their means. NaN if a step has no reading: a mean over the other steps would be
        of an easier or a harder task.

    Example:
        >>> import numpy as np
        >>> mean_over_steps(Metrics(*np.array([[1.0, 3], [2, 6], [10, 20]])))
        Metrics(mae=2.0, rmse=4.0, mape=15.0)
    """
    means = (np.asarray(x.mean(-1)) for x in metrics)
    return Metrics(*(mean if mean.ndim else mean.item() for mean in means))


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
