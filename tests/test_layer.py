"""Weights and biases are pytrees that refuse what cannot be one layer."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensitivity import AttentionWeights, ScoreBias
from sensitivity.attention import attend
from tests import reference
from tests.helpers import FOLDED, PAPER, make_layer

pytestmark = pytest.mark.usefixtures("strict_promotion")

KERNEL = np.ones((4, 2, 3))


def test_widths_are_read_off_the_arrays():
    _, w = make_layer(0, FOLDED)
    assert (w.model_width, w.heads, w.key_width, w.value_width) == (6, 3, 2, 3)
    assert (w.output_width, w.head_output_width) == (6, 6)
    side_by_side = dataclasses.replace(w, out=None, out_bias=None)
    assert (side_by_side.output_width, side_by_side.head_output_width) == (9, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query": np.ones((4, 6))}, r"query must have shape \(D, H, K\).*\(4, 6\)"),
        ({"value": np.ones((4, 2, 0))}, r"value must have shape \(D, H, K\)"),
        ({"key": np.ones((0, 2, 3))}, "key must have shape"),
        ({"key": np.ones((4, 2, 2))}, r"key must have shape \(4, 2, 3\)"),
        ({"key": np.ones((4, 1, 3))}, r"key must have shape \(4, 2, 3\)"),
        ({"value": np.ones((5, 2, 3))}, r"value must have shape \(4, 2, 3\)"),
        ({"value": np.ones((4, 1, 3))}, r"value must have shape \(4, 2, 3\)"),
        ({"out": np.ones((6, 4))}, r"out must have shape \(H=2, V=3, O\)"),
        ({"out": np.ones((2, 4, 4))}, r"out must have shape \(H=2, V=3, O\)"),
        ({"out": np.ones((3, 2, 4))}, r"out must have shape \(H=2, V=3, O\)"),
        ({"out": np.ones((2, 3, 0))}, r"out must have shape \(H=2, V=3, O\)"),
        ({"query_bias": np.ones(6)}, r"query_bias must have shape \(2, 3\)"),
        ({"key_bias": np.ones((3, 2))}, r"key_bias must have shape \(2, 3\)"),
        ({"value_bias": np.ones((2, 1))}, r"value_bias must have shape \(2, 3\)"),
        ({"out_bias": np.ones(4)}, "out_bias needs out, which is None"),
        (
            {"out": np.ones((2, 3, 4)), "out_bias": np.ones(3)},
            r"out_bias must have shape \(4,\)",
        ),
    ],
)
def test_arrays_that_are_no_layer_are_refused(changes, message):
    arrays: dict[str, Any] = {"query": KERNEL, "key": KERNEL, "value": KERNEL}
    with pytest.raises(ValueError, match=message):
        AttentionWeights(**(arrays | changes))


def test_weights_are_a_pytree_that_keeps_its_fields_in_place():
    _, w = make_layer(0, FOLDED)
    doubled = jax.tree.map(lambda a: 2 * a, w)
    assert isinstance(doubled, AttentionWeights)
    arrays = {name: array for name, array in vars(w).items() if name != "form"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(getattr(doubled, name), 2 * array)
    paths = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(w)]
    assert paths == [f".{name}" for name in arrays]


def test_what_is_none_has_no_leaf():
    _, w = make_layer(0, PAPER)
    assert len(jax.tree.leaves(w)) == 3
    assert jax.tree.map(np.asarray, w).out is None
    assert jax.tree.leaves(ScoreBias(causal=True)) == [0.0]


def test_rebuilding_a_pytree_checks_nothing():
    _, w = make_layer(0, FOLDED)
    structure = jax.tree.structure(w)
    placeholders = jax.tree.unflatten(structure, [None] * structure.num_leaves)
    assert placeholders.query is None
    assert placeholders.out_bias is None


def test_layers_can_be_stacked_and_mapped_over():
    x, first = make_layer(0, FOLDED)
    _, second = make_layer(1, FOLDED)
    stack = jax.tree.map(lambda *a: jnp.stack(a), first, second)
    outputs = jax.jit(jax.vmap(lambda w: attend(x, x, x, w)))(stack)
    bias = reference.score_bias(6, 3)
    for output, w in zip(outputs, (first, second), strict=True):
        expected = reference.attention(x, w, bias)
        np.testing.assert_allclose(output, expected, rtol=1e-12, atol=1e-13)


def test_a_layer_can_be_differentiated_by_its_weights():
    x, w = make_layer(0, FOLDED)
    gradient = jax.jit(jax.grad(lambda w: attend(x, x, x, w).sum()))(w)
    assert isinstance(gradient, AttentionWeights)
    np.testing.assert_allclose(gradient.out_bias, np.full(6, 6.0), rtol=1e-14)
    # A common offset of the keys moves no weight: the gauge of math.md section 4.
    np.testing.assert_allclose(gradient.key_bias, 0, atol=1e-13)


def test_causal_is_static_and_the_diagonal_is_not():
    flat, structure = jax.tree.flatten(ScoreBias(-0.1, causal=True))
    assert flat == [-0.1]
    assert structure != jax.tree.structure(ScoreBias(-0.1))
    assert structure == jax.tree.structure(ScoreBias(-np.inf, causal=True))


def test_weights_and_biases_are_frozen():
    _, w = make_layer(0, PAPER)
    for node, name in ((w, "query"), (ScoreBias(), "diagonal")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(node, name, 0.0)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_diagonal_that_is_no_bias_is_refused(number):
    with pytest.raises(
        ValueError, match=f"diagonal must be finite or -inf, got {number}"
    ):
        ScoreBias(diagonal=number)


@pytest.mark.parametrize("causal", [1, None, "yes", np.array(True)])
def test_a_causal_that_is_no_bool_is_refused(causal):
    with pytest.raises(ValueError, match="causal must be True or False"):
        ScoreBias(causal=causal)


def test_a_bias_can_be_built_from_a_traced_diagonal():
    x, w = make_layer(0, PAPER)
    output = jax.jit(lambda d: attend(x, x, x, w, ScoreBias(diagonal=d)))
    for diagonal in (-0.1, -np.inf):
        expected = reference.attention(x, w, reference.score_bias(5, 1, diagonal))
        np.testing.assert_allclose(output(diagonal), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("diagonal", [0.0, -0.1, -np.inf])
@pytest.mark.parametrize(
    "axes", [None, (), (5,), (5, 1), (1, 5), (5, 5), (1, 5, 5), (3, 1, 5), (2, 3, 5, 5)]
)
def test_the_bias_of_rows_is_the_oracles(axes, diagonal, causal):
    rng = np.random.default_rng(0)
    array = None if axes is None else np.asarray(rng.normal(size=axes))
    if array is not None and array.shape[-2:] == (5, 5):
        array[rng.random(array.shape) < 0.3] = -np.inf
    rows = np.array([3, 0, 4])
    score_bias = ScoreBias(diagonal, causal, array)
    bias, allowed = score_bias.rows(jnp.asarray(rows), 5, np.float64)
    actual = np.where(allowed, bias, -np.inf)
    for place in np.ndindex(2) if axes and len(axes) == 4 else [()]:
        one = array if array is None else array[place]
        expected = reference.score_bias(5, 3, diagonal, causal, one)[:, rows]
        own = np.broadcast_to(actual[place], expected.shape)
        np.testing.assert_array_equal(own, expected)
    assert np.isfinite(bias).all()
