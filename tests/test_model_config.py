"""Settings that cannot work are refused, with the argument, the rule and the value."""

from typing import Any

import pytest

from models.config import ForecasterConfig, GraphConfig, TemporalConfig


def reject(message: str, config: Any, **settings: Any) -> None:
    """Check that the settings are refused with the message."""
    with pytest.raises(ValueError, match=message):
        config(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 0}, "heads must be at least 1, got 0"),
        ({"taps": 0}, "taps must be at least 1, got 0"),
        (
            {"kind": "lstm"},
            r"kind must be one of \('attention', 'convolution'\), .*lstm",
        ),
        ({"regularizer": "l2"}, "regularizer must be one of .*'penalty'.*, got 'l2'"),
        (
            {"kind": "convolution", "regularizer": "mask"},
            r"regularizer \(mask\) acts on attention scores, which a convolution has not",
        ),
        ({"penalty": -float("inf")}, "penalty must be finite .*, got -inf"),
        ({"penalty": float("nan")}, "penalty must be finite .*, got nan"),
        ({"diagonal_dropout": 1.0}, r"diagonal_dropout must lie in \[0, 1\), got 1.0"),
        ({"diagonal_dropout": -0.1}, r"diagonal_dropout must lie in .*, got -0.1"),
    ],
)
def test_temporal_layers_that_cannot_be_are_refused(settings, message):
    reject(message, TemporalConfig, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"kind": "ring"},
            r"kind must be one of \('full', 'diagonal', 'road'\), .*ring",
        ),
        ({"hops": 0}, "hops must be at least 1, got 0"),
        ({"embedding": -1}, "embedding must be at least 1, got -1"),
    ],
)
def test_graph_layers_that_cannot_be_are_refused(settings, message):
    reject(message, GraphConfig, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(
            ({name: 0}, f"{name} must be at least 1, got 0")
            for name in ("nodes", "window", "horizon", "width", "layers")
        ),
        ({"stack": "deep"}, "stack must be one of .*'time-then-space'.*, got 'deep'"),
        ({"position": "rope"}, "position must be one of .*'tape'.*, got 'rope'"),
        ({"precision": "float16"}, "precision must be one of .*, got 'float16'"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"dropout": float("nan")}, r"dropout must lie in \[0, 1\), got nan"),
        ({"width": 70}, r"width \(70\) must be a multiple of heads \(8\)"),
        *(
            (
                {"window": 1, "temporal": TemporalConfig(regularizer=regularizer)},
                f"window must be at least 2 with regularizer '{regularizer}'",
            )
            for regularizer in ("mask", "dropout")
        ),
    ],
)
def test_forecasters_that_cannot_be_are_refused(settings, message):
    reject(message, ForecasterConfig, **({"nodes": 3} | settings))


def test_what_looks_close_to_wrong_is_accepted():
    convolution = TemporalConfig(kind="convolution", heads=8)
    assert ForecasterConfig(nodes=1, width=70, temporal=convolution).width == 70
    penalty = TemporalConfig(regularizer="penalty")
    assert ForecasterConfig(nodes=1, window=1, temporal=penalty).window == 1
    assert ForecasterConfig(nodes=1, dropout=0.0).dropout == 0


def test_the_defaults_are_the_reference():
    config = ForecasterConfig(nodes=207)
    assert (config.window, config.horizon, config.width, config.layers) == (
        12,
        12,
        72,
        12,
    )
    assert (config.dropout, config.position) == (0.1, "tape")
    temporal, graph = config.temporal, config.graph
    assert (temporal.heads, temporal.residual, temporal.regularizer) == (
        8,
        True,
        "none",
    )
    assert (temporal.penalty, temporal.diagonal_dropout) == (-0.1, 0.2)
    assert (graph.kind, graph.hops, graph.embedding) == ("full", 2, 10)
