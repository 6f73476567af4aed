"""Layers from elsewhere, Flax's and PyTorch's, as the arrays of an `AttentionWeights`.

Arrays go out by their field names, so that `sensitivity.weights` can use this module.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from sensitivity.arguments import ArgumentError

if TYPE_CHECKING:
    from flax import nnx


def flax_arrays(module: "nnx.MultiHeadAttention") -> dict[str, Any]:
    """The arrays of a Flax NNX layer, grouped key and value heads repeated."""
    from flax import nnx

    if not isinstance(module, nnx.MultiHeadAttention):
        raise ValueError(
            f"module must be a flax.nnx.MultiHeadAttention, got "
            f"{type(module).__name__}."
        )
    if module.normalize_qk:
        raise ValueError(
            "normalize_qk must be False: the Jacobian of normalised queries and "
            "keys is not the one worked out here."
        )
    if module.attention_fn is not nnx.dot_product_attention:
        raise ValueError(
            "attention_fn must be nnx.dot_product_attention, got "
            f"{module.attention_fn!r}."
        )
    if module.in_kv_features != module.in_features:
        raise ValueError(
            f"in_kv_features ({module.in_kv_features}) must equal in_features "
            f"({module.in_features}): self-attention has one input."
        )
    for name in ("query", "key", "value", "out"):
        if not isinstance(projection := getattr(module, name), nnx.LinearGeneral):
            raise ValueError(
                f"{name} must be an nnx.LinearGeneral, got a "
                f"{type(projection).__name__}."
            )
    groups = module.num_heads // module.num_kv_heads
    found: dict[str, Any] = {
        "out": module.out.kernel[...],
        "out_bias": None if module.out.bias is None else module.out.bias[...],
    }
    for name, repeats in (("query", 1), ("key", groups), ("value", groups)):
        linear: Any = getattr(module, name)
        found[name] = jnp.repeat(linear.kernel[...], repeats, axis=-2)
        bias = linear.bias
        found[f"{name}_bias"] = (
            None if bias is None else jnp.repeat(bias[...], repeats, axis=-2)
        )
    return found


def torch_arrays(
    state_dict: Mapping[str, Any], num_heads: int, prefix: str
) -> dict[str, Any]:
    """The arrays of a ``torch.nn.MultiheadAttention``, from its state dict."""
    prefix = prefix + "." if prefix and not prefix.endswith(".") else prefix

    def get(name: str) -> np.ndarray | None:
        array = state_dict.get(prefix + name)
        return None if array is None else as_numpy(array)

    def need(name: str) -> np.ndarray:
        if (array := get(name)) is None:
            raise ValueError(
                f"state_dict must hold {prefix + name!r}; it holds "
                f"{sorted(state_dict)}."
            )
        return array

    for name in ("bias_k", "bias_v"):
        if get(name) is not None:
            raise ValueError(
                f"{prefix + name} must be absent (add_bias_kv=False): it is a "
                "further token that no input feeds."
            )
    if (stacked := get("in_proj_weight")) is not None:
        if stacked.ndim != 2 or stacked.shape[0] != 3 * stacked.shape[1]:
            raise ValueError(
                f"{prefix}in_proj_weight must have shape (3 D, D), got {stacked.shape}."
            )
        kernels = np.split(stacked, 3)
    else:
        kernels = [need(f"{name}_proj_weight") for name in "qkv"]
        shapes = [kernel.shape for kernel in kernels]
        if len(set(shapes)) > 1 or len(shapes[0]) != 2 or len(set(shapes[0])) > 1:
            raise ValueError(
                f"{prefix}q_proj_weight, k_proj_weight and v_proj_weight must all have "
                f"shape (D, D): self-attention has one input; got {shapes}."
            )
    width = kernels[0].shape[0]
    whole = isinstance(num_heads, int | np.integer) and not isinstance(num_heads, bool)
    if not whole or num_heads < 1 or width % num_heads:
        raise ArgumentError(
            "num_heads",
            f"({num_heads}) must be an integer that divides the width of the layer "
            f"({width}).",
        )
    H, K = int(num_heads), width // int(num_heads)
    out = need("out_proj.weight")
    in_bias, out_bias = get("in_proj_bias"), get("out_proj.bias")
    for name, array, shape in (
        ("out_proj.weight", out, (width, width)),
        ("in_proj_bias", in_bias, (3 * width,)),
        ("out_proj.bias", out_bias, (width,)),
    ):
        if array is not None and array.shape != shape:
            raise ValueError(
                f"{prefix}{name} must have shape {shape}, got {array.shape}."
            )
    found = {"out": out.T.reshape(H, K, -1), "out_bias": out_bias}
    biases = [None] * 3 if in_bias is None else np.split(in_bias, 3)
    for name, kernel, bias in zip(
        ("query", "key", "value"), kernels, biases, strict=True
    ):
        found[name] = kernel.T.reshape(-1, H, K)
        found[f"{name}_bias"] = None if bias is None else bias.reshape(H, -1)
    return found


def as_numpy(array: Any) -> np.ndarray:
    """A PyTorch tensor, on any device and with or without a gradient, or an array."""
    if hasattr(array, "detach"):  # PyTorch itself need not be installed
        array = array.detach().cpu()
        if str(array.dtype) == "torch.bfloat16":  # has no counterpart in NumPy
            array = array.float()
    return np.asarray(array)
