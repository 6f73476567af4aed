"""What ``python -m analysis.attention`` is asked to do."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from sensitivity.arguments import ArgumentError, check_at_least

# As `sensitivity.norms.Norm`: importing it would load jax, and --help is quick.
Norm = Literal["frobenius", "spectral"]
Weights = Literal["best", "kept"]
Null = Literal["steps", "shift", "gaussian"]  # as `analysis.diagnostics.nulls.Null`
_FEWEST = 20  # resamples: of fewer, z has no distribution


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AttentionOptions:
    """Measure how trained attention spreads, and by which path it influences.

    What is finished is kept, part by part: the same command goes on after an interrupt,
    and with more runs it measures the new ones only.

    Attributes:
        runs: Folders of complete runs of models.train with attention layers.
        data: Folder of the data set's files, where they are not where they were in
            training.
        weights: The best weights, which were tested; or those of every epoch that was
            kept (--keep-epochs of models.train), to see them move.
        windows: Test windows, evenly spaced from first to last.
        nodes: Nodes of the graph, evenly spaced; by default all.
        norm: Norm of the Jacobians. Spectral norms of a whole layer of several heads
            are slow; for one head both are fast.
        certificates: Samples (window and node, evenly spaced) on which the bounds on a
            whole layer's Jacobian are judged; by default 4 with the best weights; 0 for
            none. They are of best weights only.
        resamples: Resamples of every layer's input window that each attention weight is
            compared with: 0 for none, else 20 or more. It is the layer's own input, of
            shape (T, D), that is resampled, with all that was added to it before, such
            as positions; not the speeds.
        null: How: time steps drawn with replacement, their channels together; the
            window turned in a circle, which T steps can be T - 1 times; or every
            channel normal with its mean and deviation in the window. By default steps.
        resample_seed: Seed of the resamples.
        false_discovery: Largest local false discovery rate, and largest p, of a weight
            that survives.
        listed: Print what is measured, each with its meaning and source, and end.
        out: Folder for the results.
        overwrite: Whether to replace results of other settings in that folder, and to
            measure everything again.
    """

    runs: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUNS...")
    ] = ()
    data: Path | None = None
    weights: Weights = "best"
    windows: int = 8
    nodes: int | None = None
    norm: Norm = "frobenius"
    certificates: int | None = None
    resamples: int = 0
    null: Null | None = None
    resample_seed: int = 0
    false_discovery: float = 0.1
    listed: Annotated[bool, tyro.conf.arg(name="list")] = False
    out: Path = Path("runs/attention")
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be measured, before anything is read."""
        if not self.runs and not self.listed:
            raise ValueError("RUNS must name at least one folder, got none.")
        check_at_least(1, windows=self.windows, nodes=self.nodes)
        check_at_least(0, certificates=self.certificates)
        if self.weights == "kept" and self.certificates is not None:
            raise ArgumentError(
                "certificates",
                f"({self.certificates}) are of best weights only, but --weights is "
                "kept.",
            )
        check_at_least(0, resample_seed=self.resample_seed)
        if self.resamples and self.resamples < _FEWEST:
            raise ArgumentError(
                "resamples",
                f"must be 0 or at least {_FEWEST}, got {self.resamples}: a local false "
                "discovery rate needs a null.",
            )
        if self.null is not None and not self.resamples:
            raise ArgumentError(
                "null", f"({self.null}) needs --resamples of at least {_FEWEST}, got 0."
            )
        if not 0 < self.false_discovery < 1:
            raise ArgumentError(
                "false_discovery",
                f"must be between 0 and 1, got {self.false_discovery}.",
            )

    @property
    def null_model(self) -> Null:
        """How windows are resampled."""
        return self.null or "steps"

    @property
    def samples(self) -> int:
        """Samples on which certificates are judged."""
        if self.weights == "kept":
            return 0
        return 4 if self.certificates is None else self.certificates

    def settings(self) -> dict[str, Any]:
        """What all results in a folder have in common."""
        names = ("weights", "windows", "nodes", "norm")
        own = {name: getattr(self, name) for name in names}
        own |= {"certificates": self.samples}
        return own | (self.resampling() if self.resamples else {})

    def resampling(self) -> dict[str, Any]:
        """What significance depends on."""
        names = ("resamples", "resample_seed", "false_discovery")
        own = {name: getattr(self, name) for name in names}
        return own | {"null": self.null_model}
