"""A layer at its input: what captured, foreign and trained layers all become."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Shaped

from sensitivity.weights import AttentionWeights, ScoreBias


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerInput:
    """An attention layer, and what it is given.

    Attributes:
        x: Its input, shape (..., T, D), rounded as the layer rounds it before it
            computes; leading axes are samples and nodes.
        weights: Its arrays, rounded likewise.
        score_bias: Its masks, and what else is added to its scores.
        residual: Whether its input is added to its output; where nobody knows, as in
            `sensitivity.capture`, whether it can be.
        name: What it is called, such as its path in the model.
        output: What it returned, shape (..., T, O), where that is known.
        rows: Which query rows are real, shape (..., T), the others padding; None where
            all are.
        labels: Words for the steps, such as tokens, shape (..., T), if there are any.
    """

    x: Float[np.ndarray, "*batch T D"]
    weights: AttentionWeights
    score_bias: ScoreBias = ScoreBias()
    residual: bool = True
    name: str = ""
    output: Float[np.ndarray, "*batch T O"] | None = None
    rows: Bool[np.ndarray, "*batch T"] | None = None
    labels: Shaped[np.ndarray, "*batch T"] | None = None
