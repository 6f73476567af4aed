"""Where attention exceeds what makes a step a sink."""

import numpy as np
from jaxtyping import Float

from analysis.diagnostics.columns import largest_salience, mean_over_steps, of_steps
from analysis.diagnostics.diagnostic import Diagnostic, Panel
from analysis.diagnostics.diagonal import diagonal

EPSILON = 0.3  # of Gu et al., for T = 64
_OVER = f"exceeds {EPSILON}"
_IMPORTANCE = "importance, the mean weight over the rows that may attend to it,"
_GU = "Gu et al., arXiv 2410.10781"
_SINKS = Panel("Sinks", f"share that {_OVER}", power_law=False)


def exceeding(weight: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """1 where a weight exceeds `EPSILON` and 0 where not; NaN where there is none."""
    return np.where(np.isnan(weight), np.nan, weight > EPSILON)


def first_step(steps: Float[np.ndarray, "*batch T"]) -> Float[np.ndarray, "*batch"]:
    """Of the values of steps, that of the first that has one; NaN where none has."""
    first = np.argmin(np.isnan(steps), -1, keepdims=True)
    return np.take_along_axis(steps, first, -1)[..., 0]


def _uniform(T: int) -> float:
    return float(1 / T > EPSILON)


ENTRIES = (
    Diagnostic(
        name="first_step_sink",
        label="first-step sink",
        meaning="share of samples whose first step, of those that a row may attend to, "
        f"has an {_IMPORTANCE} that {_OVER}",
        source=f"{_GU}: Sink_1 of eps = {EPSILON}, as a share",
        function=lambda seen: exceeding(first_step(of_steps(seen))),
        uniform=_uniform,
        panel=_SINKS,
    ),
    Diagnostic(
        name="any_sink",
        label="any sink",
        meaning=f"share of samples with a step whose {_IMPORTANCE} {_OVER}",
        source=f"ours: of Sink_k in {_GU}, any k",
        function=lambda seen: exceeding(largest_salience(of_steps(seen))),
        uniform=_uniform,
        panel=_SINKS,
    ),
    Diagnostic(
        name="sink_share",
        label="share of sinks",
        meaning=f"share of steps whose {_IMPORTANCE} {_OVER}, mean over samples",
        source=f"ours: of Sink_k in {_GU}, the mean over k",
        function=lambda seen: mean_over_steps(exceeding(of_steps(seen))),
        uniform=_uniform,
        panel=_SINKS,
    ),
    Diagnostic(
        name="diagonal_sink",
        label="diagonal sink",
        meaning=f"share of rows whose weight alpha_ii on their own step {_OVER}",
        source=f"ours: the diagonal analogue of Sink_k in {_GU}",
        function=lambda seen: exceeding(diagonal(seen.alpha)),
        uniform=_uniform,
        panel=_SINKS,
    ),
)
