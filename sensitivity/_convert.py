"""Weights from elsewhere: Flax's and PyTorch's attention layers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from sensitivity.weights import AttentionWeights

if TYPE_CHECKING:
    from flax import nnx


def from_flax(module: "nnx.MultiHeadAttention") -> AttentionWeights:
    """Read a Flax NNX layer as it acts without dropout.

    Grouped key and value heads are repeated, as the layer itself does.

    Args:
        module: The layer, used for self-attention.

    Returns:
        Its arrays.

    Raises:
        ValueError: If the layer normalises its queries and keys, has an attention
            function or projections of its own, or takes keys of another width: this
            is then not the attention that is analysed here.
    """
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
    repeats = module.num_heads // module.num_kv_heads

    def array(linear: Any, name: str, repeat: int = 1) -> Any:
        parameter = getattr(linear, name)
        if parameter is None:
            return None
        return jnp.repeat(parameter[...], repeat, axis=-2)

    return AttentionWeights(
        query=array(module.query, "kernel"),
        key=array(module.key, "kernel", repeats),
        value=array(module.value, "kernel", repeats),
        out=module.out.kernel[...],
        query_bias=array(module.query, "bias"),
        key_bias=array(module.key, "bias", repeats),
        value_bias=array(module.value, "bias", repeats),
        out_bias=None if module.out.bias is None else module.out.bias[...],
    )


def _as_numpy(array: Any) -> np.ndarray:
    """A PyTorch tensor, on any device and with or without a gradient, or an array."""
    if hasattr(array, "detach"):  # PyTorch itself need not be installed
        array = array.detach().cpu()
        if str(array.dtype) == "torch.bfloat16":  # has no counterpart in NumPy
            array = array.float()
    return np.asarray(array)


def from_torch(
    state_dict: Mapping[str, Any], num_heads: int, prefix: str = ""
) -> AttentionWeights:
    """Read the state dict of a ``torch.nn.MultiheadAttention``.

    The layer's ``add_zero_attn`` leaves no trace in its state dict: it must be
    False, as is PyTorch's default.

    Args:
        state_dict: Names to arrays: PyTorch tensors, NumPy arrays, or a file of them
            that ``np.load`` opened. What belongs to other layers is left alone.
        num_heads: Number of heads H of the layer.
        prefix: Path of the layer inside a larger model's state dict, such as
            ``encoder.layers.0.self_attn``.

    Returns:
        The layer's arrays, as NumPy arrays.

    Raises:
        ValueError: If an array is missing, ``num_heads`` does not divide the
            width, keys or values have another width than queries, or the layer has
            ``bias_k`` and ``bias_v``, a further token that no input feeds.
    """
    prefix = prefix + "." if prefix and not prefix.endswith(".") else prefix

    def get(name: str) -> np.ndarray | None:
        array = state_dict.get(prefix + name)
        return None if array is None else _as_numpy(array)

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
    if get("in_proj_weight") is not None:
        stacked = need("in_proj_weight")
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
    if (
        isinstance(num_heads, bool)
        or not isinstance(num_heads, int | np.integer)
        or num_heads < 1
        or width % num_heads
    ):
        raise ValueError(
            f"num_heads ({num_heads}) must be an integer that divides the width "
            f"of the layer ({width})."
        )
    num_heads = int(num_heads)
    out, in_bias, out_bias = (
        need("out_proj.weight"),
        get("in_proj_bias"),
        get("out_proj.bias"),
    )
    for name, array, shape in (
        ("out_proj.weight", out, (width, width)),
        ("in_proj_bias", in_bias, (3 * width,)),
        ("out_proj.bias", out_bias, (width,)),
    ):
        if array is not None and array.shape != shape:
            raise ValueError(
                f"{prefix}{name} must have shape {shape}, got {array.shape}."
            )
    biases = [None] * 3 if in_bias is None else np.split(in_bias, 3)
    query, key, value = (
        k.T.reshape(-1, num_heads, width // num_heads) for k in kernels
    )
    query_bias, key_bias, value_bias = (
        None if b is None else b.reshape(num_heads, -1) for b in biases
    )
    return AttentionWeights(
        query=query,
        key=key,
        value=value,
        out=out.T.reshape(num_heads, width // num_heads, -1),
        query_bias=query_bias,
        key_bias=key_bias,
        value_bias=value_bias,
        out_bias=out_bias,
    )
