"""What one source step gets of the attention of all rows."""

import numpy as np
from jaxtyping import Float

from analysis.diagnostics.diagnostic import Diagnostic


def largest_column_mean(
    alpha: Float[np.ndarray, "*batch T T"],
) -> Float[np.ndarray, "*batch"]:
    """The share of the step that is attended most, a sink: from 1/T to 1."""
    real = ~np.isnan(alpha[..., :1])
    if real.all():
        return alpha.mean(-2).max(-1)
    count, missing = real.sum(-2), np.full(alpha.shape[:-2], np.nan)
    most = np.where(real, alpha, 0).sum(-2).max(-1)
    return np.divide(most, count[..., 0], where=count[..., 0] > 0, out=missing)


ENTRIES = (
    Diagnostic(
        name="largest_column_mean",
        label="largest column mean",
        meaning="share of all rows' attention that the most attended step of a sample "
        "gets, mean over samples",
        source="attention sinks: Xiao et al., arXiv 2309.17453",
        function=lambda seen: largest_column_mean(seen.alpha),
        uniform=lambda T: 1 / T,
    ),
)
