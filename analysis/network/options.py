"""What is asked of the forecasters, checked when it is written down."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

from sensitivity.arguments import ArgumentError, check_at_least
from sensitivity.memory import parse_memory


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """Measure how much every input of trained forecasters moves every output.

    Influence is |d output[t', n'] / d input[t, n]|, both z-scored speeds, in
    evaluation, on test windows, with the weights that were tested.

    Attributes:
        runs: Folders of runs of models.train.
        data: Where the files of their data set are now, if not where they were.
        windows: Test windows, evenly spaced from the first to the last.
        nodes: How many nodes' outputs to look at, evenly spaced; by default all. Inputs
            are always all.
        estimate: Instead of exact norms, estimate squared influence with so many random
            probes (Hutchinson): no hops, no bounds, no single pairs.
        probe_seed: Seed of the probes of --estimate; by default 0.
        bounds: Whether to hold the bounds on influence against the exact norms.
        max_memory: Budget for work arrays.
        out: Folder for the results. What is finished there is not done again, unless
            weights or settings are others.
        overwrite: Whether to do it again all the same.
    """

    runs: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUNS...")
    ]
    data: Path | None = None
    windows: int = 4
    nodes: int | None = None
    estimate: int | None = None
    probe_seed: int | None = None
    bounds: bool = True
    max_memory: str = "2GiB"
    out: Path = Path("runs/network")
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if not self.runs:
            raise ValueError("RUNS must name at least one folder, got none.")
        check_at_least(1, windows=self.windows, nodes=self.nodes)
        check_at_least(2, estimate=self.estimate)
        check_at_least(0, probe_seed=self.probe_seed)
        if self.estimate is None and self.probe_seed is not None:
            raise ArgumentError(
                "probe_seed",
                f"({self.probe_seed}) is of the probes of --estimate, which is not "
                "given.",
            )
        if self.estimate is not None and not self.bounds:
            raise ValueError(
                "--no-bounds has no use with --estimate, which measures no bounds."
            )
        parse_memory(self.max_memory)

    @property
    def seed_of_probes(self) -> int | None:
        """None where there are no probes."""
        return None if self.estimate is None else self.probe_seed or 0

    def settings(self) -> dict[str, Any]:
        """What the numbers of one forecaster depend on, besides it and its data."""
        names = ("windows", "nodes", "estimate", "bounds")
        own = {name: getattr(self, name) for name in names}
        return own | {"probe_seed": self.seed_of_probes}
