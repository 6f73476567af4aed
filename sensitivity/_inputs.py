"""How the public functions take their input: checked, and converted once.

The dtype of a computation is the widest of ``x`` and the weights, at least float32.
float64 is computed in float64 whatever JAX's global setting; where that setting is off
the results come back as NumPy arrays, since JAX itself would round them. Matrix
products run at full precision (no TF32). Under a transformation (jit, vmap) the values
cannot be checked and are not, and the precision is JAX's own.

What is refused is said in a sentence: argument, rule, value.
"""

import contextlib
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Bool

from sensitivity._arrays import as_array
from sensitivity._row_groups import empty_rows as rows_without_steps
from sensitivity._row_groups import with_row_groups
from sensitivity._waiting import told_when_long
from sensitivity._windows import Slices, slices_of
from sensitivity.arguments import ArgumentError
from sensitivity.forms import AttentionForm
from sensitivity.weights import AttentionWeights, ScoreBias

Result = TypeVar("Result")
EmptyRows = Literal["error", "skip"]  # rows with nothing to attend to
# The parts of a form that bounds are derived for.
BOUNDED = frozenset(AttentionForm.PARTS) - {"norm_scale"}


def run(
    function: Callable[[Any, AttentionWeights, ScoreBias], Result],
    x: Any,
    weights: AttentionWeights,
    score_bias: ScoreBias | None,
    empty_rows: EmptyRows | None = None,
    words: str = "attention",
    forms: bool | frozenset[str] = False,
) -> Result:
    """Call a function of a layer on checked arrays of one dtype."""
    # empty_rows: None where the caller leaves no choice: an error. words: what it is.
    # forms: whether it knows what to make of a form, or of which parts of one.
    check_weights(weights)
    if weights.form is not None and forms is not True:
        known = forms or frozenset()
        if unknown := [name for name in weights.form.names if name not in known]:
            raise ValueError(
                f"weights.form must not have {', '.join(unknown)} for {words}: no "
                "statement is derived here for it."
            )
    own = as_score_bias(score_bias)
    x = as_array("x", x)
    check_inputs("x", x, weights)
    check_bias(own, x, weights)
    dtype = widest((x, weights))
    given = (x, weights, own)
    traced = is_traced(given)
    double = needs_float64(dtype)
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.default_matmul_precision("highest"))
        if traced:
            dtype = np.dtype(np.float32) if double else dtype
        else:
            _check_bias(own, dtype)
            if empty_rows != "skip":
                _check_rows(np.shape(x)[-2], own, empty_rows is not None)
            given = jax.tree.map(lambda a: np.asarray(a).astype(dtype), given)
            _check_finite(*given[:2])
            _check_sizes(given[1])
            if double:
                stack.enter_context(jax.enable_x64(True))
        x, weights, bias = jax.tree.map(lambda a: jnp.asarray(a, dtype), given)
        bias = with_row_groups(bias, own, np.shape(x)[-2], dtype)
        if traced:
            return function(x, weights, bias)
        size = f"x {np.shape(x)}, {weights.heads} head(s), {dtype.name}"
        with told_when_long(f"{words} of {size}"):
            result = _within_memory(lambda: function(x, weights, bias))
    for field in jax.tree.leaves(result):
        if not np.isfinite(np.asarray(field)).all():
            raise ValueError(
                "x, weights and score_bias must be small enough for the norms to be "
                f"finite in {dtype.name}; some overflow."
            )
    return jax.tree.map(np.asarray, result) if double else result


def run_forward(
    function: Callable[..., Any],
    x: tuple[Any, Any, Any],
    weights: AttentionWeights,
    score_bias: ScoreBias,
    weight_factor: Any,
) -> Any:
    """Call the layer itself on checked inputs, in the dtype its arrays have."""
    # Arrays of one dtype are computed in it, others in the widest. Under a
    # transformation nothing is cast, and no value checked.
    given = (*x, weights, score_bias, weight_factor)
    if is_traced(given):
        return function(*given)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((x, weights))}
    one = len(dtypes) == 1 and jnp.issubdtype(min(dtypes, key=str), jnp.floating)
    dtype = np.dtype(dtypes.pop()) if one else widest((x, weights))
    _check_bias(score_bias, dtype)
    _check_rows(np.shape(x[0])[-2], score_bias)
    if not needs_float64(dtype):
        return function(*jax.tree.map(lambda a: jnp.asarray(a, dtype), given))
    with jax.enable_x64(True):
        given = jax.tree.map(lambda a: jnp.asarray(a, dtype), given)
        return np.asarray(function(*given))


def in_slices(
    x: Any,
    weights: AttentionWeights,
    score_bias: ScoreBias | None,
    empty_rows: EmptyRows,
) -> Slices | None:
    """A long input under a sliding window as slices; None where it is none."""
    check_weights(weights)
    bias, x = as_score_bias(score_bias), as_array("x", x)
    check_inputs("x", x, weights)
    check_bias(bias, x, weights)
    slices = slices_of(x, weights, bias)
    if slices is not None and empty_rows == "error" and not is_traced((x, bias)):
        _check_rows(np.shape(x)[-2], bias, advise=True)
    return slices


def judged_rows(
    x: Any,
    weights: AttentionWeights,
    score_bias: ScoreBias | None,
    rows: Any,
    empty_rows: EmptyRows,
) -> Bool[np.ndarray, "*batch T"]:
    """The query rows to judge, checked; what is left out may be empty."""
    check_weights(weights)
    bias, x = as_score_bias(score_bias), as_array("x", x)
    check_inputs("x", x, weights)
    check_bias(bias, x, weights)
    _check_bias(bias, widest((x, weights)))
    shape, T = np.shape(x)[:-1], np.shape(x)[-2]
    chosen = np.asarray(as_array("rows", True if rows is None else rows))
    try:
        fits = np.broadcast_shapes(chosen.shape, shape) == shape
    except ValueError:
        fits = False
    if chosen.dtype != bool or not fits:
        raise ArgumentError(
            "rows",
            f"must be booleans that broadcast to (..., T) = {shape}, True where a "
            f"query row is judged; got {chosen.dtype} of shape {chosen.shape}.",
        )
    if not chosen.any():
        raise ArgumentError("rows", "must select at least one query row, got none.")
    chosen = np.broadcast_to(chosen, shape)
    if empty_rows == "error":
        _check_rows(T, bias, advise=True, rows=chosen)
    empty = rows_without_steps(bias, T)
    if (empty | ~chosen[..., None, :]).all():
        raise ValueError("score_bias leaves no row that is judged anything to attend.")
    return chosen


def _within_memory(compute: Callable[[], Result]) -> Result:
    """Run, waiting for the result: a device that is full is one line of advice."""
    try:
        return jax.block_until_ready(compute())
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        message = "must be lower: the device ran out of memory."
        raise ArgumentError("max_memory", message) from None


def is_traced(given: Any) -> bool:
    """Whether an array of a pytree is a placeholder of a transformation."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(given))


def needs_float64(dtype: np.dtype) -> bool:
    """Whether a dtype is float64 while JAX is set to float32."""
    return dtype == np.float64 and not jax.config.read("jax_enable_x64")


def widest(arrays: Any) -> np.dtype:
    """The widest dtype of inputs and weights: float32 or float64."""
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(arrays)]
    half = (np.dtype(np.float16), np.dtype(jnp.bfloat16))  # integers share none with it
    wide = [dtype for dtype in dtypes if dtype not in half]
    try:
        dtype = np.result_type(np.float32, *wide)
    except TypeError:
        dtype = np.dtype(object)
    if dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(
            "x and weights must hold real numbers of at most float64, got "
            f"{sorted({str(name) for name in dtypes})}."
        )
    return dtype


def as_score_bias(score_bias: ScoreBias | None) -> ScoreBias:
    """The bias; none at all where None is given."""
    if score_bias is None:
        return ScoreBias()
    if not isinstance(score_bias, ScoreBias):
        raise ValueError(
            f"score_bias must be a ScoreBias, got {type(score_bias).__name__}; an "
            "array goes into ScoreBias(array=...)."
        )
    return score_bias


def check_weights(weights: object) -> None:
    """Refuse what is no layer."""
    if not isinstance(weights, AttentionWeights):
        raise ValueError(
            "weights must be an AttentionWeights and comes after the inputs, got "
            f"{type(weights).__name__}; arrays go into AttentionWeights(query=..., "
            "key=..., value=...)."
        )


def check_inputs(name: str, x: Any, weights: AttentionWeights) -> None:
    """Refuse inputs of another width than the layer's, and empty ones."""
    if np.ndim(x) < 2 or np.shape(x)[-1] != weights.model_width:
        raise ValueError(
            f"{name} must have shape (..., T, D={weights.model_width}), as the layer "
            f"takes inputs of that width; got {np.shape(x)}."
        )
    if 0 in np.shape(x):
        raise ValueError(
            f"{name} must have at least one of everything, got {np.shape(x)}."
        )
    if weights.form is not None:
        (D, H, K), V = np.shape(weights.query), weights.value_width
        weights.form.check(D, H, K, V, np.shape(x)[-2])


def check_bias(score_bias: ScoreBias, x: Any, weights: AttentionWeights) -> None:
    """Refuse a bias that does not fit the inputs and the layer."""
    if score_bias.array is not None:
        check_table("score_bias.array", score_bias.array, x, weights)
    if score_bias.slopes is not None:
        shape, H = np.shape(score_bias.slopes), weights.heads
        if shape not in ((), (1,), (H,)):
            raise ValueError(
                f"score_bias.slopes must have shape ({H},), one for each head, got "
                f"{shape}."
            )


def check_table(name: str, table: Any, x: Any, weights: AttentionWeights) -> None:
    """Refuse a table of pairs of steps that does not fit the inputs."""
    *batch, T, _ = np.shape(x)
    full, shape = (*batch, weights.heads, T, T), np.shape(table)
    leading = shape[:-2]
    # Without an axis of heads its leading axes are those of samples.
    by_sample = 0 < len(leading) <= len(batch) and all(
        size == own for size, own in zip(leading[::-1], batch[::-1], strict=False)
    )
    if by_sample and leading[-1] > 1:
        heads = (*leading, 1, *shape[-2:])
        also = leading[-1] == weights.heads
        raise ValueError(
            f"{name} of shape {shape} "
            + ("may mean samples or heads" if also else "has no axis of heads")
            + f" beside x of shape {np.shape(x)}: it must be reshaped to {heads} for "
            "a table per sample"
            + (f", to {(1, *shape)} for one per head." if also else ".")
        )
    try:
        fits = np.broadcast_shapes(shape, full) == full
    except ValueError:
        fits = False
    if not fits:
        advice = ""
        if shape == (*batch, T):
            advice = "; of a mask of keys per sample take mask[..., None, None, :]"
        raise ValueError(
            f"{name} must broadcast to (..., H, T, T) = {full}, got shape "
            f"{shape}{advice}."
        )


def _refuse(name: str, array: np.ndarray, rule: Callable, words: str) -> None:
    """Refuse an array that breaks a rule, with the first place where it does."""
    good = np.asarray(rule(array))
    if not good.all():
        place = tuple(int(i) for i in np.argwhere(~good)[0])
        where = f"at index {place} it is" if place else "got"
        raise ValueError(f"{name} must be {words}; {where} {array[place]}.")


def _check_finite(x: Any, weights: AttentionWeights) -> None:
    _refuse("x", np.asarray(x), np.isfinite, "finite everywhere")
    for path, array in jax.tree.leaves_with_path(weights):
        name = f"weights{jax.tree_util.keystr(path)}"
        _refuse(name, np.asarray(array), np.isfinite, "finite everywhere")


def _check_sizes(weights: AttentionWeights) -> None:
    """Refuse heads whose values are so small that their norms would be lost."""
    # Squares are taken in units of their own, so that they never vanish, but a norm
    # needs digits above the smallest number of the dtype. A head of zeros is one.
    kernel = np.asarray(weights.value)
    least = np.finfo(kernel.dtype).tiny / np.finfo(kernel.dtype).eps
    sizes = np.abs(kernel).max((0, 2)).astype(np.float64)
    zero = sizes == 0
    name = "weights.value"
    if weights.out is not None:
        outputs = np.abs(np.asarray(weights.out)).max((1, 2))
        sizes, zero = sizes * outputs, zero | (outputs == 0)
        name = "weights.value times weights.out"
    small = ~zero & (sizes < least)
    if small.any():
        n = int(np.argmax(small))
        raise ValueError(
            f"{name} must be 0 or reach {least:.2g} in every head for its norms to "
            f"keep their digits in {kernel.dtype}; in head {n} it reaches "
            f"{sizes[n]:.2g}: set it to 0, or scale it up."
        )


def _check_bias(score_bias: ScoreBias, dtype: np.dtype) -> None:
    """Refuse biases that are no numbers in a dtype."""
    for name in ("diagonal", "array", "slopes"):
        if (given := getattr(score_bias, name)) is None:
            continue
        given = np.asarray(given)
        name = f"score_bias.{name}"
        _refuse(name, given, lambda a: a < np.inf, "finite or -inf everywhere")
        with np.errstate(over="ignore"):
            inside = np.isfinite(given.astype(dtype)) | ~np.isfinite(given)
        words = f"finite in {dtype.name} too (-np.inf forbids an entry)"
        _refuse(name, given, lambda _, inside=inside: inside, words)


def _check_rows(
    T: int, score_bias: ScoreBias, advise: bool = False, rows: Any = None
) -> None:
    """Refuse a bias that leaves a row, of those that count, nothing to attend to."""
    empty = rows_without_steps(score_bias, T)
    if rows is not None:
        empty = empty & (rows if empty.ndim == 1 else rows[..., None, :])
    if not empty.any():
        return
    place = tuple(int(i) for i in np.argwhere(empty)[0])
    why = f" (index {place[:-1]} of its leading axes)" if place[:-1] else ""
    if score_bias.array is None:
        why = ": the diagonal is masked and " + (
            "T = 1" if T == 1 else "the mask is causal; drop one of them"
        )
    if advise:
        why += "; empty_rows='skip' leaves such rows out"
    raise ValueError(f"score_bias leaves row i={place[-1]} nothing to attend to{why}.")
