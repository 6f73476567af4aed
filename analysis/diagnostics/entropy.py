"""How evenly a row of attention spreads over the steps."""

import numpy as np
from jaxtyping import Bool, Float


def attention_entropy(
    alpha: Float[np.ndarray, "*batch T T"],
) -> Float[np.ndarray, "*batch T"]:
    """-sum_j alpha_ij log alpha_ij, in nats: from 0, all on one step, to log T."""
    logs = np.log(alpha, where=alpha > 0, out=np.zeros_like(alpha))
    return np.abs((alpha * logs).sum(-1))


def effective_steps(
    alpha: Float[np.ndarray, "*batch T T"],
) -> Float[np.ndarray, "*batch T"]:
    """As many steps, attended equally, have the same entropy: from 1 to T."""
    return np.exp(attention_entropy(alpha))


def relative_entropy(
    alpha: Float[np.ndarray, "*batch T T"], allowed: Bool[np.ndarray, "*#batch #T T"]
) -> Float[np.ndarray, "*batch T"]:
    """`attention_entropy` over log n_i, n_i the steps row i may attend to."""
    # From 0 (all on one step) to 1; NaN where a row may attend to one step only.
    steps = np.maximum(allowed.sum(-1), 1)
    most = np.log(np.broadcast_to(steps, alpha.shape[:-1]))
    missing = np.full(most.shape, np.nan)
    return np.divide(attention_entropy(alpha), most, where=most > 0, out=missing)
