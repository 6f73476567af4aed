"""Attention layers of every make are captured as they computed, or refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sensitivity import LayerInput, ScoreBias, attend, check_bounds, profile
from sensitivity.capture import CapturedLayer, capture_attention

D, T, B = 8, 6, 3
CALL = nnx.MultiHeadAttention.__call__


class Block(nnx.Module):
    """Attention after a norm, with a residual; other attention if asked for."""

    def __init__(self, rngs, **options):
        self.norm = nnx.LayerNorm(D, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            num_heads=2, in_features=D, decode=False, rngs=rngs, **options
        )

    def __call__(self, x, memory=None, **options):
        """Attend, to another input if there is one."""
        seen = self.norm(x)
        other = () if memory is None else (memory,)
        return x + self.attention(seen, *other, **options)


class Stack(nnx.Module):
    """Two blocks."""

    def __init__(self, **options):
        rngs = nnx.Rngs(0)
        self.blocks = nnx.List([Block(rngs, **options) for _ in range(2)])

    def __call__(self, x, **options):
        """All blocks in turn."""
        for block in self.blocks:
            x = block(x, **options)
        return x


@pytest.fixture
def batch():
    return np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32)


MASK = np.tril(np.ones((T, T), bool), 1)


@pytest.mark.parametrize(
    "options", [{}, {"mask": MASK}, {"is_causal": True}, {"mask": MASK.astype(float)}]
)
def test_inputs_and_masks_give_the_outputs_again(batch, options):
    model = Stack()
    expected = model(batch, **options)
    with capture_attention(model) as capture:
        np.testing.assert_array_equal(model(batch, **options), expected)
    assert not capture.refused
    assert [one.name for one in capture.layers] == [
        "blocks.0.attention",
        "blocks.1.attention",
    ]
    x = batch
    for seen, block in zip(capture.layers, model.blocks, strict=True):
        np.testing.assert_array_equal(seen.x, block.norm(x))
        assert_same_output(seen)
        x = x + seen.output
    first = capture.layers[0]
    table = check_bounds(first.x, first.weights, score_bias=first.score_bias)
    holds = table.set_index("statement")
    assert holds.loc["query_covariance", "rows_holding"] == B * T * 2


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_the_call_is_restored_whatever_happens(error):
    seen = []

    def interrupted():
        with capture_attention(Stack()):
            seen.append(nnx.MultiHeadAttention.__call__)
            raise error

    with pytest.raises(error):
        interrupted()
    assert seen[0] is not CALL
    assert nnx.MultiHeadAttention.__call__ is CALL


def test_layers_of_other_models_are_left_alone(batch):
    model, other = Stack(), Stack()
    with capture_attention(model) as capture:
        other(batch)
        model.blocks[1](batch)
    assert [one.name for one in capture.layers] == ["blocks.1.attention"]
    assert list(capture.refused) == ["blocks.0.attention"]
    assert "no call of it was seen" in capture.refused["blocks.0.attention"]


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda model, x: model.blocks[0](x, memory=x[:, :3]), "cross-attention"),
        (lambda model, x: model(x, deterministic=False), "its dropout is on"),
    ],
)
def test_what_cannot_be_analysed_is_named_with_its_reason(batch, call, reason):
    model = Stack(dropout_rate=0.5, deterministic=True)
    with capture_attention(model) as capture:
        call(model, batch)
    assert not capture.layers
    assert reason in capture.refused["blocks.0.attention"]


@pytest.mark.parametrize(
    "wrap", [nnx.jit, jax.vmap, lambda model: jax.jit(model.__call__)]
)
def test_a_call_under_a_transformation_is_refused_and_says_so(batch, wrap):
    model = Stack()
    with (
        pytest.raises(ValueError, match="must be called outside jax.jit"),
        capture_attention(model) as capture,
    ):
        wrap(model)(batch)
    assert "under jit" in capture.refused["blocks.0.attention"]


@pytest.mark.parametrize("causal", [False, True])
def test_a_batch_of_unequal_lengths_is_judged_on_its_real_rows(batch, causal):
    lengths = np.linspace(2, T, B).astype(int)
    real = np.arange(T) < lengths[:, None]
    mask = nnx.make_attention_mask(real, real)
    model = Stack()
    with capture_attention(model) as capture:
        model(batch, mask=mask, is_causal=causal)
    assert not capture.refused
    padded = capture.layers[0]
    np.testing.assert_array_equal(padded.rows, real)
    assert_same_output(padded)  # of padding too
    options: Any = {"norm": "frobenius"}
    own = {"score_bias": padded.score_bias, "rows": padded.rows}
    table = check_bounds(padded.x, padded.weights, **own, **options)
    by_name = table.set_index("statement")
    assert by_name.loc["eq5", "rows"] == real.sum() * 2
    assert by_name.loc["eq8_diagonal_tight", "rows_holding"] == real.sum() * 2
    n = int(np.argmin(lengths))  # the shortest, by itself
    alone = check_bounds(
        padded.x[n, : lengths[n]],
        padded.weights,
        score_bias=ScoreBias(causal=causal),
        **options,
    )
    one = check_bounds(
        padded.x,
        padded.weights,
        score_bias=padded.score_bias,
        rows=padded.rows & (np.arange(B) == n)[:, None],
        **options,
    )
    # Means over j are divided by T, real and padded steps alike, on both sides.
    counts = ["statement", "rows", "rows_holding"]
    assert one[counts].to_numpy().tolist() == alone[counts].to_numpy().tolist()
    np.testing.assert_allclose(one.worst_ratio, alone.worst_ratio, rtol=1e-4)


def test_a_row_that_a_mask_leaves_nothing_is_no_real_row(batch):
    model = Stack()
    with capture_attention(model) as capture:
        model(batch, mask=np.tri(T, k=-1))
    rows = np.asarray(capture.layers[0].rows)
    assert [*rows[0]] == [False] + [True] * (T - 1)


def test_a_model_without_attention_or_without_a_call_is_refused(batch):
    linear = nnx.Linear(3, 3, rngs=nnx.Rngs(0))
    with (
        pytest.raises(ValueError, match="model must hold an nnx.MultiHeadAttention"),
        capture_attention(linear),
    ):
        pass
    with (
        pytest.raises(ValueError, match="must be called inside the block"),
        capture_attention(Stack()),
    ):
        pass


@nnx.jit
def compiled(model, x):
    return model(x)


def copied(model, x):
    return nnx.merge(*nnx.split(model))(x)


@pytest.mark.parametrize("call", [compiled, copied])
def test_the_call_of_a_copy_is_refused_with_the_reason(batch, call):
    model = Stack()
    with (
        pytest.raises(ValueError, match=r"not a copy \(nnx.jit,"),
        capture_attention(model),
    ):
        call(model, batch)
    assert nnx.MultiHeadAttention.__call__ is CALL


def layer(kind=nnx.MultiHeadAttention, **options: Any) -> Any:
    """A layer by itself, with biases that are not zero."""
    normal = nnx.initializers.normal(1.0)
    arguments: dict[str, Any] = {"num_heads": 4, "in_features": D, "decode": False}
    arguments |= {"bias_init": normal, "out_bias_init": normal, "rngs": nnx.Rngs(0)}
    return kind(**(arguments | options))


def assert_same_output(seen: Any):
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
    seen: Any = capture.layers[0]
    assert len(capture.layers) == 1
    assert type(seen) is LayerInput is CapturedLayer  # as it was called
    assert seen.name == ""  # the model is the layer
    assert seen.residual is (options.get("out_features", D) == D)
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
    seen: Any = capture.layers[0]
    assert len(capture.layers) == 1
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
    assert isinstance(capture.layers[0].x, np.ndarray)
