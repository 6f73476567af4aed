"""The regularizers do to the diagonal of the scores what they say, and when."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from models.config import Regularizer, TemporalConfig
from tests import models_reference
from tests.forecasters import build, draw_inputs, evaluate, parameters, run, small

N, B, T, D, H = 4, 2, 5, 6, 3
X = np.random.default_rng(0).normal(size=(N, B, T, D))
STEPS = np.arange(T)


def attention_layer(regularizer: Regularizer, **changes):
    """An attention layer with random parameters, without dropout of units."""
    temporal = TemporalConfig(heads=H, regularizer=regularizer, **changes)
    return build(small(temporal)).temporal[0].mix


def keys(count: int) -> jax.Array:
    """Keys of training steps."""
    return jax.random.split(jax.random.key(0), count)


def masks(mix, count: int) -> np.ndarray:
    """Which steps are masked in some training steps, shape (count, T)."""
    biases = jax.vmap(lambda key: mix.score_bias(key).array)(keys(count))
    assert biases.shape == (count, T, T)
    assert not np.asarray(biases)[:, ~np.eye(T, dtype=bool)].any()
    return np.asarray(biases)[:, STEPS, STEPS] == -np.inf


def expected_output(mix, diagonal) -> np.ndarray:
    """What the plain loops attend to with this added to the diagonal."""
    p = parameters(mix)
    rows = [[models_reference.attention(row, p, diagonal) for row in b] for b in X]
    return np.array(rows)


# --- mask and penalty: the same in training and evaluation --------------------------


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("regularizer", "diagonal"), [("none", 0.0), ("mask", -np.inf), ("penalty", -0.7)]
)
def test_mask_and_penalty_act_in_training_and_evaluation(
    regularizer, diagonal, training
):
    mix = attention_layer(regularizer, penalty=-0.7)
    key = jax.random.key(0) if training else None
    actual = run(mix, "__call__", X, key=key)
    np.testing.assert_allclose(actual, expected_output(mix, diagonal), atol=1e-12)


def test_the_mask_leaves_nothing_of_the_diagonal():
    weights = np.asarray(run(attention_layer("mask"), "attention", X))
    assert not weights[..., STEPS, STEPS].any()  # exactly zero, no tolerance
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-12)


def test_a_penalty_keeps_its_size_beside_scores_in_bfloat16():
    odds = {}
    for regularizer in ("none", "penalty"):
        temporal = TemporalConfig(heads=H, regularizer=regularizer, penalty=-0.1)
        mix = build(small(temporal, precision="bfloat16")).temporal[0].mix
        with jax.enable_x64(False):
            weights = mix.attention(jnp.asarray(X, jnp.float32))
        diagonal = np.asarray(weights, np.float64)[..., STEPS, STEPS]
        assert np.abs(np.asarray(weights).sum(-1) - 1).max() < 1e-6
        odds[regularizer] = diagonal / np.maximum(1 - diagonal, 1e-9)
    usual = (odds["none"] > 1e-3) & (odds["none"] < 1e3)
    assert usual.sum() > 50
    change = np.log(odds["penalty"][usual] / odds["none"][usual])
    np.testing.assert_allclose(change, -0.1, atol=1e-3)  # not rounded


@pytest.mark.parametrize("penalty", [-0.1, -3.0, 2.0])
def test_a_penalty_multiplies_the_odds_of_the_diagonal(penalty):
    layers = attention_layer("none"), attention_layer("penalty", penalty=penalty)
    before, after = (
        np.asarray(run(mix, "attention", X))[..., STEPS, STEPS] for mix in layers
    )
    factor = np.exp(penalty)  # added after the scaling by 1 / sqrt(K)
    expected = before * factor / (1 - before + before * factor)
    np.testing.assert_allclose(after, expected, rtol=1e-12)


# --- dropout of the diagonal --------------------------------------------------------


def test_dropout_of_the_diagonal_does_nothing_in_evaluation():
    dropped, plain = attention_layer("dropout"), attention_layer("none")
    assert dropped.score_bias().is_nothing
    for method in ("__call__", "attention"):
        np.testing.assert_array_equal(run(dropped, method, X), run(plain, method, X))


def test_one_draw_masks_the_diagonal_for_all_nodes_samples_and_heads():
    mix = attention_layer("dropout", diagonal_dropout=0.5)
    drawn = set()
    for key in keys(4):
        bias_key = jax.random.split(key)[0]
        masked = np.diag(np.asarray(mix.score_bias(bias_key).array)) == -np.inf
        # The same for every node, sample and head: one diagonal explains them all.
        expected = expected_output(mix, np.where(masked, -np.inf, 0.0))
        actual = run(mix, "__call__", X, key=key)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)
        drawn.add(tuple(masked))
    assert len(drawn) > 1


def test_rows_renormalise_where_the_diagonal_is_dropped():
    mix = attention_layer("dropout", diagonal_dropout=0.5)
    # Values of 1 everywhere: an output is the sum of its row's weights.
    mix.value[...], mix.value_bias[...] = jnp.zeros((D, H, 2)), jnp.ones((H, 2))
    expected = mix.out[...].sum((0, 1)) + mix.out_bias[...]
    for key in keys(4):
        actual = run(mix, "__call__", X, key=key)
        np.testing.assert_allclose(
            actual, np.broadcast_to(expected, X.shape), atol=1e-12
        )


@pytest.mark.parametrize("chance", [0.0, 0.2, 0.5])
def test_each_step_of_the_diagonal_is_dropped_with_its_chance(chance):
    drawn = masks(attention_layer("dropout", diagonal_dropout=chance), 4096)
    error = 5 * (chance * (1 - chance) / 4096) ** 0.5
    assert (np.abs(drawn.mean(0) - chance) <= error).all()
    both = (drawn[:, :-1] & drawn[:, 1:]).mean(0)  # neighbours are independent
    assert (np.abs(both - chance**2) <= 5 * chance / 64).all()


def test_layers_draw_apart_and_all_else_shares_the_draw():
    # Two steps and two layers have 4 x 4 masks: each forecast must be one of 16.
    temporal = TemporalConfig(heads=H, regularizer="dropout", diagonal_dropout=0.5)
    config = small(temporal, window=2, layers=2)
    model, inputs = build(config), draw_inputs(config)
    p = parameters(model)
    draws = [np.where(m, -np.inf, 0.0) for m in itertools.product([0, 1], repeat=2)]
    expected = [
        models_reference.forecaster(config, p, speeds, clock, diagonals=pair)
        for pair in itertools.product(draws, repeat=2)
        for speeds, clock in zip(*inputs[:2], strict=True)
    ]
    expected = np.reshape(expected, (16, 1, B, 3, N))
    forecasts = run(model, "__call__", *inputs, keys=keys(480))
    far = np.abs(np.asarray(forecasts) - expected).max((2, 3, 4))  # (16, 480)
    assert (far.min(0) < 1e-12).all()
    count = np.bincount(far.argmin(0), minlength=16)
    assert (np.sort(far, 0)[1] > 1e-4).all()  # no two of the 16 are alike
    assert 1e-4 < stats.chisquare(count).pvalue < 1 - 1e-4


# --- dropout of units ---------------------------------------------------------------


@pytest.mark.parametrize("regularizer", ["none", "mask", "penalty"])
def test_without_dropout_training_is_evaluation(regularizer):
    config = small(TemporalConfig(heads=H, regularizer=regularizer))
    model, inputs = build(config), draw_inputs(config)
    training = evaluate(model, inputs, jax.random.key(0))
    np.testing.assert_allclose(training, evaluate(model, inputs), atol=1e-12)


def test_dropout_of_attention_weights_keeps_their_mean():
    config = small(TemporalConfig(heads=H), dropout=0.3)
    mix = build(config).temporal[0].mix
    outputs = np.asarray(run(mix, "__call__", X, keys=keys(2000)))
    error = outputs.std(0) / 2000**0.5
    evaluation = np.asarray(run(mix, "__call__", X))
    assert (error > 0).all()  # dropped for every node, sample, step
    assert (np.abs(outputs.mean(0) - evaluation) < 5.5 * error).all()


@pytest.mark.parametrize(("kind", "drops"), [("temporal", 1), ("spatial", 2)])
def test_units_are_dropped_as_often_as_in_the_reference(kind, drops):
    """The graph drops its own output, and then again with the clock added."""
    p, config = 0.25, small(TemporalConfig(kind="convolution"), dropout=0.25)
    layer = getattr(build(config), kind)[0]
    # The layer makes 1 of anything, the clock adds 2, nothing is normalised.
    layer.mix.mix.kernel[...] *= 0
    layer.mix.mix.bias[...] = jnp.ones(D)
    layer.clock.kernel[...] *= 0
    layer.clock.bias[...] = jnp.full(D, 2.0)
    layer.norm = lambda x: x
    x = jnp.zeros((N, 50, T, D))
    y = np.asarray(layer(x, jnp.ones((N, 50, T, 1)), jax.random.key(0)))
    once = 1 / (1 - p)
    if drops == 1:
        shares = {0.0: p, 3 * once: 1 - p}
    else:
        both, clock_only = once * (once + 2), once * 2
        shares = {0.0: p, clock_only: (1 - p) * p, both: (1 - p) ** 2}
    values, counts = np.unique(y.round(9), return_counts=True)
    np.testing.assert_allclose(values, sorted(shares), rtol=1e-6)
    expected = np.array([shares[level] for level in sorted(shares)])
    error = 5 * (expected * (1 - expected) / y.size) ** 0.5
    assert (np.abs(counts / y.size - expected) < error).all()


def test_the_encoded_inputs_are_dropped():
    config = small(dropout=0.25)
    model, inputs = build(config), draw_inputs(config, batch=50)
    lifted = np.asarray(run(model, "lifted", inputs.speeds, None))
    drawn = np.asarray(run(model, "lifted", inputs.speeds, None, key=keys(1)[0]))
    stays = drawn != 0
    np.testing.assert_allclose(drawn[stays], lifted[stays] / 0.75, rtol=1e-6)
    assert abs(stays.mean() - 0.75) < 5 * (0.75 * 0.25 / stays.size) ** 0.5


def test_training_draws_anew_with_every_key_and_not_without():
    config = small(dropout=0.1)
    model, inputs = build(config), draw_inputs(config)
    one, two = keys(2)
    first, again, other = (evaluate(model, inputs, key) for key in (one, one, two))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()
