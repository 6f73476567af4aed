"""The true input of every attention layer inside a PyTorch model, on a user's batch.

Hooks record what a layer is called with, for as long as a ``with`` block lasts; what is
read is NumPy. PyTorch is imported only here and only when it is used.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from sensitivity._convert import as_numpy
from sensitivity._masks import bias_of
from sensitivity.attention import attend
from sensitivity.captured import Capture
from sensitivity.forms import AttentionForm
from sensitivity.layer_input import LayerInput
from sensitivity.layer_norm import LayerNorm
from sensitivity.rotary import Rotary
from sensitivity.torch_families import FAMILIES, Family
from sensitivity.weights import AttentionWeights, ScoreBias

# Of the largest output, by its dtype: many layers take norms, positions and the softmax
# in float32 at most.
_TOLERANCE = {"torch.float64": 1e-5, "torch.float32": 1e-4}
_COARSE = 5e-2  # bfloat16 and float16
_UNSEEN = "call the model itself inside the block, not a copy of it"


@contextlib.contextmanager
def capture_torch_attention(model: Any) -> Iterator[Capture]:
    """Record what every attention layer of a PyTorch model is given.

    Read are ``torch.nn.MultiheadAttention`` (inside ``TransformerEncoderLayer`` too,
    whose fast path is off while the block lasts) and the classes that are named in
    `sensitivity.torch_families.FAMILIES`: BERT, RoBERTa, DistilBERT, ViT, GPT-2, Llama,
    Mistral, Qwen2, Qwen3, Gemma, gpt-oss.

    Call the model inside the block as always, in evaluation, with any batch. The output
    of every layer is computed again from what was recorded, and must be the layer's. A
    model in half precision, or on an accelerator, is recorded as it is rounded, in
    float32 and on the host. Hooks are removed whatever happens.

    Args:
        model: The model, whose layers are named by their path in it.

    Yields:
        What has been recorded so far: `Capture.layers`, in the order of the calls, and
        `Capture.refused`. A block's norm before the layer is part of the layer, whose
        ``x`` is then the block's input, where the residual stands too.

    Raises:
        ValueError: If the model is none, is compiled, or has no layer that can be read,
            or no call of one was seen.

    Example:
        >>> import torch
        >>> from sensitivity.capture import capture_torch_attention
        >>> layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> with capture_torch_attention(layer.eval()) as capture:
        ...     _ = layer(torch.ones(2, 5, 8))
        >>> [(seen.name, seen.x.shape) for seen in capture.layers]
        [('self_attn', (2, 5, 8))]

    References:
        For the families: their configuration in the library ``transformers``.
    """
    import torch

    if not isinstance(model, torch.nn.Module):
        raise ValueError(
            f"model must be a torch.nn.Module, got {type(model).__name__}."
        )
    if type(model).__name__ == "OptimizedModule":
        raise ValueError(
            "model must not be compiled, since compiled code runs no hooks: give "
            "model._orig_mod, which has the same weights."
        )
    modules = dict(model.named_modules())
    layers = {name: m for name, m in modules.items() if _is_attention(m)}
    if not layers:
        seen = sorted({type(m).__name__ for m in modules.values()})
        raise ValueError(
            "model must hold attention that can be read, torch.nn.MultiheadAttention "
            f"or one of {', '.join(sorted(FAMILIES))}; it holds {', '.join(seen)}. "
            "Another class is read by an entry in sensitivity.torch_families.FAMILIES."
        )
    capture, hooks = Capture(), []
    for name, module in layers.items():
        hooks += _Watch(name, module, modules, capture).hooks()
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield capture
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for hook in hooks:
            hook.remove()
    if not capture.layers and not capture.refused:
        raise ValueError(
            f"model must be called inside the block, but no call was seen: {_UNSEEN}."
        )
    recorded = {layer.name for layer in capture.layers}
    for name in layers:
        if name not in recorded:
            capture.refused.setdefault(name, f"no call of it was seen: {_UNSEEN}.")


def _is_attention(module: Any) -> bool:
    import torch

    known = type(module).__name__ in FAMILIES
    return known or isinstance(module, torch.nn.MultiheadAttention)


class _Watch:
    """One attention module: what it was last called with, and its parts."""

    def __init__(self, name: str, module: Any, modules: dict, capture: Capture):
        self.name, self.module, self.modules = name, module, modules
        self.capture = capture
        self.family = FAMILIES.get(type(module).__name__)
        self.call: tuple[tuple, dict] | None = None
        self.why = ""  # a call is refused that is not even looked at
        self.norm = self.part(self.norm_path)
        self.normed: tuple[Any, Any] | None = None  # input and output of the norm

    @property
    def norm_path(self) -> str:
        """Where the norm before the layer is, if anywhere."""
        if self.family is not None:
            return self.family.input_norm
        block = self.part("..")
        return "..norm1" if getattr(block, "norm_first", False) else ""

    def part(self, path: str) -> Any:
        """A module or attribute by its path; None where there is none."""
        if not path:
            return None
        found = self.module
        if path.startswith(".."):
            if not self.name:
                return None
            found, path = self.modules[self.name.rpartition(".")[0]], path[2:]
        for step in filter(None, path.split(".")):
            found = getattr(found, step, None)
        return found

    def hooks(self) -> list[Any]:
        """Register what records; handles that remove it again."""
        module, out = self.module, self.module
        found = [module.register_forward_pre_hook(self.called, with_kwargs=True)]
        if self.family is not None:
            out = self.part(self.family.out)
        if self.norm is not None:
            found.append(self.norm.register_forward_hook(self.was_normed))
        return [*found, out.register_forward_hook(self.returned)]

    def was_normed(self, norm: Any, inputs: tuple, output: Any) -> None:
        """Keep what the norm before the layer makes of its input."""
        del norm
        self.normed = (inputs[0], output)

    def called(self, module: Any, inputs: tuple, options: dict[str, Any]) -> None:
        """Keep what the layer is called with."""
        import torch

        del module
        self.call, self.why = (inputs, options), ""
        if torch.compiler.is_compiling():
            self.why = "it was called under torch.compile, which shows no numbers."
        cache = options.get("cache", options.get("past_key_values"))
        if cache is not None and hasattr(cache, "get_seq_length"):
            if cache.get_seq_length(getattr(self.module, "layer_idx", 0) or 0):
                self.why = "it decodes step by step, from a cache of earlier steps."

    def returned(self, module: Any, inputs: tuple, output: Any) -> None:
        """Read the call, now that its output is known."""
        del module, inputs
        call, self.call = self.call, None
        if call is None:  # a shared projection, called by something else
            return
        try:
            if self.why:
                raise ValueError(self.why)
            output = output[0] if isinstance(output, tuple) else output
            self.capture.layers.append(self.read(*call, output))
        except ValueError as error:
            self.capture.refused[self.name] = str(error)

    def samples(self, given: Any) -> np.ndarray:
        """An input or output, its samples in front: (B, T, D)."""
        array = _array(given)
        if array.ndim == 2:
            return array[None]
        late = self.family is None and not self.module.batch_first
        return array.swapaxes(0, 1) if late else array

    def read(self, inputs: tuple, options: dict[str, Any], output: Any) -> LayerInput:
        """A call as a layer; an error if it is not self-attention in evaluation."""
        rates = [m.p for m in self.module.modules() if type(m).__name__ == "Dropout"]
        rates += [
            getattr(self.module, name, 0) or 0
            for name in ("dropout", "attention_dropout")
            if isinstance(getattr(self.module, name, 0), int | float)
        ]
        if self.module.training and any(rates):
            raise ValueError("its dropout is on: call model.eval() first.")
        read = _torch_layer if self.family is None else _family_layer
        x, weights, bias, rows, residual = read(self, inputs, options)
        norm, before = None, x
        if self.norm is not None and self.normed is not None:
            before, after = self.normed
            if not _same(after, x):
                raise ValueError("its input is not the output of the norm before it.")
            norm = _norm_of(self.norm)
        if norm is not None:
            form = weights.form or AttentionForm(input_norm=norm)
            form = dataclasses.replace(form, input_norm=norm)
            weights = dataclasses.replace(weights, form=form)
        shown, seen = (self.samples(array) for array in (before, output))
        _check_again(shown, weights, bias, rows, seen, str(output.dtype))
        return LayerInput(
            x=shown,
            weights=weights,
            score_bias=bias,
            residual=residual and weights.output_width == weights.model_width,
            name=self.name,
            output=seen,
            rows=rows,
        )


def _check_again(
    x: np.ndarray,
    weights: AttentionWeights,
    bias: ScoreBias,
    rows: np.ndarray | None,
    seen: np.ndarray,
    dtype: str,
) -> None:
    """Refuse a reading whose output is not the layer's."""
    wide = np.asarray(x, np.float64)
    again = np.asarray(attend(wide, wide, wide, weights, bias))
    if again.shape != seen.shape:
        raise ValueError(f"it returned shape {seen.shape}, not {again.shape}.")
    if rows is not None:
        again, seen = again[rows], seen[rows]
    allowed = _TOLERANCE.get(dtype, _COARSE) * np.abs(seen).max(initial=0)
    off = np.abs(again - seen).max(initial=0)
    if not off <= allowed:
        raise ValueError(
            "its output is not that of its weights, input and mask: off by "
            f"{off:.2g} where {allowed:.2g} is rounding."
        )


def _array(given: Any) -> np.ndarray:
    """A tensor as NumPy's; of half precision in float32, as it is rounded."""
    array = as_numpy(given)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _same(one: Any, other: Any) -> bool:
    return one is other or (
        one.shape == other.shape and bool((one.detach() == other.detach()).all())
    )


def _norm_of(module: Any) -> LayerNorm:
    """A LayerNorm or RMSNorm module, by what it is called and holds."""
    name = type(module).__name__
    weight = None if module.weight is None else _array(module.weight)
    for attribute in ("eps", "variance_epsilon"):
        if isinstance(epsilon := getattr(module, attribute, None), float):
            break
    else:
        raise ValueError(f"its norm, a {name}, has no eps.")
    if name == "LayerNorm":
        bias = None if module.bias is None else _array(module.bias)
        return LayerNorm(weight, bias, True, epsilon)
    if not name.endswith("RMSNorm"):
        raise ValueError(f"its norm is a {name}: neither LayerNorm nor RMSNorm.")
    if name.startswith("Gemma") and weight is not None:
        weight = 1 + weight
    return LayerNorm(weight, None, False, epsilon)


def _family_layer(watch: _Watch, inputs: tuple, options: dict[str, Any]) -> tuple:
    """Input, weights, bias and rows of a call of a known family, and its residual."""
    module, family = watch.module, watch.family
    assert family is not None
    x = inputs[0] if inputs else options["hidden_states"]
    if options.get("encoder_hidden_states") is not None:
        raise ValueError("it is cross-attention: keys have another input than queries.")
    K, names = getattr(module, family.width), ("query", "key", "value")
    linears = {name: watch.part(getattr(family, name)) for name in (*names, "out")}
    kernels, biases = {}, {}
    for name, linear in linears.items():
        kernel = _array(linear.weight)
        kernels[name] = kernel if family.transposed else kernel.T  # (inputs, outputs)
        biases[name] = None if linear.bias is None else _array(linear.bias)
    if family.stacked:
        thirds = np.split(kernels["query"], 3, axis=1)
        kernels |= dict(zip(names, thirds, strict=True))
        if biases["query"] is not None:
            parts = np.split(biases["query"], 3)
            biases |= dict(zip(names, parts, strict=True))
    H = kernels["query"].shape[1] // K
    given: dict[str, Any] = {}
    for name in names:
        kernel = kernels[name].reshape(kernels[name].shape[0], -1, K)
        repeats = H // kernel.shape[1]  # grouped heads share keys and values
        given[name] = np.repeat(kernel, repeats, axis=1)
        if biases[name] is not None:
            bias = np.repeat(biases[name].reshape(-1, K), repeats, axis=0)
            given[f"{name}_bias"] = bias
    given["out"] = kernels["out"].reshape(H, -1, kernels["out"].shape[1])
    given["out_bias"] = biases["out"]
    form = _form_of(watch, family, options, inputs, K)
    weights = AttentionWeights(**given, form=form)
    mask = options.get("attention_mask")
    if mask is None and len(inputs) > 1 and not isinstance(inputs[1], tuple):
        mask = inputs[1]
    causal = bool(getattr(module, "is_causal", False))
    window = getattr(module, family.window, None)
    if window is None and hasattr(module, "config"):  # Mistral keeps it there alone
        window = getattr(module.config, family.window, None)
        window = window if getattr(module, "layer_type", None) is None else None
    bias, rows = _masks_of(mask, x.shape[-2], causal, window)
    return x, weights, bias, rows, family.residual


def _form_of(
    watch: _Watch, family: Family, options: dict[str, Any], inputs: tuple, K: int
) -> AttentionForm | None:
    """What a module of a family does beside softmax attention."""
    parts: dict[str, Any] = {}
    scale = getattr(watch.module, family.scale, K**-0.5)
    if abs(scale * K**0.5 - 1) > 1e-12:
        parts["scale"] = float(scale)
    if (cap := getattr(watch.module, family.cap, None)) is not None:
        parts["cap"] = float(cap)
    if (sinks := getattr(watch.module, family.sinks, None)) is not None:
        parts["sink"] = _array(sinks)
    for name in ("query_norm", "key_norm"):
        if (norm := watch.part(getattr(family, name))) is not None:
            parts[name] = _norm_of(norm)
    if family.rotary:
        tables = options.get("position_embeddings")
        if tables is None:
            pairs = [given for given in inputs[1:] if isinstance(given, tuple)]
            tables = pairs[0] if pairs else None
        if tables is None:
            raise ValueError("it was called without position_embeddings.")
        parts["rotary"] = _rotary_of(*(_array(table) for table in tables))
    return AttentionForm(**parts) if parts else None


def _rotary_of(cos: np.ndarray, sin: np.ndarray) -> Rotary:
    """Tables of samples, (B, T, P) or each pair twice, as those of all."""
    if cos.ndim == 3:
        if not all((table == table[:1]).all() for table in (cos, sin)):
            raise ValueError("positions must be the same in every sample of the batch.")
        cos, sin = cos[0], sin[0]
    half = cos.shape[-1] // 2
    twice = half and all(
        (table[:, :half] == table[:, half:]).all() for table in (cos, sin)
    )
    return Rotary(cos[:, :half], sin[:, :half]) if twice else Rotary(cos, sin)


def _masks_of(
    mask: Any, T: int, causal: bool, window: int | None
) -> tuple[ScoreBias, np.ndarray | None]:
    """The mask that a layer is called with, (B, 1, T, T), or what it does without."""
    if mask is None:
        near = None if window is None or window >= T else int(window)
        return ScoreBias(causal=causal and T > 1, window=near), None
    if not hasattr(mask, "dtype"):
        raise ValueError(f"its mask is a {type(mask).__name__}, which is not read.")
    array = _array(mask)
    if array.ndim == 2:
        array = array[:, None, None]
    if array.shape[-1] != T:
        raise ValueError(
            f"its mask is of {array.shape[-1]} keys where x has T={T} steps: it goes "
            "on from a cache."
        )
    if array.dtype == bool:
        return bias_of(array, np.zeros(array.shape), window)
    allowed = array > float(np.finfo(array.dtype).min) / 2
    return bias_of(allowed, np.where(allowed, array, 0.0), window)


def _torch_layer(watch: _Watch, inputs: tuple, options: dict[str, Any]) -> tuple:
    """The same of a ``torch.nn.MultiheadAttention``."""
    names = ("query", "key", "value", "key_padding_mask", "need_weights", "attn_mask")
    given = dict(zip(names, inputs, strict=False)) | options
    module, x = watch.module, given["query"]
    if not all(_same(given[name], x) for name in ("key", "value")):
        raise ValueError("it is cross-attention: keys have another input than queries.")
    form = None
    if module.add_zero_attn:  # one more step, whose key and value are 0
        form = AttentionForm(sink=np.zeros(module.num_heads))
    state = {name: _array(part) for name, part in module.state_dict().items()}
    weights = AttentionWeights.from_torch(state, module.num_heads)
    weights = dataclasses.replace(weights, form=form)
    T = x.shape[-2] if x.ndim == 2 or module.batch_first else x.shape[0]
    B = 1 if x.ndim == 2 else x.shape[0 if module.batch_first else 1]
    allowed, added = np.ones((B, 1, T, T), bool), np.zeros((B, 1, T, T))
    for name in ("attn_mask", "key_padding_mask"):
        if (mask := given.get(name)) is None:
            continue
        mask = _array(mask)
        if name == "key_padding_mask":
            mask = np.reshape(mask, (B, 1, 1, T))
        elif mask.ndim == 3:
            mask = np.reshape(mask, (B, -1, T, T))
        open_ = ~mask if mask.dtype == bool else mask > -np.inf
        allowed = allowed & open_
        added = added + (0 if mask.dtype == bool else np.where(open_, mask, 0.0))
    bias, rows = bias_of(allowed, added)
    return x, weights, bias, rows, True
