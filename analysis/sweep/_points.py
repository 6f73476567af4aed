"""What a sweep measures: its points, and what the sources of layers have in common."""

from typing import Any, NamedTuple, Protocol

from sensitivity import LayerInput

RANDOM = "random"


class Point(NamedTuple):
    """One attention layer at one length: what is measured, and kept, in one go."""

    name: str  # of what is kept of it
    T: int
    seed: int  # of its weights
    source: str  # where its inputs come from
    position: str  # encoding added to the input of the first layer
    regularizer: str  # of the diagonal of its scores
    heads: int
    run: str = RANDOM  # folder of the training run
    layer: int = 0  # place among the temporal layers of its model
    step: int = 0  # training steps of its weights
    residual: bool = True

    @property
    def words(self) -> str:
        """What it is, as a line of progress."""
        if self.run == RANDOM:
            return f"T={self.T} seed={self.seed}"
        return f"{self.run} seed={self.seed} step={self.step} layer={self.layer}"


class Inputs(NamedTuple):
    """A layer at its inputs, in the dtype of the sweep."""

    layer: LayerInput  # x of shape (S, T, D), or (S, N, T, D) of several nodes
    filled_share: float  # of the readings: were missing, and filled


class Layers(Protocol):
    """A source of layers and their inputs."""

    points: list[Point]
    max_memory: str | int  # left for measuring a point

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
        """Bytes that the work arrays take; refused if more than the budget."""
        ...

    def inputs(self, point: Point) -> Inputs:
        """The layer of a point at its inputs."""
        ...
