"""Bounds from layer gains on what a whole forecaster does, exactly measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from analysis.network._bounds import BOUNDS
from analysis.network._forecaster_bounds import forecaster_bounds
from analysis.network._forecaster_gains import forecaster_gains, graph_gains
from analysis.network._tightness import table_of
from models.config import GraphConfig, TemporalConfig
from sensitivity.layer_gains import layer_norm_gains, product_bound
from sensitivity.network import space_time_norms
from tests.forecasters import build, draw_inputs, small

CONFIGS = {
    "attention": small(),
    "deep": small(layers=3),
    "time then space": small(stack="time-then-space"),
    "no residual": small(TemporalConfig(heads=3, residual=False)),
    "mask": small(TemporalConfig(heads=3, regularizer="mask")),
    "penalty": small(TemporalConfig(heads=3, regularizer="penalty", penalty=-2.0)),
    "diagonal graph": small(graph=GraphConfig(kind="diagonal", embedding=2)),
    "road": small(graph=GraphConfig(kind="road")),
    "convolution": small(TemporalConfig(kind="convolution", taps=3)),
    "plain convolution": small(
        TemporalConfig(kind="convolution", residual=False),
        GraphConfig(kind="diagonal", embedding=2),
        stack="time-then-space",
    ),
    "long taps": small(
        TemporalConfig(kind="convolution", taps=7), GraphConfig(kind="road", hops=1)
    ),
    "time of week": small(time_of_week=True),
}


def measured(config, seed, scale):
    """Exact norms and the bounds, for one window of a random model."""
    with jax.enable_x64(True):
        model, inputs = build(config, seed, scale=scale), draw_inputs(config, 1, seed)
        speeds, clock = inputs.speeds[0], inputs.time_of_day[0]
        average = None if inputs.average is None else inputs.average[0]

        def forecast(x):
            given = None if average is None else jnp.asarray(average)[None]
            return model(x[None, ..., 0], jnp.asarray(clock)[None], given)[0][..., None]

        exact = space_time_norms(forecast, speeds[..., None], norm="spectral")
        bounds = forecaster_bounds(model, speeds, clock, average, graph_gains(model))
    return exact, {name: table_of(bound) for name, bound in bounds.items()}


QUICK = ("convolution",)
ROLLED = ("attention", "time then space", "no residual", "diagonal graph", "road")
MESSAGES = ("message passing", "message passing by entry")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
        for name in CONFIGS
    ],
)
@pytest.mark.parametrize(("seed", "scale"), [(0, 0.5), (1, 0.1)])
def test_no_bound_is_below_the_exact_norm_nor_below_a_finer_one(name, seed, scale):
    exact, bounds = measured(CONFIGS[name], seed, scale)
    convolution = CONFIGS[name].temporal.kind == "convolution"
    graph = "graph and taps" if convolution else "graph"
    names = ["gain product", "factorised", graph, *MESSAGES]
    assert list(bounds) == names + (
        [] if convolution else ["frozen attention", "rollout"]
    )
    valid = [bound for name, bound in bounds.items() if BOUNDS[name].is_bound]
    for fine, coarse in zip([exact, *valid], valid, strict=False):
        assert fine.shape == coarse.shape
        assert (fine <= coarse * (1 + 1e-9) + 1e-12).all()
    assert exact.max() > 0


@pytest.mark.slow
def test_frozen_attention_is_no_bound():
    """Sharp attention moves more by its scores than by its values."""
    exact, bounds = measured(small(layers=1), seed=0, scale=2.0)
    above = exact > 1.5 * bounds["frozen attention"]
    assert (above & (exact > 1e-3 * exact.max())).any()
    for name in ("gain product", "factorised", "graph", *MESSAGES):
        assert (exact <= bounds[name] * (1 + 1e-9)).all()


@pytest.mark.parametrize(
    "name",
    [
        *("deep", "mask"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ROLLED),
    ],
)
def test_the_rollout_is_a_sum_over_the_ways_through_all_layers(name):
    """Step by step, with weights by a plain softmax and reaches by plain powers."""
    config = CONFIGS[name]
    with jax.enable_x64(True):
        model, inputs = build(config, 0, scale=0.5), draw_inputs(config, 1, 0)
        speeds, clock = inputs.speeds[0], inputs.time_of_day[0]
        bounds = forecaster_bounds(model, speeds, clock, None, graph_gains(model))
        seen = [
            np.asarray(x[:, 0])
            for x in model.temporal_inputs(speeds[None], clock[None])
        ]
    T, N = config.window, config.nodes
    ways = np.zeros((T, N, T, N))
    for t in range(T):
        for n in range(N):
            ways[t, n, t, n] = 1
    for layer in model.layers():
        mix, moved = layer.mix, np.zeros_like(ways)
        if layer in [*model.spatial]:
            reach = np.eye(N)
            for step in np.asarray(mix.adjacencies()):
                step = (
                    np.diag(np.diag(step)) if config.graph.kind == "diagonal" else step
                )
                reach = reach + step + step @ step
            for t in range(T):
                for n in range(N):
                    for m in range(N):
                        moved[t, n] += reach[n, m] * ways[t, m]
        else:
            x = seen.pop(0)
            for n in range(N):
                alpha = plain_attention(mix, x[n])
                for t in range(T):
                    for s in range(T):
                        weight = alpha[t, s] + (layer.residual and s == t)
                        moved[t, n] += weight * ways[s, n]
        ways = moved
    last = np.abs(np.asarray(model.ahead.kernel[...]))
    expected = np.zeros((config.horizon, N, T, N))
    for h in range(config.horizon):
        for t in range(T):
            expected[h] += last[t, h] * ways[t]
    np.testing.assert_allclose(bounds["rollout"], expected, rtol=1e-10)


def plain_attention(mix, x):
    """Mean over heads of the softmax of the scores."""
    weights, bias = mix.weights(), mix.score_bias()
    added = np.diag(np.full(len(x), float(np.asarray(bias.diagonal))))
    found = np.zeros((len(x), len(x)))
    for head in range(weights.heads):
        q = x @ np.asarray(weights.query[:, head]) + np.asarray(
            weights.query_bias[head]
        )
        k = x @ np.asarray(weights.key[:, head]) + np.asarray(weights.key_bias[head])
        scores = np.exp(q @ k.T / q.shape[1] ** 0.5 + np.nan_to_num(added, neginf=-1e9))
        found += scores / scores.sum(1, keepdims=True) / weights.heads
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["diagonal graph", "plain convolution"])
def test_the_diagonal_graph_lets_nothing_through_between_nodes(name):
    exact, bounds = measured(CONFIGS[name], 0, 0.5)
    others = ~np.eye(4, dtype=bool)
    for norms in (exact, *bounds.values()):
        assert (norms.transpose(1, 3, 0, 2)[others] == 0).all()


@pytest.mark.slow
def test_frozen_gains_leave_convolutions_as_they_are():
    config = CONFIGS["convolution"]
    with jax.enable_x64(True):
        model, inputs = build(config, 0), draw_inputs(config, 1, 0)
        window = inputs.speeds[0], inputs.time_of_day[0], None, graph_gains(model)
        moving, frozen = (
            product_bound(forecaster_gains(model, *window, frozen=frozen), 5, 4)
            for frozen in (False, True)
        )
    np.testing.assert_array_equal(moving, frozen)


def test_gains_of_a_layer_norm_are_those_of_its_jacobian():
    rng = np.random.default_rng(0)
    x, scale = rng.normal(size=(4, 7)), rng.normal(size=7)

    def norm(x):
        return scale * (x - x.mean()) / jnp.sqrt(x.var() + 1e-5)

    with jax.enable_x64(True):
        jacobians = jax.vmap(jax.jacobian(norm))(jnp.asarray(x))
    expected = np.linalg.norm(np.asarray(jacobians), 2, axis=(1, 2))
    np.testing.assert_allclose(layer_norm_gains(x, scale, 1e-5), expected, rtol=1e-10)
