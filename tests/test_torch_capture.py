"""Attention layers of PyTorch models, recorded where they run."""

from typing import Any

import numpy as np
import pytest

from sensitivity import check_bounds, path_jacobians
from sensitivity.capture import capture_torch_attention

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
HF = pytest.importorskip("transformers", reason="transformers is not installed")

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL = SIZES | {"intermediate_size": 24, "vocab_size": 30}
LLAMA = SMALL | {"num_key_value_heads": 2, "head_dim": 4}
# Name: class of the model, of its configuration, and its sizes.
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertModel", "BertConfig", SMALL),
    "roberta": ("RobertaModel", "RobertaConfig", SMALL),
    "distilbert": (
        "DistilBertModel",
        "DistilBertConfig",
        {"dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 24, "vocab_size": 30},
    ),
    "gpt2": (
        "GPT2Model",
        "GPT2Config",
        {"n_embd": 16, "n_layer": 2, "n_head": 4, "vocab_size": 30, "n_positions": 32},
    ),
    "llama": ("LlamaModel", "LlamaConfig", LLAMA),
    "mistral": ("MistralModel", "MistralConfig", LLAMA | {"sliding_window": 4}),
    "qwen2": ("Qwen2Model", "Qwen2Config", LLAMA),
    "qwen3": ("Qwen3Model", "Qwen3Config", LLAMA),
    "gemma": ("GemmaModel", "GemmaConfig", LLAMA),
    "gemma2": (
        "Gemma2Model",
        "Gemma2Config",
        LLAMA | {"sliding_window": 4, "query_pre_attn_scalar": 8},
    ),
    "gpt-oss": (
        "GptOssModel",
        "GptOssConfig",
        LLAMA
        | {"num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 4}
        | {"experts_implementation": "eager"},
    ),
}
T = 7


def model_of(name: str, **options: Any) -> Any:
    """A model with random weights, in float64 and evaluation."""
    model, config, sizes = MODELS[name]
    torch.manual_seed(0)
    made = getattr(HF, model)(getattr(HF, config)(**sizes | options))
    made = made.double().eval()
    with torch.no_grad():  # biases and norms start at values that hide mistakes
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def words(samples: int = 2) -> Any:
    """Numbers of tokens."""
    torch.manual_seed(1)
    return torch.randint(5, 30, (samples, T))


EAGER = ("gemma2", "gpt-oss")  # caps and sinks have no other implementation


@pytest.mark.parametrize(
    ("name", "attention"),
    [
        pytest.param(
            *(name, attention),
            marks=[] if (attention == "sdpa") != (name in EAGER) else pytest.mark.slow,
        )
        for name in MODELS
        for attention in ("eager", "sdpa")
        if attention == "eager" or name not in EAGER
    ],
)
def test_every_family_is_read_where_it_runs(name, attention):
    model = model_of(name, attn_implementation=attention)
    with capture_torch_attention(model) as capture:
        model(words())
    assert capture.refused == {}
    assert len(capture.layers) == 2
    for layer in capture.layers:
        assert layer.x.shape == (2, T, 16)
        form = layer.weights.form
        pre_norm = name not in ("bert", "roberta", "distilbert")
        assert (form is not None and form.input_norm is not None) == pre_norm
        table = check_bounds(
            layer.x, layer.weights, score_bias=layer.score_bias, norm="frobenius"
        )
        tight = table[table["statement"] == "eq8_diagonal_tight"]
        assert tight[["rows", "rows_holding"]].to_numpy().tolist() == [[2 * T * 4] * 2]


# In float64 everywhere: these take norms, of the input or of heads, in float32.
EXACT = ("bert", "roberta", "distilbert", "gpt2")


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_jacobians_are_those_of_torchs_own_autograd(name):
    model = model_of(name, attn_implementation="eager" if name in EAGER else "sdpa")
    calls = {}

    def keep(module: Any, inputs: Any, options: Any) -> None:
        calls.setdefault("last", (module, inputs, options))

    with capture_torch_attention(model) as capture:
        modules = dict(model.named_modules())
        hook = modules[last_of(model)].register_forward_pre_hook(keep, with_kwargs=True)
        model(words(1))
        hook.remove()
    layer = next(own for own in capture.layers if own.name == last_of(model))
    module, inputs, options = calls["last"]
    block = modules[layer.name.rpartition(".")[0]]
    form = layer.weights.form
    normed = form is not None and form.input_norm is not None
    norm: Any = next(
        (getattr(block, n) for n in ("input_layernorm", "ln_1") if hasattr(block, n)),
        None,
    )
    options = {k: v for k, v in options.items() if "cache" not in k}

    def run(x: Any) -> Any:
        seen = norm(x) if normed else x
        given = options
        if inputs:
            output = module(seen, *inputs[1:], **given)[0]
        else:
            output = module(**given | {"hidden_states": seen})[0]
        return block.output.dense(output) if name in ("bert", "roberta") else output

    x = torch.tensor(layer.x)
    exact = torch.autograd.functional.jacobian(run, x)[0, :, :, 0]  # (T, O, T, D)
    found = path_jacobians(layer.x[0], layer.weights, score_bias=layer.score_bias)
    tolerance = 1e-9 if name in EXACT else 1e-5
    size = np.abs(exact.numpy()).max()
    np.testing.assert_allclose(
        np.moveaxis(np.asarray(found.total), 1, 2),
        exact.numpy(),
        atol=tolerance * size,
        rtol=0,
    )


def last_of(model: Any) -> str:
    """The name of the last layer's attention."""
    from sensitivity.torch_families import FAMILIES

    return [n for n, m in model.named_modules() if type(m).__name__ in FAMILIES][-1]


def test_a_vision_transformer_is_read():
    torch.manual_seed(0)
    sizes = SIZES | {"intermediate_size": 24, "image_size": 8, "patch_size": 4}
    model = HF.ViTModel(HF.ViTConfig(**sizes)).double().eval()
    with capture_torch_attention(model) as capture:
        model(torch.randn(2, 3, 8, 8, dtype=torch.float64))
    assert capture.refused == {}
    assert [layer.x.shape for layer in capture.layers] == [(2, 5, 16)] * 2
    assert capture.layers[0].weights.form.names == ("input_norm",)


@pytest.mark.parametrize("name", ["bert", "llama", "gpt2"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_no_real_row(name, side):
    model = model_of(name, attn_implementation="sdpa")
    mask = torch.ones(2, T, dtype=torch.long)
    mask[1, slice(0, 2) if side == "left" else slice(T - 2, T)] = 0
    with capture_torch_attention(model) as capture:
        model(words(), attention_mask=mask)
    assert capture.refused == {}
    for layer in capture.layers:
        np.testing.assert_array_equal(layer.rows, mask.bool())


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("before", [False, True])
def test_torchs_own_layers_are_read_inside_its_encoder(first, before):
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(
        8, 2, 16, batch_first=first, norm_first=before
    )
    model = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    model = model.double().eval()
    x = torch.randn(3, T, 8, dtype=torch.float64)
    padding = torch.zeros(3, T, dtype=torch.bool)
    padding[0, 5:] = True
    enabled = torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad(), capture_torch_attention(model) as capture:
        assert not torch.backends.mha.get_fastpath_enabled()
        model(x if first else x.swapaxes(0, 1), src_key_padding_mask=padding)
    assert torch.backends.mha.get_fastpath_enabled() == enabled
    assert capture.refused == {}
    assert [own.x.shape for own in capture.layers] == [(3, T, 8)] * 2
    np.testing.assert_array_equal(capture.layers[0].rows, ~padding)
    np.testing.assert_allclose(capture.layers[0].x, x.numpy())
    form = capture.layers[0].weights.form
    assert (form is not None and form.input_norm is not None) == before


@pytest.mark.parametrize("masked", [False, True])
def test_a_layer_of_torch_with_a_further_step_of_zeros_has_a_sink_of_0(masked):
    torch.manual_seed(0)
    layer = torch.nn.MultiheadAttention(8, 2, add_zero_attn=True).double().eval()
    x = torch.randn(T, 3, 8, dtype=torch.float64)
    mask = torch.randn(T, T, dtype=torch.float64).masked_fill(
        torch.ones(T, T).triu(1).bool(), -np.inf
    )
    with capture_torch_attention(layer) as capture:
        layer(x, x, x, attn_mask=mask if masked else None)
    assert capture.refused == {}
    (seen,) = capture.layers
    assert seen.weights.form.sink.tolist() == [0, 0]
    assert seen.name == ""


def test_half_precision_is_read_as_it_is_rounded():
    model = model_of("llama", attn_implementation="eager").bfloat16()
    with capture_torch_attention(model) as capture:
        model(words())
    assert capture.refused == {}
    kernel = capture.layers[0].weights.query
    assert kernel.dtype == capture.layers[0].x.dtype == np.float32
    rounded = torch.tensor(kernel).bfloat16().float().numpy()
    np.testing.assert_array_equal(kernel, rounded)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_what_cannot_be_read_says_why():
    with pytest.raises(ValueError, match="model must be a torch.nn.Module, got int"):
        capture_torch_attention(3).__enter__()
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    with pytest.raises(ValueError, match=r"it holds Linear, ReLU, Sequential"):
        capture_torch_attention(model).__enter__()
    model = model_of("llama", attention_dropout=0.5)
    with (
        pytest.raises(ValueError, match="no call was seen: call the model itself"),
        capture_torch_attention(model),
    ):
        pass
    with capture_torch_attention(model.train()) as capture:
        model(words())
    assert set(capture.refused.values()) == {
        "its dropout is on: call model.eval() first."
    }
    model.eval()
    with torch.no_grad():
        first = model(words(), use_cache=True)
        with capture_torch_attention(model) as capture:
            model(words()[:, :1], cache=first.cache)
    assert all(
        "from a cache of earlier steps" in why for why in capture.refused.values()
    )
    cross = torch.nn.MultiheadAttention(8, 2).eval()
    with capture_torch_attention(cross) as capture:
        cross(torch.ones(T, 1, 8), torch.zeros(T, 1, 8), torch.zeros(T, 1, 8))
    assert "cross-attention" in capture.refused[""]
    with pytest.raises(ValueError, match="must not be compiled"):
        capture_torch_attention(torch.compile(cross)).__enter__()


def test_a_layer_called_twice_is_recorded_twice():
    layer = torch.nn.MultiheadAttention(8, 2, batch_first=True).double().eval()
    x = torch.randn(1, T, 8, dtype=torch.float64)
    with capture_torch_attention(layer) as capture:
        for _ in range(2):
            layer(x, x, x)
    assert [seen.name for seen in capture.layers] == ["", ""]


def test_hooks_are_removed_after_an_error():
    model = model_of("bert")
    with pytest.raises(RuntimeError, match="mine"), capture_torch_attention(model):
        raise RuntimeError("mine")
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
