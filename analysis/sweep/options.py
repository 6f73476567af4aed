"""What a sweep is asked to do, checked when it is written down."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from models.positions import PositionKind
from sensitivity.arguments import ArgumentError, check_at_least
from sensitivity.bounds import Level
from sensitivity.memory import parse_memory
from sensitivity.norms import Engine, Norm

Count = Annotated[int | None, tyro.conf.arg(metavar="INT")]
Source = Literal["gaussian", "payne-whitham", "metr-la"]
Regularizer = Literal["none", "mask", "penalty", "dropout"]
Levels = Literal["head", "layer", "both"]
Weights = Literal["best", "kept"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LayerOptions:
    """The attention layers to look at.

    Attributes:
        d_model: Width D of the inputs.
        heads: Number of heads H, each of width D / H; with more than one the layer has
            an output projection.
        scale: Weights are drawn from N(0, scale^2 / D).
        position: Position encoding added to the inputs.
        regularizer: What is done to the diagonal of the scores: nothing, a full -inf
            mask, a penalty, or a -inf mask dropped in at random, fresh per sample.
        penalty: Added to the diagonal by the penalty regularizer, which takes -0.1
            where this is not given.
        dropout: Chance of a row's diagonal to be masked by the dropout regularizer,
            which takes 0.2 where this is not given.
    """

    d_model: int = 16
    heads: int = 1
    scale: float = 1.0
    position: PositionKind = "none"
    regularizer: Regularizer = "none"
    penalty: float | None = None
    dropout: float | None = None

    def __post_init__(self) -> None:
        """Refuse layers that cannot be, and options that would do nothing."""
        check_at_least(1, d_model=self.d_model, heads=self.heads)
        if self.d_model % self.heads:
            rule = f"({self.d_model}) must be a multiple of --heads ({self.heads})."
            raise ArgumentError("d_model", rule)
        if not 0 < self.scale < float("inf"):
            raise ArgumentError(
                "scale", f"must be positive and finite, got {self.scale}."
            )
        for name, default in (("penalty", -0.1), ("dropout", 0.2)):
            if self.regularizer == name and getattr(self, name) is None:
                object.__setattr__(self, name, default)
            elif self.regularizer != name and getattr(self, name) is not None:
                rule = f"needs --regularizer {name}, got {self.regularizer!r}."
                raise ArgumentError(name, rule)
        if self.penalty is not None and not abs(self.penalty) < float("inf"):
            rule = f"must be finite (--regularizer mask is -inf), got {self.penalty}."
            raise ArgumentError("penalty", rule)
        if self.dropout is not None and not 0 <= self.dropout <= 1:
            raise ArgumentError("dropout", f"must lie in [0, 1], got {self.dropout}.")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MeasureOptions:
    """How the norms are measured.

    Attributes:
        norm: Which norm.
        engine: The closed form, or automatic differentiation, the slow reference.
        dtype: Precision.
        level: Each head by itself, the layer as a whole, or both; by default both, but
            for --checkpoint and --layers each head, as norms of whole layers are slow.
        max_memory: Budget for the work arrays of each device.
    """

    norm: Norm = "spectral"
    engine: Engine = "closed_form"
    level: Levels | None = None
    dtype: Literal["float32", "float64"] = "float64"
    max_memory: str = "1GiB"

    def __post_init__(self) -> None:
        """Refuse a budget that cannot be read."""
        parse_memory(self.max_memory)

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels at which statements are judged."""
        if self.level is None or self.level == "both":
            return ("head", "layer")
        return (self.level,)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SweepOptions:
    """Check every line of Eq. 5-8 on attention layers across lengths T.

    Attributes:
        T: Numbers of time steps.
        source: Where inputs come from: independent N(0, 1); or windows of traffic
            speeds, simulated (payne-whitham) or real (metr-la), z-scored and projected
            to D by a random linear map.
        data: Folder (or .h5 file) of the METR-LA data; needed by that source. With
            --checkpoint, where the data of the runs are now if not where they were.
        checkpoint: Runs of models.train, in place of random layers: the attention
            layers of all their seeds are looked at, on windows of their test split.
        layers: Files of layers that were captured elsewhere, as `Capture.save` writes
            them, in place of random layers: each at the inputs that the file has.
        weights: Of a run: those that were tested (best), or all that were kept while it
            was trained (models.train --keep-epochs).
        nodes: Of a run: how many of its nodes, evenly spaced; by default all.
        seeds: How many layers, each with its own weights.
        samples: How many inputs per layer and length; of a run how many windows of its
            test split, evenly spaced.
        layer: The layers.
        measure: How the norms are measured.
        out: Folder for the results. What is finished there is not done again.
        overwrite: Whether to replace a sweep with other arguments in that folder.
        coordinator: Of a sweep that several processes share by jax.distributed:
            HOST:PORT where process 0 waits for the others. All have the same options
            but for --process, and see the same --out.
        processes: How many they are.
        process: Which of them this is, from 0: it measures every --processes-th point;
            process 0 writes the results when all points are there.
    """

    T: tuple[int, ...] = (8, 16, 32, 64, 128, 256)
    source: Source = "gaussian"
    data: Path | None = None
    checkpoint: tuple[Path, ...] = ()
    layers: tuple[Path, ...] = ()
    weights: Weights = "best"
    nodes: Count = None
    seeds: int = 5
    samples: int = 4
    layer: Annotated[LayerOptions, tyro.conf.arg(name="")] = LayerOptions()
    measure: Annotated[MeasureOptions, tyro.conf.arg(name="")] = MeasureOptions()
    out: Path = Path("runs/sweep")
    overwrite: bool = False
    coordinator: str | None = None
    processes: Count = None
    process: Count = None

    def __post_init__(self) -> None:
        """Refuse a sweep that cannot be done, before anything is computed."""
        self._check_checkpoint()
        self._check_layers()
        self._check_processes()
        if not self.T:
            raise ArgumentError("T", "must name at least one length, got none.")
        check_at_least(1, T=min(self.T))
        if len(set(self.T)) < len(self.T):
            raise ArgumentError("T", f"must not repeat a length, got {list(self.T)}.")
        check_at_least(1, seeds=self.seeds, samples=self.samples, nodes=self.nodes)
        if 1 in self.T and self.layer.regularizer in ("mask", "dropout"):
            raise ArgumentError(
                "T",
                f"must be at least 2 with --regularizer {self.layer.regularizer}: a "
                "single step whose diagonal is masked has nothing to attend to.",
            )
        real = self.source == "metr-la"
        if real and self.data is None:
            raise ArgumentError("source", "metr-la needs --data, the METR-LA folder.")
        if self.data is not None and not real and not self.checkpoint:
            rule = f"needs --source metr-la or --checkpoint, got {self.source!r}."
            raise ArgumentError("data", rule)

    def _check_processes(self) -> None:
        """Refuse a part of a sweep that is not wholly said."""
        if self.coordinator is None:
            for name in _changed(self, ("processes", "process")):
                raise ArgumentError(name, "needs --coordinator HOST:PORT.")
            return
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal():
            rule = f"must be HOST:PORT, got {self.coordinator!r}."
            raise ArgumentError("coordinator", rule)
        for name in ("processes", "process"):
            if getattr(self, name) is None:
                raise ArgumentError(name, "must be given with --coordinator.")
        check_at_least(1, processes=self.processes)
        check_at_least(0, process=self.process)
        if (self.process or 0) >= (self.processes or 0):
            rule = f"({self.process}) must be below --processes ({self.processes})."
            raise ArgumentError("process", rule)

    def _check_checkpoint(self) -> None:
        """Refuse what random layers have and trained ones have not, or vice versa."""
        if not self.checkpoint:
            for name in _changed(self, ("weights", "nodes")):
                rule = f"needs --checkpoint, got {getattr(self, name)!r}."
                raise ArgumentError(name, rule)
            return
        self._check_given("checkpoint", ("T", "source", "seeds"))

    def _check_layers(self) -> None:
        """Refuse for layers of files what they have already."""
        if not self.layers:
            return
        if self.checkpoint:
            raise ArgumentError("layers", "must not be given with --checkpoint.")
        self._check_given("layers", ("T", "source", "seeds", "samples", "data"))

    def _check_given(self, option: str, own: Sequence[str]) -> None:
        """Places of layers, each once, and nothing beside that they have themselves."""
        paths = tuple(path.resolve() for path in getattr(self, option))
        object.__setattr__(self, option, paths)
        if len(set(paths)) < len(paths):
            rule = f"must not repeat one, got {', '.join(map(str, paths))}."
            raise ArgumentError(option, rule)
        for name in _changed(self, own) + _changed(self.layer):
            raise ArgumentError(
                name,
                f"is for random layers; those of --{option} have their own: leave it "
                "out.",
            )
        if self.measure.level is None:
            chosen = dataclasses.replace(self.measure, level="head")
            object.__setattr__(self, "measure", chosen)

    @property
    def are_random(self) -> bool:
        """Whether the layers are drawn, not trained."""
        return not self.checkpoint and not self.layers

    def identity(self) -> dict:
        """What results depend on, as JSON holds it: it makes two sweeps the same."""
        arguments = dataclasses.asdict(self)
        layer, measure = arguments.pop("layer"), arguments.pop("measure")
        for name in ("out", "overwrite", "coordinator", "processes", "process"):
            del arguments[name]
        del measure["max_memory"]
        arguments["T"] = list(self.T)
        arguments["data"] = None if self.data is None else str(self.data.resolve())
        if not self.are_random:  # of whose data the content counts, not the place
            for name in ("data", "T", "source", "seeds"):
                del arguments[name]
            layer = {}
        arguments["checkpoint"] = [str(run) for run in self.checkpoint]
        arguments["layers"] = [str(path) for path in self.layers]
        if not self.layers:  # as before there was the option
            del arguments["layers"]
        measure["level"] = list(self.measure.levels)
        return arguments | layer | measure


def _changed(options: Any, names: Sequence[str] | None = None) -> list[str]:
    """Which of these fields (by default: of all) do not have their default values."""
    return [
        field.name
        for field in dataclasses.fields(options)
        if names is None or field.name in names
        if getattr(options, field.name) != field.default
    ]
