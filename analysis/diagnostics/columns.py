"""What one source step gets of the attention of all rows."""

import numpy as np
from jaxtyping import Float


def largest_column_mean(
    alpha: Float[np.ndarray, "*batch T T"],
) -> Float[np.ndarray, "*batch"]:
    """The share of the step that is attended most, a sink: from 1/T to 1."""
    return alpha.mean(-2).max(-1)
