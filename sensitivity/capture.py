"""The true input of every attention layer inside a Flax model, on a user's batch.

``nnx.capture`` and ``sow`` give what layers return, never what they are given. Here the
class's own call is wrapped for as long as a ``with`` block lasts.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from sensitivity._inputs import is_traced
from sensitivity._row_groups import empty_rows
from sensitivity.attention import attend
from sensitivity.captured import Capture
from sensitivity.layer_input import LayerInput
from sensitivity.weights import AttentionWeights, ScoreBias

if TYPE_CHECKING:
    from flax import nnx

# Of the largest output, by its dtype: Flax takes its softmax in float32 at most.
_TOLERANCE = {"float64": 1e-5, "float32": 1e-4}
_COARSE = 3e-2  # bfloat16 and float16

_UNSEEN = (
    "call the model itself, not a copy (nnx.jit, nnx.grad, nnx.scan and nnx.merge make "
    "copies), and not what jax.jit has compiled; and where a subclass has a call of "
    "its own, that must go through nnx.MultiHeadAttention's."
)
_TRACED = "it was called under jit or another transformation."


CapturedLayer = LayerInput  # its name in version 0.1.0


@contextlib.contextmanager
def capture_attention(model: "nnx.Module") -> Iterator[Capture]:
    """Record what every ``nnx.MultiHeadAttention`` of a model is given.

    Of a batch of unequal lengths under ``nnx.make_attention_mask(real, real)`` judge
    the real rows: ``check_bounds(..., rows=layer.rows)``.

    Call the model inside the block, in evaluation and not under ``jit``; on a GPU under
    ``jax.default_matmul_precision("highest")``. The output is computed again from what
    was recorded and must be the layer's. A call that cannot be analysed (dropout that
    is on, cross-attention, a decoder's cache), and a layer that is never called, is not
    recorded but named in ``refused``. The class's call is restored whatever happens.
    Blocks may be nested. Not for use in several threads at once.

    Args:
        model: The model, whose layers are named by their path in it.

    Yields:
        What has been recorded so far.

    Raises:
        ValueError: If the model has no such layer, or, at the end of the block, if no
            call of one was seen, or all under ``jit`` or another transformation.

    Example:
        >>> import numpy as np
        >>> from flax import nnx
        >>> from sensitivity import check_bounds
        >>> layer = nnx.MultiHeadAttention(
        ...     num_heads=2, in_features=8, decode=False, rngs=nnx.Rngs(0)
        ... )
        >>> model = nnx.Sequential(nnx.Linear(3, 8, rngs=nnx.Rngs(1)), layer)
        >>> with capture_attention(model) as capture:
        ...     _ = model(np.random.default_rng(0).normal(size=(5, 12, 3)))
        >>> seen = capture.layers[0]
        >>> seen.name, seen.x.shape
        ('layers.1', (5, 12, 8))
        >>> table = check_bounds(seen.x, seen.weights, score_bias=seen.score_bias)
        >>> int(table.set_index("statement").loc["eq8_off_diagonal", "rows"])
        120
    """
    from flax import nnx

    attention: Any = nnx.MultiHeadAttention
    layers = {
        ".".join(map(str, path)): module  # held here, so that an id stays one layer's
        for path, module in nnx.iter_graph(model)
        if isinstance(module, attention)
    }
    names = {id(module): name for name, module in layers.items()}
    if not names:
        raise ValueError(
            f"model must hold an nnx.MultiHeadAttention, got a {type(model).__name__} "
            "without one."
        )
    capture, original = Capture(), attention.__call__

    @functools.wraps(original)
    def recorded(module: Any, *inputs: Any, **options: Any) -> Any:
        output = original(module, *inputs, **options)
        if (name := names.get(id(module))) is not None:
            try:
                capture.layers.append(_read(name, module, inputs, options, output))
            except ValueError as error:
                capture.refused[name] = str(error)
        return output

    attention.__call__ = recorded
    try:
        yield capture
    finally:
        attention.__call__ = original
    if not capture.layers and not capture.refused:
        raise ValueError(
            f"model must be called inside the block, but no call was seen: {_UNSEEN}"
        )
    if not capture.layers and {*capture.refused.values()} == {_TRACED}:
        raise ValueError(
            "model must be called outside jax.jit and other transformations, which "
            "show a layer no numbers: of every layer inside the block, " + _TRACED
        )
    seen = {layer.name for layer in capture.layers}
    for name in layers:
        if name not in seen:
            capture.refused.setdefault(name, f"no call of it was seen: {_UNSEEN}")


def capture_torch_attention(model: Any) -> "contextlib.AbstractContextManager[Capture]":
    """Record what every attention layer of a PyTorch model is given.

    Args:
        model: The model, a ``torch.nn.Module``.

    Returns:
        `sensitivity.torch_capture.capture_torch_attention` of it, which says more.
    """
    from sensitivity.torch_capture import capture_torch_attention as capture

    return capture(model)


def _read(
    name: str, module: Any, inputs: tuple, options: dict[str, Any], output: Any
) -> LayerInput:
    """One call as a layer; an error if it is not plain self-attention in evaluation."""
    given = dict(zip(("inputs_q", "inputs_k", "inputs_v"), inputs, strict=False))
    given |= options
    x = given["inputs_q"]
    others = [given.get(key) for key in ("inputs_k", "inputs_v")]
    if is_traced((x, output)):
        raise ValueError(_TRACED)
    if any(other is not None and not _same(other, x) for other in others):
        raise ValueError("it is cross-attention: keys have another input than queries.")
    decode, deterministic = given.get("decode"), given.get("deterministic")
    if module.decode if decode is None else decode:
        raise ValueError("it decodes step by step, from a cache of earlier steps.")
    if module.dropout_rate > 0 and not (
        module.deterministic if deterministic is None else deterministic
    ):
        raise ValueError("its dropout is on: call model.eval() first.")
    weights = AttentionWeights.from_flax(module)
    bias, rows = _score_bias(given, np.shape(x))
    # As the layer rounds them: sharp attention is another one in another dtype.
    x, weights = jax.tree.map(lambda a: jnp.asarray(a, output.dtype), (x, weights))
    again = np.asarray(attend(x, x, x, weights, bias), np.float64)
    seen = np.asarray(output, np.float64)
    if again.shape != seen.shape:
        raise ValueError(f"it returned shape {seen.shape}, not {again.shape}.")
    if rows is not None:
        again, seen = again[rows], seen[rows]
    allowed = _TOLERANCE.get(str(output.dtype), _COARSE) * np.abs(seen).max()
    if not np.abs(again - seen).max() <= allowed:
        raise ValueError(
            "its output is not that of its weights, input and mask: off by "
            f"{np.abs(again - seen).max():.2g} where {allowed:.2g} is rounding (on a "
            'GPU only under jax.default_matmul_precision("highest")).'
        )
    return LayerInput(
        x=np.array(x),
        weights=weights,
        score_bias=bias,
        residual=weights.output_width == weights.model_width,
        name=name,
        output=np.array(output),
        rows=rows,
    )


def _same(one: Any, other: Any) -> bool:
    return one is other or (
        np.shape(one) == np.shape(other)
        and bool((np.asarray(one) == np.asarray(other)).all())
    )


def _score_bias(
    given: dict[str, Any], shape: tuple[int, ...]
) -> tuple[ScoreBias, Bool[np.ndarray, "*batch T"] | None]:
    """The masks of a call, and the rows that some head leaves something, if not all."""
    mask, causal = given.get("mask"), bool(given.get("is_causal", False))
    if mask is None:
        return ScoreBias(causal=causal), None
    array = np.where(np.asarray(mask) != 0, 0.0, -np.inf)
    bias, T = ScoreBias(causal=causal, array=array), shape[-2]
    empty = empty_rows(bias, T)
    if not empty.any():
        return bias, None
    # Beside such a number scores are rounded away: all steps alike, as in Flax.
    allowed = array > -np.inf
    if causal:
        allowed = allowed & np.tri(T, dtype=bool)
    low = float(np.finfo(np.float32).min) / 2
    array = np.where(empty[..., None], low, np.where(allowed, 0.0, -np.inf))
    empty = empty if empty.ndim == 1 else empty.all(-2)
    return ScoreBias(array=array), np.broadcast_to(~empty, shape[:-1])
