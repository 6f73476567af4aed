"""Layers of Flax and PyTorch give their own numbers, or are refused by name."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sensitivity import AttentionWeights, ScoreBias, path_jacobians, path_norms
from sensitivity.arguments import ArgumentError
from sensitivity.attention import attend
from tests import reference
from tests.helpers import assert_close

pytestmark = pytest.mark.usefixtures("strict_promotion")

X = np.random.default_rng(0).normal(size=(5, 8))


def flax_layer(**options: Any) -> nnx.MultiHeadAttention:
    """A layer of width 8 with biases that are not all zero."""
    arguments: dict[str, Any] = {
        "num_heads": 4,
        "in_features": 8,
        "decode": False,
        "param_dtype": jnp.float64,
        "bias_init": nnx.initializers.normal(1.0),
        "out_bias_init": nnx.initializers.normal(1.0),
        "rngs": nnx.Rngs(0),
    }
    return nnx.MultiHeadAttention(**(arguments | options))


def torch_state(rng, width=8, bias=True, separate=False) -> dict[str, np.ndarray]:
    """A state dict as ``torch.nn.MultiheadAttention`` would write it."""
    kernels = rng.normal(size=(3, width, width))
    state = {"out_proj.weight": rng.normal(size=(width, width))}
    if separate:
        names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
        state |= dict(zip(names, kernels, strict=True))
    else:
        state["in_proj_weight"] = kernels.reshape(3 * width, width)
    if bias:
        state["in_proj_bias"] = rng.normal(size=3 * width)
        state["out_proj.bias"] = rng.normal(size=width)
    return state


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_kv_heads": 2},
        {"num_kv_heads": 1},
        {"use_bias": False},
        {"qkv_features": 16},
        {"out_features": 3},
    ],
)
def test_a_flax_layer_keeps_its_output(options):
    layer = flax_layer(**options)
    weights = AttentionWeights.from_flax(layer)
    output = attend(X, X, X, weights)
    # Flax takes its softmax in float32, whatever the inputs.
    assert_close(output, flax_output(layer, X), 1e-5, 1e-5)
    oracle = reference.attention(X, weights, reference.score_bias(5, 4))
    assert_close(output, oracle, 1e-12, 1e-13)


def flax_output(layer, x):
    """Flax itself mixes ranks and dtypes: its own call is let off the strict rules."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return layer(jnp.asarray(x), deterministic=True)


def test_grouped_heads_are_repeated_beside_each_other():
    weights = AttentionWeights.from_flax(flax_layer(num_kv_heads=2))
    assert weights.key.shape == (8, 4, 2)
    for array in (weights.key, weights.value):
        np.testing.assert_array_equal(array[:, 0], array[:, 1])
        np.testing.assert_array_equal(array[:, 2], array[:, 3])
        assert (array[:, 1] != array[:, 2]).all()
    np.testing.assert_array_equal(weights.key_bias[0], weights.key_bias[1])
    assert (weights.query[:, 0] != weights.query[:, 1]).all()


def test_a_flax_layer_without_biases_has_none():
    weights = AttentionWeights.from_flax(flax_layer(use_bias=False))
    for name in ("query_bias", "key_bias", "value_bias", "out_bias"):
        assert getattr(weights, name) is None


def attention_of_ones_own(*arguments, **options):
    """Stands for any attention that is not the plain one."""
    return nnx.dot_product_attention(*arguments, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalize_qk": True}, "normalize_qk must be False"),
        ({"attention_fn": attention_of_ones_own}, "attention_fn must be"),
        ({"in_kv_features": 6}, r"in_kv_features \(6\) must equal in_features \(8\)"),
    ],
)
def test_a_flax_layer_that_computes_something_else_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AttentionWeights.from_flax(flax_layer(**options))


def test_a_flax_layer_with_projections_of_its_own_is_refused():
    layer: Any = flax_layer()
    layer.key = nnx.Sequential(layer.key)
    with pytest.raises(ValueError, match="key must be an nnx.LinearGeneral, got a Seq"):
        AttentionWeights.from_flax(layer)


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_torch_state_is_read_by_its_definition(bias, separate):
    state = torch_state(np.random.default_rng(1), bias=bias, separate=separate)
    weights = AttentionWeights.from_torch(state, num_heads=2)
    kernels = (
        [state[f"{s}_proj_weight"] for s in "qkv"]
        if separate
        else np.split(state["in_proj_weight"], 3)
    )
    offsets = np.split(state["in_proj_bias"], 3) if bias else [np.zeros(8)] * 3
    q, k, v = (X @ W.T + b for W, b in zip(kernels, offsets, strict=True))
    heads = []
    for own in (slice(0, 4), slice(4, 8)):
        scores = np.exp(q[:, own] @ k[:, own].T / 2)
        heads.append(scores / scores.sum(1, keepdims=True) @ v[:, own])
    expected = np.concatenate(heads, 1) @ state["out_proj.weight"].T
    expected += state["out_proj.bias"] if bias else 0
    assert_close(attend(X, X, X, weights), expected, 1e-12, 1e-13)
    assert (weights.query_bias is None) == (not bias)
    assert isinstance(weights.query, np.ndarray)


@pytest.mark.parametrize("prefix", ["encoder.layers.0.self_attn", "encoder.attn."])
def test_a_prefix_picks_a_layer_out_of_a_model(prefix):
    state = torch_state(np.random.default_rng(1))
    dot = prefix if prefix.endswith(".") else prefix + "."
    model = {dot + name: array for name, array in state.items()}
    model |= torch_state(np.random.default_rng(2))
    inner = AttentionWeights.from_torch(model, num_heads=2, prefix=prefix)
    outer = AttentionWeights.from_torch(state, num_heads=2)
    np.testing.assert_array_equal(inner.query, outer.query)
    np.testing.assert_array_equal(inner.out_bias, outer.out_bias)


def test_a_torch_state_is_read_from_a_file_with_other_arrays(tmp_path):
    state: dict[str, Any] = torch_state(np.random.default_rng(1))
    np.savez(tmp_path / "layer.npz", x=X, **state)
    with np.load(tmp_path / "layer.npz") as saved:
        weights = AttentionWeights.from_torch(saved, num_heads=2)
    expected = AttentionWeights.from_torch(state, num_heads=2)
    jax.tree.map(np.testing.assert_array_equal, weights, expected)


@pytest.mark.parametrize("heads", [0, -2, 3, 16, True, 2.0, "2", None])
def test_heads_that_do_not_divide_the_width_are_refused(heads):
    state = torch_state(np.random.default_rng(1))
    rule = rf"num_heads \({heads}\) must be an integer .* \(8\)"
    with pytest.raises(ArgumentError, match=rule):
        AttentionWeights.from_torch(state, num_heads=heads)
    numpys: Any = np.int64(2)
    assert AttentionWeights.from_torch(state, num_heads=numpys).heads == 2


ONE, APART = {}, {"separate": True}


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (ONE, {"bias_k": (1, 1, 8)}, r"bias_k must be absent"),
        (ONE, {"bias_v": (1, 1, 8)}, r"bias_v must be absent"),
        (APART, {"k_proj_weight": (8, 5)}, r"shape \(D, D\): .*\(8, 5\)"),
        (ONE, {"in_proj_weight": (24,)}, r"\(3 D, D\), got \(24,\)"),
        (ONE, {"in_proj_weight": (16, 8)}, r"\(3 D, D\), got \(16, 8\)"),
        (ONE, {"in_proj_weight": (24, 7)}, r"\(3 D, D\), got \(24, 7\)"),
        (ONE, {"out_proj.weight": (8, 9)}, "out_proj.weight must have shape"),
        (ONE, {"out_proj.weight": (8,)}, "out_proj.weight must have shape"),
        (ONE, {"in_proj_bias": (23,)}, "in_proj_bias must have shape"),
        (ONE, {"out_proj.bias": (3,)}, "out_proj.bias must have shape"),
        (ONE, {"out_proj.weight": None}, "must hold '{}out_proj.weight'"),
        (ONE, {"in_proj_weight": None}, "must hold '{}q_proj_weight'"),
        (APART, {"v_proj_weight": None}, "must hold '{}v_proj_weight'"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "attn."])
def test_a_torch_state_that_is_no_self_attention_is_refused(
    prefix, kind, changes, message
):
    state: dict[str, Any] = torch_state(np.random.default_rng(1), **kind)
    for name, shape in changes.items():
        state[name] = None if shape is None else np.zeros(shape)
    state = {prefix + name: a for name, a in state.items() if a is not None}
    with pytest.raises(ValueError, match=message.format(prefix)):
        AttentionWeights.from_torch(state, num_heads=2, prefix=prefix)


def test_another_module_is_refused_by_its_name():
    linear: Any = nnx.Linear(4, 4, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"MultiHeadAttention, got Linear"):
        AttentionWeights.from_flax(linear)


# PyTorch's own layer, where it is installed.

T, D, H = 5, 8, 2


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def torch_layer(torch: Any, **options: Any) -> Any:
    """A layer in float64 with biases that are not zero."""
    arguments = {"batch_first": True, "dtype": torch.float64}
    torch.manual_seed(0)
    layer = torch.nn.MultiheadAttention(D, H, **(arguments | options)).eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


@pytest.mark.parametrize("bias", [False, True])
def test_torchs_own_layer_keeps_its_output_and_its_jacobian(torch, bias):
    layer = torch_layer(torch, bias=bias)
    weights = AttentionWeights.from_torch(layer.state_dict(), num_heads=H)

    def output(x):
        return layer(x[None], x[None], x[None], need_weights=True)[0][0]

    x = torch.tensor(X)
    assert_close(attend(X, X, X, weights), output(x).detach().numpy(), 1e-12, 1e-12)
    jacobian = torch.autograd.functional.jacobian(output, x).numpy()  # (T, O, T, D)
    total = path_jacobians(X, weights).total
    assert_close(total, jacobian.swapaxes(1, 2), 1e-12, 1e-11)


@pytest.mark.parametrize("ord", [2, "fro"])
@pytest.mark.parametrize("masked", [False, True])
def test_path_norms_are_those_of_torchs_autograd(torch, ord, masked):
    layer = torch_layer(torch)
    forbids = np.triu(np.ones((T, T), bool), 1)  # PyTorch's: True forbids
    mask = torch.tensor(forbids) if masked else None

    def output(q, k, v):
        return layer(q[None], k[None], v[None], attn_mask=mask)[0][0]

    by_input = torch.autograd.functional.jacobian(output, (torch.tensor(X),) * 3)
    query, key, value = (path.numpy().swapaxes(1, 2) for path in by_input)
    norms = path_norms(
        X,
        AttentionWeights.from_torch(layer.state_dict(), num_heads=H),
        score_bias=ScoreBias(array=np.where(forbids, -np.inf, 0)) if masked else None,
        norm="spectral" if ord == 2 else "frobenius",
        residual=False,
    )
    for name, path in (
        ("value", value),
        ("key", key),
        ("query", query),
        ("total", query + key + value),
    ):
        expected = np.linalg.norm(path, ord=ord, axis=(-2, -1))  # (T, T)
        assert_close(getattr(norms, name), expected, 1e-9, 1e-10)


def test_a_batch_in_torchs_layout_is_its_axes_swapped(torch):
    layer = torch_layer(torch, batch_first=False)
    x = np.random.default_rng(1).normal(size=(T, 2, D))
    given = torch.tensor(x)
    expected = layer(given, given, given)[0].detach().numpy()
    weights = AttentionWeights.from_torch(layer.state_dict(), num_heads=H)
    ours = np.swapaxes(x, 0, 1)
    assert_close(
        np.swapaxes(attend(ours, ours, ours, weights), 0, 1), expected, 1e-12, 1e-12
    )


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_tensors_are_read_as_arrays_whether_or_not_they_need_a_gradient(torch, dtype):
    layer = torch_layer(torch).to(getattr(torch, dtype))
    trained = dict(layer.named_parameters())
    assert all(tensor.requires_grad for tensor in trained.values())
    arrays = {name: a.detach().double().numpy() for name, a in trained.items()}
    expected = AttentionWeights.from_torch(arrays, num_heads=H)
    for state in (trained, layer.state_dict()):
        weights = AttentionWeights.from_torch(state, num_heads=H)
        assert weights.query.dtype == (np.float64 if dtype == "float64" else np.float32)
        jax.tree.map(np.testing.assert_array_equal, weights, expected)


def test_a_layer_inside_an_encoder_is_read_by_its_prefix(torch):
    encoder = torch.nn.TransformerEncoderLayer(D, H, dtype=torch.float64)
    state = encoder.state_dict()
    weights = AttentionWeights.from_torch(state, num_heads=H, prefix="self_attn")
    kernel = weights.query.reshape(D, D).T
    np.testing.assert_array_equal(kernel, state["self_attn.in_proj_weight"][:D])


def test_torchs_own_refusals_are_ours(torch):
    for options, message in (
        ({"add_bias_kv": True}, "bias_k must be absent"),
        ({"kdim": 5, "vdim": 8}, "must all have shape"),
    ):
        layer = torch.nn.MultiheadAttention(8, 2, **options)
        with pytest.raises(ValueError, match=message):
            AttentionWeights.from_torch(
                {name: a.numpy() for name, a in layer.state_dict().items()}, num_heads=2
            )
