"""Products of layer gains bound what a whole forecaster does, exactly measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from analysis.forecaster_gains import forecaster_gains
from models.config import GraphConfig, TemporalConfig
from sensitivity.gains import layer_norm_gains, product_bound
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
    "time of week": small(time_of_week=True),
}


def measured(config, seed, scale):
    """Exact norms and the bound, for one window of a random model."""
    with jax.enable_x64(True):
        model, inputs = build(config, seed, scale=scale), draw_inputs(config, 1, seed)
        speeds, clock = inputs.speeds[0], inputs.time_of_day[0]
        average = None if inputs.average is None else inputs.average[0]

        def forecast(x):
            given = None if average is None else jnp.asarray(average)[None]
            return model(x[None, ..., 0], jnp.asarray(clock)[None], given)[0][..., None]

        exact = space_time_norms(forecast, speeds[..., None])
        gains = forecaster_gains(model, speeds, clock, average)
    return exact, product_bound(gains, config.window, config.nodes)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "attention" else pytest.mark.slow)
        for name in CONFIGS
    ],
)
@pytest.mark.parametrize(("seed", "scale"), [(0, 0.5), (1, 0.1)])
def test_the_product_of_gains_is_never_below_the_exact_norm(name, seed, scale):
    exact, bound = measured(CONFIGS[name], seed, scale)
    assert exact.shape == bound.shape
    assert (exact <= bound * (1 + 1e-9) + 1e-12).all()
    assert exact.max() > 0


@pytest.mark.slow
def test_the_diagonal_graph_lets_nothing_through_between_nodes():
    exact, bound = measured(CONFIGS["diagonal graph"], 0, 0.5)
    others = ~np.eye(4, dtype=bool)
    for norms in (exact, bound):
        assert (norms.transpose(1, 3, 0, 2)[others] == 0).all()


def test_gains_of_a_layer_norm_are_those_of_its_jacobian():
    rng = np.random.default_rng(0)
    x, scale = rng.normal(size=(4, 7)), rng.normal(size=7)

    def norm(x):
        return scale * (x - x.mean()) / jnp.sqrt(x.var() + 1e-5)

    with jax.enable_x64(True):
        jacobians = jax.vmap(jax.jacobian(norm))(jnp.asarray(x))
    expected = np.linalg.norm(np.asarray(jacobians), 2, axis=(1, 2))
    np.testing.assert_allclose(layer_norm_gains(x, scale, 1e-5), expected, rtol=1e-10)
