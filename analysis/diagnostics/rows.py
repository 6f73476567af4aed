"""From the rows of a head, query steps of samples, to one number.

A row in which a quantity means nothing holds NaN, and counts in no mean or median.
"""

import numpy as np
from jaxtyping import Float

Rows = Float[np.ndarray, "S ..."]


def mean(rows: Rows) -> float:
    """Over the rows that have a value; NaN where none has."""
    there = ~np.isnan(rows)
    if there.all():
        return float(rows.mean())
    return float(rows[there].mean()) if there.any() else float("nan")


def median(rows: Rows) -> float:
    """Over the rows that have a value; NaN where none has."""
    there = ~np.isnan(rows)
    return float(np.median(rows[there])) if there.any() else float("nan")


def count(rows: Rows) -> float:
    """How many rows have a value."""
    return float((~np.isnan(rows)).sum())


def added(rows: Rows) -> float:
    """Sum of the values."""
    return float(rows[~np.isnan(rows)].sum())
