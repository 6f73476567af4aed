"""Attention layers of every make and use are captured as they computed, or refused."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sensitivity import attend, profile
from sensitivity.capture import capture_attention

D, T, B = 8, 6, 3
CALL = nnx.MultiHeadAttention.__call__


@pytest.fixture
def batch():
    return np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32)


def layer(kind=nnx.MultiHeadAttention, **options: Any) -> Any:
    """A layer by itself, with biases that are not zero."""
    normal = nnx.initializers.normal(1.0)
    arguments: dict[str, Any] = {"num_heads": 4, "in_features": D, "decode": False}
    arguments |= {"bias_init": normal, "out_bias_init": normal, "rngs": nnx.Rngs(0)}
    return kind(**(arguments | options))


def assert_same_output(seen):
    """Assert that a layer's output follows from what was captured of it."""
    again = attend(seen.x, seen.x, seen.x, seen.weights, seen.score_bias)
    expected = seen.output.astype(np.float64)
    half = seen.output.dtype.itemsize == 2
    atol = np.abs(expected).max() * (1e-2 if half else 1e-5)
    np.testing.assert_allclose(np.asarray(again, np.float64), expected, atol=atol)


@pytest.mark.parametrize(
    "options",
    [
        {"num_kv_heads": 2},
        {"num_kv_heads": 1},
        {"out_features": 3},
        {"qkv_features": 16},
        {"out_kernel_init": nnx.initializers.zeros, "use_bias": False},
        {"dropout_rate": 0.5, "deterministic": True},
        {"dtype": jnp.bfloat16},
        {"dtype": jnp.bfloat16, "param_dtype": jnp.bfloat16},
        {"dtype": jnp.float16},
    ],
)
def test_layers_of_every_make_give_their_output_again(batch, options):
    model = layer(**options)
    with capture_attention(model) as capture:
        output = model(batch)
    (seen,) = capture.layers
    assert seen.name == ""  # the model is the layer
    assert seen.output.dtype == seen.x.dtype == output.dtype
    assert_same_output(seen)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_sharp_attention_in_half_precision_is_recorded_as_it_is_rounded(dtype):
    x = np.random.default_rng(0).normal(size=(2, 100, D)).astype(np.float32)
    model = layer(dtype=dtype)
    with capture_attention(model) as capture:
        model(50 * x)
    seen = capture.layers[0]
    assert_same_output(seen)
    assert np.isfinite(profile(seen.x, seen.weights).diagonal_norm).all()


@pytest.mark.parametrize("axes", [(), (2,), (2, 3)])
@pytest.mark.parametrize("heads", [1, 4])
def test_any_batch_axes_and_masks_that_broadcast(axes, heads):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(*axes, T, D)).astype(np.float32)
    mask = rng.random((*axes, heads, T, T)) < 0.5
    mask |= np.eye(T, dtype=bool)
    model = layer(num_kv_heads=2)
    with capture_attention(model) as capture:
        model(x, mask=mask)
    assert not capture.refused
    assert_same_output(capture.layers[0])


class Shared(nnx.Module):
    """One layer under two names, and another in a dictionary in a list."""

    def __init__(self):
        self.first = layer()
        self.again = self.first
        self.rest = nnx.List([nnx.Dict(last=layer(rngs=nnx.Rngs(1)))])

    def __call__(self, x):
        """The first layer twice, then the last."""
        return self.rest[0]["last"](self.again(self.first(x)))


def test_a_shared_layer_is_recorded_at_each_of_its_calls(batch):
    model = Shared()
    with capture_attention(model) as capture:
        model(batch)
    again, first, last = capture.layers[1], capture.layers[0], capture.layers[2]
    assert first.name == again.name in ("first", "again")
    assert last.name == "rest.0.last"
    np.testing.assert_array_equal(again.x, first.output)
    np.testing.assert_array_equal(last.x, again.output)
    assert not capture.refused


class Shifted(nnx.MultiHeadAttention):
    """A subclass around the layer's own call."""

    def __call__(self, inputs_q, *others, **options):
        """Attention to something else than the input."""
        return 2 * super().__call__(inputs_q + 1, *others, **options)


class OfItsOwn(nnx.MultiHeadAttention):
    """A subclass that does something else."""

    def __call__(self, inputs_q, *others, **options):
        """No attention at all."""
        return inputs_q


def test_of_a_subclass_the_inner_call_is_recorded(batch):
    model = layer(Shifted)
    with capture_attention(model) as capture:
        output = model(batch)
    (seen,) = capture.layers
    np.testing.assert_array_equal(seen.x, batch + 1)
    np.testing.assert_array_equal(2 * seen.output, output)


def test_a_subclass_with_a_call_of_its_own_is_named(batch):
    model = nnx.Sequential(layer(OfItsOwn), layer())
    with capture_attention(model) as capture:
        model(batch)
    assert [one.name for one in capture.layers] == ["layers.1"]
    assert "a subclass has a call of its own" in capture.refused["layers.0"]


def test_no_step_of_a_decoder_is_recorded_not_even_the_first(batch):
    model = layer(decode=True)
    model.init_cache(batch.shape)
    with capture_attention(model) as capture:
        model(batch[:, :1])
    assert not capture.layers
    assert "decodes step by step" in capture.refused[""]


def test_blocks_of_two_models_are_nested(batch):
    one, two = layer(), nnx.Sequential(layer(), layer())
    with capture_attention(one) as outer:
        with capture_attention(two) as inner:
            two(batch)
            one(batch)
        one(batch)
    assert nnx.MultiHeadAttention.__call__ is CALL
    assert [seen.name for seen in outer.layers] == ["", ""]
    assert len(inner.layers) == 2


def test_what_is_recorded_outlives_the_users_buffer(batch):
    model, kept = layer(), batch.copy()
    with capture_attention(model) as capture:
        model(batch)
    batch[:] = 0
    np.testing.assert_array_equal(capture.layers[0].x, kept)
