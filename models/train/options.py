"""What a training run is asked to do, checked when it is written down."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from models.config import (
    Attention,
    ForecasterConfig,
    GraphConfig,
    GraphKind,
    HeadNorm,
    Precision,
    Regularizer,
    SpectrumSize,
    Stack,
    TemporalConfig,
    TemporalKind,
)
from models.positions import PositionKind
from sensitivity.arguments import ArgumentError, check_at_least

# As `data.Convention` and so on: importing them would load jax, and --help is quick.
Convention = Literal["windows", "time"]
Scale = Literal["global", "sensor"]
Fill = Literal["mean", "forward", "zero"]

Whole = Annotated[int | None, tyro.conf.arg(metavar="INT")]
_BENCHMARKS = ("metr-la", "pems-bay")
_FILES = (".h5", ".hdf5", ".npz", ".csv")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions:
    """The series, and the windows that are cut from it.

    Attributes:
        dataset: "payne-whitham" (simulated), "metr-la", "pems-bay", or the path of an
            .h5, .npz or .csv file of speeds in mph (of an .npz the first feature).
        data: Folder of the files of metr-la or pems-bay. A run that goes on compares
            what is in the files, not where they are.
        adjacency: The road graph for --graph road, as .pkl, .npy or .csv, where the
            data set brings none or another one is wanted. Likewise compared by content.
        start: Time of the first row of a file without time stamps (whose rows are 5
            minutes apart); by default 2024-01-01 00:00, a Monday.
        days: Days that are simulated (payne-whitham only; 35 by default).
        window: Time steps T a forecast reads.
        horizon: Time steps H it forecasts.
        split: All windows first, then 70/10/20 (the field's habit); or the time axis
            first, so that no window straddles two parts (the reference code's).
        scale: Mean and deviation of all sensors together, or of each sensor.
        fill: What a missing input becomes: the training mean, the last reading, or a
            speed of zero (the field's habit, and the reference code's).
        time_of_week: Whether the training part's average by time of week is an input.
    """

    dataset: str = "payne-whitham"
    data: Path | None = None
    adjacency: Path | None = None
    start: str | None = None
    days: int | None = None
    window: int = 12
    horizon: int = 12
    split: Convention = "windows"
    scale: Scale = "sensor"
    fill: Fill = "forward"
    time_of_week: bool = False

    def __post_init__(self) -> None:
        """Refuse options that cannot be, or would do nothing."""
        simulated, benchmark = self.dataset == "payne-whitham", None
        if self.dataset in _BENCHMARKS:
            benchmark = self.dataset
        elif not simulated and Path(self.dataset).suffix.lower() not in _FILES:
            raise ArgumentError(
                "dataset",
                "must be payne-whitham, metr-la, pems-bay or a file ending in one of "
                f"{_FILES}, got {self.dataset!r}.",
            )
        if benchmark and self.data is None:
            raise ArgumentError(
                "data",
                f"must name the folder of the files of --dataset {benchmark}, got "
                "None.",
            )
        needs = {
            "data": (benchmark, "--dataset metr-la or pems-bay"),
            "days": (simulated, "--dataset payne-whitham"),
            "start": (not (simulated or benchmark), "a --dataset that is a file"),
        }
        for name, (there, needed) in needs.items():
            if getattr(self, name) is not None and not there:
                raise ArgumentError(name, f"needs {needed}, got {self.dataset!r}.")
        check_at_least(1, days=self.days, window=self.window, horizon=self.horizon)


_OF_TEMPORAL = (
    *("penalty", "diagonal_dropout", "query_weight", "spectrum_weight"),
    *("spectrum_size", "trace_weight", "trace_target", "mask_weight"),
    *("taps", "heads"),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """The forecaster.

    Attributes:
        model: Temporal layers: attention, or a causal convolution in its place.
        attention: What becomes attention weights: the softmax of the scores; a learned
            mixture of it and of a learned bias of every lag (conjoint); a softmax with
            an extra 1, whose rows may add up to less than 1.
        head_norm: Whether an RMS norm stands between attended values and the output
            projection.
        regularizer: What is done to the diagonal of the attention scores: nothing; a
            full -inf mask; a -inf mask dropped in at random in training; a penalty. Or
            what is added to the loss: the mean square of the query path on the diagonal
            (query); the scale of the query-key eigenvalues about a trace, in the style
            of LocAteR (spectrum); the size of a mask that is learned by lag
            (learned-mask).
        penalty: Added to the diagonal by the penalty regularizer, which takes -0.1
            where this is not given (the paper's text; the reference's config: -0.05).
        diagonal_dropout: Chance of the dropout regularizer, which takes 0.2 where this
            is not given (the paper's text; the reference's config: 0).
        query_weight: Factor of the query regularizer; 1 where this is not given.
        spectrum_weight: Factor of tr(W^2) of the spectrum regularizer, 0.01 likewise.
        spectrum_size: What it makes small: tr(W^2), of the eigenvalues, where this is
            not given; or the norm ||W||_F^2, which unlike that is bounded below.
        trace_weight: Its factor of (tr W - trace target)^2, 0.01 likewise.
        trace_target: That trace, 1 likewise.
        mask_weight: Factor of the learned mask's open entries, 1e-4 likewise.
        residual: Whether temporal layers add their input to their output.
        graph: Learned adjacencies; only their diagonals, as the reference code computes
            by mistake; the random walks of the road graph; or a mixture of learned ones
            and of one by embeddings that factorise the road graph (conjoint).
        structure_weight: Factor of that factorisation in the loss; 0.01 where this is
            not given.
        stack: Temporal and graph layers in turn, or all temporal layers first.
        layers: Temporal layers, and as many graph layers.
        width: Model width D.
        heads: Attention heads; attention takes 4 where this is not given (the paper 8).
        taps: Steps a convolution sees (2 where not given); L layers: L (taps - 1) + 1.
        position: Position encoding added to the inputs.
        dropout: Chance that a unit is dropped in training.
        precision: What matrix products are computed in; parameters are float32.
    """

    model: TemporalKind = "attention"
    attention: Attention = "softmax"
    head_norm: HeadNorm = "none"
    regularizer: Regularizer = "none"
    penalty: float | None = None
    diagonal_dropout: float | None = None
    query_weight: float | None = None
    spectrum_weight: float | None = None
    spectrum_size: SpectrumSize | None = None
    trace_weight: float | None = None
    trace_target: float | None = None
    mask_weight: float | None = None
    residual: bool = True
    graph: GraphKind = "full"
    structure_weight: float | None = None
    stack: Stack = "time-and-space"
    layers: int = 2
    width: int = 32
    heads: Whole = None
    taps: Whole = None
    position: PositionKind = "tape"
    dropout: float = 0.0
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        """Refuse options that cannot be, or would do nothing."""
        needs = {
            "penalty": ("regularizer", "penalty", -0.1),
            "diagonal_dropout": ("regularizer", "dropout", 0.2),
            "query_weight": ("regularizer", "query", 1.0),
            "spectrum_weight": ("regularizer", "spectrum", 0.01),
            "spectrum_size": ("regularizer", "spectrum", "eigenvalues"),
            "trace_weight": ("regularizer", "spectrum", 0.01),
            "trace_target": ("regularizer", "spectrum", 1.0),
            "mask_weight": ("regularizer", "learned-mask", 1e-4),
            "structure_weight": ("graph", "conjoint", 0.01),
            "taps": ("model", "convolution", 2),
            "heads": ("model", "attention", 4),
        }
        for name, (other, value, default) in needs.items():
            if getattr(self, other) == value:
                if getattr(self, name) is None:
                    object.__setattr__(self, name, default)
            elif getattr(self, name) is not None:
                rule = f"needs --{other} {value}, got {getattr(self, other)!r}."
                raise ArgumentError(name, rule)
        self.config(nodes=1, window=2, horizon=1, time_of_week=False)

    @property
    def needs_adjacency(self) -> bool:
        """Whether the model uses the road graph."""
        return GraphConfig(kind=self.graph).needs_adjacency

    def config(
        self, *, nodes: int, window: int, horizon: int, time_of_week: bool
    ) -> ForecasterConfig:
        """The model for some data.

        Args:
            nodes: Number of nodes N.
            window: Time steps T it sees.
            horizon: Time steps it forecasts.
            time_of_week: Whether the average by time of week is an input.

        Returns:
            What it is made of.

        Raises:
            ArgumentError: Naming the option, its rule and the value.
        """
        given, of_graph = (
            {n: getattr(self, n) for n in names if getattr(self, n) is not None}
            for names in (_OF_TEMPORAL, ("structure_weight",))
        )
        try:
            return ForecasterConfig(
                nodes=nodes,
                window=window,
                horizon=horizon,
                width=self.width,
                layers=self.layers,
                stack=self.stack,
                position=self.position,
                dropout=self.dropout,
                time_of_week=time_of_week,
                precision=self.precision,
                temporal=TemporalConfig(
                    kind=self.model,
                    attention=self.attention,
                    head_norm=self.head_norm,
                    regularizer=self.regularizer,
                    residual=self.residual,
                    **given,
                ),
                graph=GraphConfig(kind=self.graph, **of_graph),
            )
        except ArgumentError as error:  # but for kind, fields are named as options
            name = {"kind": "model"}.get(error.argument, error.argument)
            raise ArgumentError(name, error.rule) from None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FitOptions:
    """How it is trained.

    Attributes:
        epochs: Epochs at most; 0 evaluates the untrained model.
        steps_per_epoch: Training steps in an epoch; by default every batch there is.
        batch_size: Windows in a training step.
        learning_rate: Largest learning rate: warmed up linearly, then a cosine (the
            paper's text: 0.001; the reference's config: 0.0002).
        warmup: Epochs of warm-up.
        weight_decay: Decoupled weight decay of AdamW.
        patience: Epochs without a better validation MAE after which a seed stops; its
            best weights are kept.
        seeds: Number of seeds, each a model of its own.
        first_seed: The first of them; the others follow it.
        seeds_at_once: Seeds trained side by side; by default all on an accelerator, one
            after another on a CPU. Other choices round a step otherwise, which training
            amplifies: runs to be compared need the same.
        devices: Devices that share every batch; on a CPU, its cores. Likewise.
    """

    epochs: int = 10
    steps_per_epoch: Whole = None
    batch_size: int = 32
    learning_rate: float = 0.004
    warmup: int = 1
    weight_decay: float = 0.01
    patience: int = 20
    seeds: int = 1
    first_seed: int = 0
    seeds_at_once: Whole = None
    devices: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        check_at_least(
            0,
            epochs=self.epochs,
            warmup=self.warmup,
            weight_decay=self.weight_decay,
            first_seed=self.first_seed,
        )
        check_at_least(
            1,
            steps_per_epoch=self.steps_per_epoch,
            batch_size=self.batch_size,
            patience=self.patience,
            seeds=self.seeds,
            seeds_at_once=self.seeds_at_once,
            devices=self.devices,
        )
        if not self.weight_decay < float("inf"):
            raise ArgumentError(
                "weight_decay", f"must be finite, got {self.weight_decay}."
            )
        if self.first_seed + self.seeds > 2**32:
            raise ValueError(
                "--first-seed and --seeds must stay below 2**32, got "
                f"{self.first_seed} and {self.seeds}."
            )
        if not 0 < self.learning_rate < float("inf"):
            raise ArgumentError(
                "learning_rate",
                f"must be positive and finite, got {self.learning_rate}.",
            )

    def seed_list(self) -> list[int]:
        """The seeds, in order."""
        return list(range(self.first_seed, self.first_seed + self.seeds))


# Options that came after version 0.1.0: runs that lack them have these values.
SINCE_0_1_0: dict[str, Any] = {
    "attention": "softmax",
    "head_norm": "none",
    "query_weight": None,
    "spectrum_weight": None,
    "spectrum_size": None,
    "trace_weight": None,
    "trace_target": None,
    "mask_weight": None,
    "structure_weight": None,
}
Preset = Literal["small", "paper"]
PLACES = ("data", "adjacency")
_NO_IDENTITY = (
    *("preset", "out", "resume", "overwrite", "predictions", "keep_epochs"),
    *("seeds_at_once", "devices"),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """Train a forecaster of traffic speeds, several seeds at once, and test it.

    Attributes:
        preset: Defaults of the options below and nothing else: a small model, or the
            paper's (width 72, 8 heads, 12 layers, batch 128, learning rate 0.001, 150
            epochs, warm-up 5; the reference's config has learning rate 0.0002, penalty
            -0.05, and its code --split time --fill zero --graph diagonal).
        series: The data.
        model: The forecaster.
        fit: How it is trained.
        out: Folder for the results.
        resume: Whether to go on with the same run in that folder, if there is one.
            With --epochs 0 nothing is trained: what it has reached is tested again.
        overwrite: Whether to replace a run in that folder.
        predictions: Whether to keep the test forecasts of every seed (mph).
        keep_epochs: Epochs after which the weights are kept for good, beside the
            checkpoint; 0 is before training. ``python -m sensitivity.sweep
            --checkpoint RUN --weights kept`` looks at them.
    """

    preset: Preset = "small"
    series: Annotated[DataOptions, tyro.conf.arg(name="")] = DataOptions()
    model: Annotated[ModelOptions, tyro.conf.arg(name="")] = ModelOptions()
    fit: Annotated[FitOptions, tyro.conf.arg(name="")] = FitOptions()
    out: Path = Path("runs/train")
    resume: bool = False
    overwrite: bool = False
    predictions: bool = False
    keep_epochs: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.resume and self.overwrite:
            raise ValueError("--resume and --overwrite exclude each other; drop one.")
        if self.series.adjacency is not None and not self.model.needs_adjacency:
            rule = f"needs --graph road or conjoint, got {self.model.graph!r}."
            raise ArgumentError("adjacency", rule)
        kept, epochs = self.keep_epochs, self.fit.epochs
        most = float("inf") if self.resume and epochs == 0 else epochs
        if len(set(kept)) < len(kept) or not all(0 <= one <= most for one in kept):
            raise ArgumentError(
                "keep_epochs",
                f"must lie in 0 to --epochs ({epochs}) and not repeat, got "
                f"{list(kept)}.",
            )
        self.model.config(
            nodes=1,
            window=self.series.window,
            horizon=self.series.horizon,
            time_of_week=self.series.time_of_week,
        )

    def identity(self) -> dict:
        """What a run is asked for, but for how and where it is done.

        Returns:
            Arguments by name, as JSON holds them. Two runs are the same where these
            are, but for the places in `PLACES`, of whose files the content counts.
        """
        asked = dataclasses.asdict(self)
        series, model, fit = (asked.pop(name) for name in ("series", "model", "fit"))
        return {
            name: str(value) if isinstance(value, Path) else value
            for name, value in (asked | series | model | fit).items()
            if name not in _NO_IDENTITY
            and not (name in SINCE_0_1_0 and value == SINCE_0_1_0[name])
        }


PRESETS: dict[str, TrainOptions] = {
    "small": TrainOptions(),
    "paper": TrainOptions(
        preset="paper",
        model=ModelOptions(layers=12, width=72, heads=8, dropout=0.1),
        fit=FitOptions(epochs=150, batch_size=128, learning_rate=0.001, warmup=5),
    ),
}
