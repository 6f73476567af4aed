"""Where the attention of PyTorch models keeps what a layer is made of, class by class.

A model of another family is read by an entry of its own::

    FAMILIES["MyAttention"] = Family(
        query="q_proj", key="k_proj", value="v_proj", out="o_proj", rotary=True
    )
"""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One class of attention modules.

    Paths lead from the module to a part of it, ``..`` in front to what holds it:
    ``..output.dense`` is beside it. What does not exist in a module is not used by it.

    Attributes:
        query: The projection of queries, a linear module.
        key: That of keys, of as many heads or fewer, which are shared.
        value: That of values.
        out: The projection of the heads' outputs, whose output the layer's is.
        stacked: Whether the first three are one module, the thirds of its output.
        transposed: Whether kernels lie (inputs, outputs), as GPT-2's.
        width: Attribute that holds the width of a head.
        scale: Attribute that holds what scores are multiplied by.
        cap: Attribute that holds the cap of scores, None where there is none.
        window: Attribute that holds the width of a sliding window, likewise.
        sinks: The logits of a sink, one for each head.
        query_norm: A norm of the queries of every head.
        key_norm: A norm of the keys.
        input_norm: The norm of the block before the layer.
        rotary: Whether queries and keys are turned by the pair of tables that the
            module is called with, ``position_embeddings``, in halves.
        residual: Whether the block's input is added to the layer's output as it is;
            False where a norm stands between.
    """

    query: str
    key: str
    value: str
    out: str
    stacked: bool = False
    transposed: bool = False
    width: str = "head_dim"
    scale: str = "scaling"
    cap: str = "attn_logit_softcapping"
    window: str = "sliding_window"
    sinks: str = "sinks"
    query_norm: str = "q_norm"
    key_norm: str = "k_norm"
    input_norm: str = ""
    rotary: bool = False
    residual: bool = True


_BERT = Family(
    query="query",
    key="key",
    value="value",
    out="..output.dense",
    width="attention_head_size",
)
_LLAMA = Family(
    query="q_proj",
    key="k_proj",
    value="v_proj",
    out="o_proj",
    input_norm="..input_layernorm",
    rotary=True,
)
_GEMMA_2 = dataclasses.replace(_LLAMA, residual=False)  # a norm before the sum

FAMILIES: dict[str, Family] = {
    "BertSelfAttention": _BERT,
    "RobertaSelfAttention": _BERT,
    "DistilBertSelfAttention": Family(
        query="q_lin",
        key="k_lin",
        value="v_lin",
        out="out_lin",
        width="attention_head_size",
    ),
    "ViTAttention": dataclasses.replace(
        _LLAMA, rotary=False, input_norm="..layernorm_before"
    ),
    "GPT2Attention": Family(
        query="c_attn",
        key="c_attn",
        value="c_attn",
        out="c_proj",
        stacked=True,
        transposed=True,
        input_norm="..ln_1",
    ),
    "LlamaAttention": _LLAMA,
    "MistralAttention": _LLAMA,
    "Qwen2Attention": _LLAMA,
    "Qwen3Attention": _LLAMA,
    "GemmaAttention": _LLAMA,
    "Gemma2Attention": _GEMMA_2,
    "Gemma3Attention": _GEMMA_2,
    "GptOssAttention": _LLAMA,
}
