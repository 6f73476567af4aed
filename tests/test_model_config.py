"""Settings that cannot work are refused, with the argument, the rule and the value."""

import pytest

from models.config import ForecasterConfig, GraphConfig, TemporalConfig
from sensitivity.arguments import ArgumentError


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (TemporalConfig, {"heads": 0}, "heads must be at least 1, got 0"),
        (TemporalConfig, {"taps": 0}, "taps must be at least 1, got 0"),
        (
            TemporalConfig,
            {"kind": "lstm"},
            r"kind must be one of \('attention', 'convolution'\), .*lstm",
        ),
        (
            TemporalConfig,
            {"regularizer": "l2"},
            "regularizer must be one of .*'penalty'.*, got 'l2'",
        ),
        (
            TemporalConfig,
            {"kind": "convolution", "regularizer": "mask"},
            r"regularizer \(mask\) acts on attention, which a convolution",
        ),
        *(
            (
                TemporalConfig,
                {"penalty": value},
                f"penalty must be finite .*, got {value}",
            )
            for value in (-float("inf"), float("nan"))
        ),
        *(
            (
                TemporalConfig,
                {"diagonal_dropout": chance},
                rf"diagonal_dropout must lie in \[0, 1\), got {chance}",
            )
            for chance in (1.0, -0.1)
        ),
        (
            GraphConfig,
            {"kind": "ring"},
            r"kind must be one of \('full', 'diagonal', 'road', 'conjoint'\), .*ring",
        ),
        (GraphConfig, {"hops": 0}, "hops must be at least 1, got 0"),
        (GraphConfig, {"embedding": -1}, "embedding must be at least 1, got -1"),
        *(
            (ForecasterConfig, {name: 0}, f"{name} must be at least 1, got 0")
            for name in ("nodes", "window", "horizon", "width", "layers")
        ),
        *(
            (ForecasterConfig, {name: "new"}, f"{name} must be one of .*, got 'new'")
            for name in ("stack", "position", "precision")
        ),
        *(
            (
                ForecasterConfig,
                {"dropout": chance},
                rf"dropout must lie in \[0, 1\), got {chance}",
            )
            for chance in (1.0, float("nan"))
        ),
        (
            ForecasterConfig,
            {"width": 70},
            r"width \(70\) must be a multiple of heads \(8\)",
        ),
        *(
            (
                ForecasterConfig,
                {"window": 1, "temporal": TemporalConfig(regularizer=regularizer)},
                f"window must be at least 2 with regularizer '{regularizer}'",
            )
            for regularizer in ("mask", "dropout")
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(config, settings, message):
    nodes = {"nodes": 3} if config is ForecasterConfig else {}
    with pytest.raises(ArgumentError, match=message) as caught:
        config(**nodes | settings)
    assert message.startswith(caught.value.argument)


def test_what_looks_close_to_wrong_is_accepted():
    convolution = TemporalConfig(kind="convolution", heads=8)
    assert ForecasterConfig(nodes=1, width=70, temporal=convolution).width == 70
    penalty = TemporalConfig(regularizer="penalty")
    assert ForecasterConfig(nodes=1, window=1, temporal=penalty).window == 1
    assert ForecasterConfig(nodes=1, dropout=0.0).dropout == 0


def test_the_defaults_are_the_reference():
    config = ForecasterConfig(nodes=207)
    sizes = (config.window, config.horizon, config.width, config.layers)
    assert sizes == (12, 12, 72, 12)
    assert (config.dropout, config.position) == (0.1, "tape")
    temporal, graph = config.temporal, config.graph
    assert (temporal.heads, temporal.residual) == (8, True)
    assert temporal.regularizer == "none"
    assert (temporal.penalty, temporal.diagonal_dropout) == (-0.1, 0.2)
    assert (graph.kind, graph.hops, graph.embedding) == ("full", 2, 10)
