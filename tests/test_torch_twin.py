"""PyTorch's own layers give our forecasts and our gradients, to the last bits."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from analysis.benchmark._torch_forecaster import torch_forecaster
from models.config import ForecasterConfig
from models.positions import position_encoding
from tests.forecasters import build, draw_inputs, evaluate

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")

# Otherwise the reference's: 8 heads, 2 hops, embeddings of 10.
CONFIG = ForecasterConfig(nodes=4, window=6, horizon=3, width=16, layers=2)


def torch_twin() -> Any:
    """The PyTorch model in evaluation mode."""
    return torch_forecaster(CONFIG).eval()


def in_torch_layout(params: Any) -> dict[str, np.ndarray]:
    """Arrays of our tree (weights or gradients) by the names of the twin's."""
    found: dict[str, np.ndarray] = {}

    def linear(name: str, layer: Any) -> None:
        found[f"{name}.weight"] = np.asarray(layer["kernel"]).T
        found[f"{name}.bias"] = np.asarray(layer["bias"])

    for name in ("lift", "read", "ahead"):
        linear(name, params[name])
    for k in range(CONFIG.layers):
        block = f"blocks.{k}"
        time, space = params["temporal"][k], params["spatial"][k]
        linear(f"{block}.time_clock", time["clock"])
        linear(f"{block}.space_clock", space["clock"])
        linear(f"{block}.mix", space["mix"]["mix"])
        for name, layer in (("time_norm", time), ("space_norm", space)):
            found[f"{block}.{name}.weight"] = np.asarray(layer["norm"]["scale"])
            found[f"{block}.{name}.bias"] = np.asarray(layer["norm"]["bias"])
        found[f"{block}.one"] = np.asarray(space["mix"]["forward_nodes"])
        found[f"{block}.two"] = np.asarray(space["mix"]["backward_nodes"])
        mix, D = time["mix"], CONFIG.width
        kernels = [
            np.asarray(mix[n]).reshape(D, D).T for n in ("query", "key", "value")
        ]
        biases = [np.ravel(mix[f"{n}_bias"]) for n in ("query", "key", "value")]
        attention = f"{block}.attention"
        found[f"{attention}.in_proj_weight"] = np.concatenate(kernels)
        found[f"{attention}.in_proj_bias"] = np.concatenate(biases)
        found[f"{attention}.out_proj.weight"] = np.asarray(mix["out"]).reshape(D, D).T
        found[f"{attention}.out_proj.bias"] = np.asarray(mix["out_bias"])
    return found


def same_weights(dtype: Any) -> tuple[Any, Any]:
    """Our model, and the twin with its weights."""
    model, twin = build(CONFIG, dtype=dtype), torch_twin()
    twin = twin.double() if dtype == np.float64 else twin
    arrays = in_torch_layout(nnx.to_pure_dict(nnx.state(model)))
    arrays["encoding"] = position_encoding("tape", CONFIG.window, CONFIG.width)
    twin.load_state_dict({n: torch.tensor(a.astype(dtype)) for n, a in arrays.items()})
    return model, twin


def test_the_twin_encodes_positions_alike():
    expected = position_encoding("tape", CONFIG.window, CONFIG.width)
    np.testing.assert_allclose(torch_twin().encoding.numpy(), expected, atol=1e-5)


def test_the_twin_forecasts_alike():
    model, twin = same_weights(np.float64)
    inputs = draw_inputs(CONFIG)
    with torch.no_grad():
        expected = twin(torch.tensor(inputs.speeds), torch.tensor(inputs.time_of_day))
    actual = evaluate(model, inputs)
    np.testing.assert_allclose(actual, expected.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)]
)
def test_the_twin_has_the_same_gradients_of_the_mean_absolute_error(dtype, tolerance):
    model, twin = same_weights(dtype)
    inputs = jax.tree.map(dtype, draw_inputs(CONFIG))
    targets = np.random.default_rng(2).normal(size=(2, 3, 4)).astype(dtype)
    graph, state = nnx.split(model)

    @jax.jit
    def gradient(state):
        def loss(state):
            return jnp.abs(nnx.merge(graph, state)(*inputs) - targets).mean()

        return jax.grad(loss)(state)

    actual = in_torch_layout(nnx.to_pure_dict(gradient(state)))
    speeds, clock = torch.tensor(inputs.speeds), torch.tensor(inputs.time_of_day)
    (twin(speeds, clock) - torch.tensor(targets)).abs().mean().backward()
    for name, parameter in twin.named_parameters():
        expected = parameter.grad.numpy()
        np.testing.assert_allclose(
            actual[name], expected, rtol=0, atol=tolerance, err_msg=name
        )
