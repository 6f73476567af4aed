"""Masked errors of forecasts that are at hand as arrays, and as tidy rows.

Speeds are in mph and 0 is a missing reading. W is the number of windows and H, here,
the number of steps of the horizon. A number for one step is labelled with the step, a
mean over the steps 1 to H with the word ``mean``.
"""

import numpy as np
import pandas as pd
from jaxtyping import ArrayLike, Float, Float64

from models.errors import SMALLEST_PERCENT_TARGET, ErrorSums, Metrics, metrics_of

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
