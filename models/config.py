"""What a forecaster is made of, checked when it is written down."""

import dataclasses
from typing import Literal, get_args

from models.positions import PositionKind
from sensitivity.arguments import ArgumentError

TemporalKind = Literal["attention", "convolution"]
Attention = Literal["softmax", "conjoint", "softmax-1"]
HeadNorm = Literal["none", "rms"]
Regularizer = Literal[
    "none", "mask", "dropout", "penalty", "query", "spectrum", "learned-mask"
]
SpectrumSize = Literal["eigenvalues", "norm"]
GraphKind = Literal["full", "diagonal", "road", "conjoint"]
Stack = Literal["time-and-space", "time-then-space"]
Precision = Literal["float32", "bfloat16"]


def _check_choices(config: object, **choices: object) -> None:
    """Refuse a field that is none of its choices, a ``Literal`` each."""
    for name, choice in choices.items():
        value, known = getattr(config, name), get_args(choice)
        if value not in known:
            raise ArgumentError(name, f"must be one of {known}, got {value!r}.")


def _check_sizes(config: object, *names: str) -> None:
    for name in names:
        if (size := getattr(config, name)) < 1:
            raise ArgumentError(name, f"must be at least 1, got {size}.")


def _check_chance(config: object, name: str) -> None:
    if not 0 <= (chance := getattr(config, name)) < 1:
        raise ArgumentError(name, f"must lie in [0, 1), got {chance}.")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TemporalConfig:
    """How a layer mixes the time steps of a node.

    Attributes:
        kind: Attention over the whole window, or a causal convolution in its place.
        heads: Number of heads H of the attention.
        attention: What becomes weights: the softmax of the scores; of it and of a
            learned bias of each lag i - j a learned mixture (``conjoint``); or a
            softmax with an extra 1, so that rows may add up to less (``softmax-1``).
        head_norm: Whether the attended values of each head pass an RMS norm, whose
            scale all heads share, in front of the output projection.
        regularizer: What is done to the diagonal of the attention scores: nothing; a
            full -inf mask, in training and evaluation; a -inf mask that a coin drops
            on each step of the diagonal, one draw per layer and training step, never
            in evaluation; or a penalty, in both. Or what is added to the loss: the mean
            square of the query path on the diagonal (``query``); the scale of the
            eigenvalues of the query-key product about a trace (``spectrum``); the size
            of a mask that is learned, open or shut for each lag |i - j| and head
            (``learned-mask``).
        penalty: Added to the diagonal by the penalty, after the scaling by 1/sqrt(K).
        diagonal_dropout: Chance of the coin.
        query_weight: Factor of the query path's mean square in the loss.
        spectrum_weight: Factor of tr(W^2), W = W^Q^T W^K / sqrt(K), mean over heads.
        spectrum_size: That of the ``eigenvalues``, or the ``norm`` ||W||_F^2 in place
            of tr(W^2), which unlike this is bounded below.
        trace_weight: Factor of (tr W - trace_target)^2 likewise.
        trace_target: Trace that W is held to.
        mask_weight: Factor of the sum of the learned mask's open entries.
        residual: Whether the input of the layer is added to its output.
        taps: Number P of time steps, its own and earlier ones, a convolution sees.
    """

    kind: TemporalKind = "attention"
    heads: int = 8
    attention: Attention = "softmax"
    head_norm: HeadNorm = "none"
    regularizer: Regularizer = "none"
    penalty: float = -0.1
    diagonal_dropout: float = 0.2
    query_weight: float = 1.0
    spectrum_weight: float = 0.01
    spectrum_size: SpectrumSize = "eigenvalues"
    trace_weight: float = 0.01
    trace_target: float = 1.0
    mask_weight: float = 1e-4
    residual: bool = True
    taps: int = 2

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            ArgumentError: Naming the field, its rule and the value.
        """
        _check_choices(
            self,
            kind=TemporalKind,
            attention=Attention,
            head_norm=HeadNorm,
            regularizer=Regularizer,
            spectrum_size=SpectrumSize,
        )
        _check_sizes(self, "heads", "taps")
        plain = {"regularizer": "none", "attention": "softmax", "head_norm": "none"}
        for name, value in plain.items():
            if self.kind != "attention" and (own := getattr(self, name)) != value:
                raise ArgumentError(
                    name, f"({own}) acts on attention, which a {self.kind} has not."
                )
        for name in ("query_weight", "spectrum_weight", "trace_weight", "mask_weight"):
            if not 0 <= (weight := getattr(self, name)) < float("inf"):
                rule = f"must be finite and not negative, got {weight}."
                raise ArgumentError(name, rule)
        if not abs(self.trace_target) < float("inf"):
            rule = f"must be finite, got {self.trace_target}."
            raise ArgumentError("trace_target", rule)
        if not abs(self.penalty) < float("inf"):
            raise ArgumentError(
                "penalty", f"must be finite (the mask is -inf), got {self.penalty}."
            )
        _check_chance(self, "diagonal_dropout")

    @property
    def has_form(self) -> bool:
        """Whether attention is more than a softmax of scores."""
        return (self.attention, self.head_norm) != ("softmax", "none")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GraphConfig:
    """How a layer mixes the nodes at a time step.

    Attributes:
        kind: Learned forward and backward adjacencies (``full``); only their diagonals,
            so that no node sees another (``diagonal``, what the reference code's
            ``einsum('nn, btnc -> btnc')`` computes); the random walks along and
            against a given road graph (``road``); or a learned mixture of each learned
            adjacency and one of structure, whose embeddings are held to factorise the
            given road graph (``conjoint``).
        hops: Order: how often each adjacency is applied.
        embedding: Width of the node embeddings that adjacencies are learned from.
        structure_weight: Factor of the structural term in the loss (``conjoint``).
    """

    kind: GraphKind = "full"
    hops: int = 2
    embedding: int = 10
    structure_weight: float = 0.01

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming the field, its rule and the value."""
        _check_choices(self, kind=GraphKind)
        _check_sizes(self, "hops", "embedding")
        if not 0 <= self.structure_weight < float("inf"):
            rule = f"must be finite and not negative, got {self.structure_weight}."
            raise ArgumentError("structure_weight", rule)

    @property
    def needs_adjacency(self) -> bool:
        """Whether it uses a given road graph."""
        return self.kind in ("road", "conjoint")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ForecasterConfig:
    """One forecaster. The defaults are the reference's, 12 steps in and 12 out.

    Attributes:
        nodes: Number of nodes N.
        window: Number of time steps T it sees.
        horizon: Number of time steps it forecasts.
        width: Model width D.
        layers: Number L of temporal layers, and as many graph layers.
        stack: Temporal and graph layers in turn, or all temporal layers first.
        position: Position encoding added to the inputs.
        dropout: Chance that a unit is dropped in training: of the encoded inputs, the
            attention weights and every layer's output.
        time_of_week: Whether the training part's average by time of week is an input.
        precision: What matrix products and the attention weights are computed in;
            parameters, norms, residuals and adjacencies are float32.
        temporal: The temporal layers.
        graph: The graph layers.
    """

    nodes: int
    window: int = 12
    horizon: int = 12
    width: int = 72
    layers: int = 12
    stack: Stack = "time-and-space"
    position: PositionKind = "tape"
    dropout: float = 0.1
    time_of_week: bool = False
    precision: Precision = "float32"
    temporal: TemporalConfig = TemporalConfig()
    graph: GraphConfig = GraphConfig()

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            ArgumentError: Naming the field, its rule and the value.
        """
        _check_choices(self, stack=Stack, position=PositionKind, precision=Precision)
        _check_sizes(self, "nodes", "window", "horizon", "width", "layers")
        _check_chance(self, "dropout")
        temporal = self.temporal
        if temporal.kind == "attention" and self.width % temporal.heads:
            raise ArgumentError(
                "width",
                f"({self.width}) must be a multiple of heads ({temporal.heads}).",
            )
        if self.window < 2 and temporal.regularizer in ("mask", "dropout"):
            raise ArgumentError(
                "window",
                f"must be at least 2 with regularizer {temporal.regularizer!r}: "
                "a single step whose diagonal is masked has nothing to attend to.",
            )
