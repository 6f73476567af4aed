"""How evenly a row of attention spreads over the steps."""

import numpy as np
from jaxtyping import Bool, Float

from analysis.diagnostics.diagnostic import Diagnostic, Panel


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


ENTRIES = (
    Diagnostic(
        name="entropy",
        label="relative entropy",
        meaning="relative entropy: mean entropy of a row of attention over that of "
        "uniform attention, the log of the number of steps it may attend to",
        source="Zhai et al., arXiv 2303.06296, over its largest value",
        function=lambda seen: relative_entropy(seen.alpha, seen.allowed),
        needs="a row that may attend to two steps or more",
        uniform=lambda _: 1.0,
    ),
    Diagnostic(
        name="attention_entropy",
        label="attention entropy (nats)",
        meaning="mean entropy of a row of attention in nats, -sum_j alpha_ij log "
        "alpha_ij; `entropy` is the relative one",
        source="Zhai et al., arXiv 2303.06296",
        function=lambda seen: attention_entropy(seen.alpha),
        uniform=lambda T: float(np.log(T)),
        column=4,
        short="entropy (nats)",
        panel=Panel("Attention entropy (nats)", power_law=False),
    ),
    Diagnostic(
        name="effective_steps",
        label="attended steps",
        meaning="exp of the entropy of a row of attention in nats, mean over rows: as "
        "many steps, attended equally, have that entropy",
        source="Hill, Ecology 54, 1973: the number of order 1",
        function=lambda seen: effective_steps(seen.alpha),
        uniform=float,
        column=4,
        short="attend. steps",
        panel=Panel("Attended steps"),
    ),
)
