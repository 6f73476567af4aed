"""What a sweep measures: its points, and what the sources of layers have in common."""

from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float

from sensitivity.weights import AttentionWeights, ScoreBias

RANDOM = "random"


class Point(NamedTuple):
    """One attention layer at one length: what is measured, and kept, in one go.

    Attributes:
        name: Name of its file.
        T: Number of time steps.
        seed: Seed of its weights.
        source: Where its inputs come from.
        position: Position encoding that was added to the first layer's input.
        regularizer: What is done to the diagonal of its scores.
        heads: Number of heads H.
        run: Folder of the training run; of a layer that was drawn, ``"random"``.
        layer: Its place among the temporal layers of its model, from 0.
        step: Training steps its weights were trained for.
        residual: Whether it adds its input to its output.
    """

    name: str
    T: int
    seed: int
    source: str
    position: str
    regularizer: str
    heads: int
    run: str = RANDOM
    layer: int = 0
    step: int = 0
    residual: bool = True

    @property
    def words(self) -> str:
        """What it is, as a line of progress."""
        if self.run == RANDOM:
            return f"T={self.T} seed={self.seed}"
        return f"{self.run} seed={self.seed} step={self.step} layer={self.layer}"


class Inputs(NamedTuple):
    """A layer and its inputs, in the dtype of the sweep.

    Attributes:
        x: Inputs, shape (S, T, D), or (S, N, T, D) of several nodes.
        weights: The layer.
        score_bias: What the regularizer adds to the scores.
        filled_share: Share of the readings that were missing and filled.
    """

    x: Float[np.ndarray, "S *nodes T D"]
    weights: AttentionWeights
    score_bias: ScoreBias
    filled_share: float


class Layers(Protocol):
    """A source of layers and their inputs.

    Attributes:
        points: What there is to measure, in order.
        max_memory: Budget left for measuring a point.
    """

    points: list[Point]
    max_memory: str | int

    def identity(self) -> dict[str, Any]:
        """Fingerprints of all that is read, so that two versions are never mixed."""
        ...

    def headline(self) -> str:
        """What is looked at, in words."""
        ...

    def notes(self) -> list[str]:
        """What whoever reads the numbers should know."""
        ...

    def size(self) -> int:
        """Bytes that the work arrays are estimated to take.

        Raises:
            ValueError: If that is more than the budget.
        """
        ...

    def inputs(self, point: Point) -> Inputs:
        """The layer of a point, and its inputs."""
        ...
