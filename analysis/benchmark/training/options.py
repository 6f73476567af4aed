"""What a run of the training benchmark is asked to do; imports no jax."""

import dataclasses
from pathlib import Path
from typing import Literal, get_args

Part = Literal["step", "seeds", "input", "large"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """Measure what training costs, on random data of METR-LA's shape.

    Attributes:
        parts: "step": a step of the reference's sizes on 29 nodes, ours and PyTorch's,
            and the share of matrix products in ours; "seeds": four seeds against one;
            "input": cutting the batches against the whole epoch; "large": a step on
            207 nodes.
        rounds: How often each method is timed; the minimum counts.
        steps: Training steps in a timed call; ten times as many of the small preset.
        quick: A trial of a minute: a tiny model, which reaches no target.
        out: Folder for training.csv and training.json.
    """

    parts: tuple[Part, ...] = get_args(Part)
    rounds: int = 5
    steps: int = 4
    quick: bool = False
    out: Path = Path("runs/benchmark-training")

    def __post_init__(self) -> None:
        """Refuse what cannot be measured.

        Raises:
            ValueError: Naming the argument, its rule and the value.
        """
        if not self.parts:
            raise ValueError("--parts must name at least one, got none.")
        for name in ("rounds", "steps"):
            if (number := getattr(self, name)) < 1:
                raise ValueError(f"--{name} must be at least 1, got {number}.")
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"--out must be a folder, got the file {self.out}.")
