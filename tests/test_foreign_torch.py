"""PyTorch's own layer against what is read from its state dict, where it is there."""

from typing import Any

import jax
import numpy as np
import pytest

from sensitivity import AttentionWeights, ScoreBias, path_jacobians, path_norms
from sensitivity.attention import attend
from tests.layers import assert_close

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = pytest.mark.usefixtures("strict_promotion")

B, T, D, H = 2, 5, 8, 2
X = np.random.default_rng(0).normal(size=(T, D))


def torch_layer(**options: Any) -> Any:
    """A layer in float64 with biases that are not zero."""
    arguments = {"batch_first": True, "dtype": torch.float64}
    torch.manual_seed(0)
    layer = torch.nn.MultiheadAttention(D, H, **(arguments | options)).eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


@pytest.mark.parametrize("bias", [False, True])
def test_torchs_own_layer_keeps_its_output_and_its_jacobian(bias):
    layer = torch_layer(bias=bias)
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
def test_path_norms_are_those_of_torchs_autograd(ord, masked):
    layer = torch_layer()
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
    )
    for name, path in (
        ("value", value),
        ("key", key),
        ("query", query),
        ("total", query + key + value),
    ):
        expected = np.linalg.norm(path, ord=ord, axis=(-2, -1))  # (T, T)
        assert_close(getattr(norms, name), expected, 1e-9, 1e-10)


def test_a_batch_in_torchs_layout_is_its_axes_swapped():
    layer = torch_layer(batch_first=False)
    x = np.random.default_rng(1).normal(size=(T, B, D))
    given = torch.tensor(x)
    expected = layer(given, given, given)[0].detach().numpy()
    weights = AttentionWeights.from_torch(layer.state_dict(), num_heads=H)
    ours = np.swapaxes(x, 0, 1)
    assert_close(
        np.swapaxes(attend(ours, ours, ours, weights), 0, 1), expected, 1e-12, 1e-12
    )


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_tensors_are_read_as_arrays_whether_or_not_they_need_a_gradient(dtype):
    layer = torch_layer().to(getattr(torch, dtype))
    trained = dict(layer.named_parameters())
    assert all(tensor.requires_grad for tensor in trained.values())
    arrays = {name: a.detach().double().numpy() for name, a in trained.items()}
    expected = AttentionWeights.from_torch(arrays, num_heads=H)
    for state in (trained, layer.state_dict()):
        weights = AttentionWeights.from_torch(state, num_heads=H)
        assert weights.query.dtype == (np.float64 if dtype == "float64" else np.float32)
        jax.tree.map(np.testing.assert_array_equal, weights, expected)


def test_a_layer_inside_an_encoder_is_read_by_its_prefix():
    encoder = torch.nn.TransformerEncoderLayer(D, H, dtype=torch.float64)
    state = encoder.state_dict()
    weights = AttentionWeights.from_torch(state, num_heads=H, prefix="self_attn")
    kernel = weights.query.reshape(D, D).T
    np.testing.assert_array_equal(kernel, state["self_attn.in_proj_weight"][:D])


def test_torchs_own_refusals_are_ours():
    for options, message in (
        ({"add_bias_kv": True}, "bias_k must be absent"),
        ({"kdim": 5, "vdim": 8}, "must all have shape"),
    ):
        layer = torch.nn.MultiheadAttention(8, 2, **options)
        with pytest.raises(ValueError, match=message):
            AttentionWeights.from_torch(
                {name: a.numpy() for name, a in layer.state_dict().items()}, num_heads=2
            )
