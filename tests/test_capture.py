"""What is captured of a model's attention layers is what they were given."""

import jax
import numpy as np
import pytest
from flax import nnx

from sensitivity import attend, check_bounds
from sensitivity.capture import capture_attention

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
        again = attend(seen.x, seen.x, seen.x, seen.weights, seen.score_bias)
        np.testing.assert_allclose(again, seen.output, atol=1e-5)
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
        (lambda model, x: nnx.jit(model)(x), "under jit"),
        (lambda model, x: model.blocks[0](x, memory=x[:, :3]), "cross-attention"),
        (lambda model, x: model(x, deterministic=False), "its dropout is on"),
        (lambda model, x: model(x, mask=np.tri(T, k=-1)), "row i=0 nothing to attend"),
        (lambda model, x: jax.vmap(model)(x), "another transformation"),
    ],
)
def test_what_cannot_be_analysed_is_named_with_its_reason(batch, call, reason):
    model = Stack(dropout_rate=0.5, deterministic=True)
    with capture_attention(model) as capture:
        call(model, batch)
    assert not capture.layers
    assert reason in capture.refused["blocks.0.attention"]


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
