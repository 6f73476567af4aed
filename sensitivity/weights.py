"""What a layer is made of: its weights and the bias of its scores, as pytrees."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from sensitivity._arrays import as_array, is_number, is_real
from sensitivity._convert import flax_arrays, torch_arrays
from sensitivity._pytree import pytree
from sensitivity.forms import AttentionForm

if TYPE_CHECKING:
    from flax import nnx


def least_bias(dtype: Any) -> float:
    """The bias that drives a weight to exactly 0 beside an equal score without it."""
    return float(np.log(jnp.finfo(dtype).tiny))


@pytree()
@dataclasses.dataclass(frozen=True)
class AttentionWeights:
    """The arrays of one multi-head attention layer, in Flax's own layout.

    The matrices of the paper are the transposes: ``W^Q x`` is ``x @ query``.

    Attributes:
        query: Query kernel, shape (D, H, K).
        key: Key kernel, shape (D, H, K).
        value: Value kernel, shape (D, H, V).
        out: Output projection, shape (H, V, O). Without it the output of the layer is
            its heads side by side, O = H V; with one head that is the paper's layer.
        query_bias: Shape (H, K), or None.
        key_bias: Shape (H, K), or None.
        value_bias: Shape (H, V), or None.
        out_bias: Shape (O,), or None; refused without ``out``.
        form: What the layer does beside plain softmax attention, such as rotary
            positions or a sink, or None: Jacobians and norms by path know it, bounds do
            not.

    Raises:
        ValueError: If the shapes do not fit together, a list is ragged, ``out_bias``
            is given without ``out``, or ``form`` is none.

    Example:
        >>> import numpy as np
        >>> kernel = np.zeros((16, 4, 8))
        >>> weights = AttentionWeights(query=kernel, key=kernel, value=kernel)
        >>> weights.heads, weights.output_width
        (4, 32)
    """

    query: Any
    key: Any
    value: Any
    out: Any = None
    query_bias: Any = None
    key_bias: Any = None
    value_bias: Any = None
    out_bias: Any = None
    form: AttentionForm | None = None

    def __post_init__(self) -> None:
        """Refuse arrays that cannot be one layer."""
        for field in dataclasses.fields(self):
            given = getattr(self, field.name)
            if field.name != "form" and given is not None:
                object.__setattr__(self, field.name, as_array(field.name, given))
        for name in ("query", "key", "value"):
            shape = np.shape(getattr(self, name))
            if len(shape) != 3 or 0 in shape:
                raise ValueError(
                    f"{name} must have shape (D, H, K), none of them 0, got {shape}."
                )
        (D, H, K), V = np.shape(self.query), np.shape(self.value)[2]
        if self.out is None and self.out_bias is not None:
            raise ValueError("out_bias needs out, which is None.")
        expected: dict[str, tuple[int, ...]] = {
            "key": (D, H, K),
            "value": (D, H, V),
            "query_bias": (H, K),
            "key_bias": (H, K),
            "value_bias": (H, V),
        }
        if self.out is not None:
            shape = np.shape(self.out)
            if len(shape) != 3 or 0 in shape or shape[:2] != (H, V):
                raise ValueError(
                    f"out must have shape (H={H}, V={V}, O), as the value kernel has "
                    f"{H} heads of width {V}; got {shape}."
                )
            expected["out_bias"] = (shape[2],)
        for name, shape in expected.items():
            array = getattr(self, name)
            if array is not None and np.shape(array) != shape:
                raise ValueError(
                    f"{name} must have shape {shape}, as the query kernel has D={D}, "
                    f"H={H}, K={K}; got {np.shape(array)}."
                )
        if self.form is not None:
            if not isinstance(self.form, AttentionForm):
                raise ValueError(
                    f"form must be an AttentionForm, got {type(self.form).__name__}."
                )
            self.form.check(D, H, K, V)

    @property
    def heads(self) -> int:
        """Number of heads H."""
        return self.query.shape[1]

    @property
    def model_width(self) -> int:
        """Width D of the inputs."""
        return self.query.shape[0]

    @property
    def key_width(self) -> int:
        """Width K of a head's queries and keys."""
        return self.query.shape[2]

    @property
    def value_width(self) -> int:
        """Width V of a head's values."""
        return self.value.shape[2]

    @property
    def output_width(self) -> int:
        """Width O of the layer's output; H V without an output projection."""
        return self.heads * self.value_width if self.out is None else self.out.shape[2]

    @property
    def head_output_width(self) -> int:
        """Width of one head's share of the output: O, or V without projection."""
        return self.value_width if self.out is None else self.out.shape[2]

    @classmethod
    def from_flax(cls, module: "nnx.MultiHeadAttention") -> "AttentionWeights":
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
        return cls(**flax_arrays(module))

    @classmethod
    def from_torch(
        cls, state_dict: Mapping[str, Any], num_heads: int, prefix: str = ""
    ) -> "AttentionWeights":
        """Read the state dict of a ``torch.nn.MultiheadAttention``.

        The layer's ``add_zero_attn`` leaves no trace in its state dict: it must be
        False, as is PyTorch's default.

        Args:
            state_dict: Names to arrays: PyTorch tensors, NumPy arrays, or a file of
                them that ``np.load`` opened. What belongs to other layers is left
                alone.
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
        return cls(**torch_arrays(state_dict, num_heads, prefix))


def known_of(diagonal: Any) -> str | None:
    """What is known of a diagonal; nothing where it may forbid."""
    if isinstance(diagonal, Tracer) or not float(diagonal) > -np.inf:
        return None
    return "zero" if float(diagonal) == 0 else "finite"


def _is_mask(array: Any) -> bool:
    """Whether integers are 0 and 1; all zeros add nothing, and are no mask."""
    if isinstance(array, Tracer):
        return False
    array = np.asarray(array)
    return bool(((array == 0) | (array == 1)).all() and array.any())


@pytree(static=("causal", "window", "known"))
@dataclasses.dataclass(frozen=True)
class ScoreBias:
    """What is added to the scores before the softmax; -inf forbids an entry.

    Attributes:
        diagonal: Added where i = j: ``-inf`` is the full diagonal mask, ``-0.1`` the
            paper's penalty.
        causal: Whether row i may attend only to j <= i.
        array: Any further bias that broadcasts to (..., H, T, T), or None. A mask is
            ``np.where(mask, 0, -np.inf)``, True where attention is allowed; one per
            sample has an axis of heads, (B, 1, T, T).
        window: A sliding window: row i may attend to the steps that are less than so
            many away, its own among them; None for all.
        slopes: ALiBi: what a step of distance takes off a score, -slope |i - j|, one
            number for each head, shape (H,); None for nothing.

    Raises:
        ValueError: If ``diagonal`` is not one number, or NaN or positive infinity,
            ``causal`` is not a bool, ``array`` holds no real numbers, or is a mask of
            booleans, or of integers 0 and 1, ``window`` is no integer of at least 1, or
            ``slopes`` no vector of finite numbers.

    Example:
        >>> ScoreBias(diagonal=-0.1).causal
        False
    """

    diagonal: Any = 0.0
    causal: bool = False
    array: Any = None
    window: int | None = None
    slopes: Any = None
    # Positions (G, R) of query rows that share a step, where the toolkit knows them.
    row_groups: Any = dataclasses.field(
        default=None, init=False, repr=False, compare=False
    )
    # What is known of the diagonal beforehand: "zero", "finite", or nothing. Of the
    # toolkit's own copies only: whoever maps over the leaves may change it.
    known: Any = dataclasses.field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse values that are no score bias."""
        if not isinstance(self.causal, bool | np.bool_):
            raise ValueError(f"causal must be True or False, got {self.causal!r}.")
        object.__setattr__(self, "causal", bool(self.causal))
        if not is_number(self.diagonal):
            raise ValueError(
                f"diagonal must be one number, got {self.diagonal!r}; -np.inf is the "
                "full mask, and array is for more."
            )
        if not isinstance(self.diagonal, Tracer) and not (
            float(self.diagonal) < np.inf
        ):
            raise ValueError(
                f"diagonal must be finite or -inf, got {float(self.diagonal)}."
            )
        if self.window is not None:
            whole = isinstance(self.window, int | np.integer)
            if not whole or isinstance(self.window, bool) or self.window < 1:
                raise ValueError(
                    "window must be an integer number of steps, at least 1, got "
                    f"{self.window!r}."
                )
            object.__setattr__(self, "window", int(self.window))
        if self.slopes is not None:
            slopes = as_array("slopes", self.slopes)
            if not is_real(slopes.dtype) or np.ndim(slopes) > 1:
                raise ValueError(
                    "slopes must be numbers, one for each head, got "
                    f"{slopes.dtype} of shape {np.shape(slopes)}."
                )
            object.__setattr__(self, "slopes", slopes)
        if self.array is not None:
            array = as_array("array", self.array)
            if array.dtype == bool:
                raise ValueError(
                    "array must hold numbers that are added to the scores, got "
                    "booleans; for a mask that is True where attention is allowed use "
                    "np.where(mask, 0, -np.inf)."
                )
            if not is_real(array.dtype):
                raise ValueError(f"array must hold real numbers, got {array.dtype}.")
            if jnp.issubdtype(array.dtype, np.integer) and _is_mask(array):
                raise ValueError(
                    "array must hold numbers that are added to the scores, got a mask "
                    "of integers 0 and 1; where 1 allows attention use np.where(mask, "
                    "0.0, -np.inf)."
                )
            object.__setattr__(self, "array", array)

    @property
    def forbids(self) -> bool:
        """Whether it may forbid an entry; only a constant one surely does not."""
        if self.causal or self.array is not None or self.window is not None:
            return True
        return (self.known or known_of(self.diagonal)) is None

    @property
    def is_nothing(self) -> bool:
        """Whether it surely adds nothing and forbids nothing."""
        if self.slopes is not None:
            return False
        return not self.forbids and (self.known or known_of(self.diagonal)) == "zero"

    def rows(
        self, rows: Int[Array, " R"], T: int, dtype: Any
    ) -> tuple[Float[Array, "*batch R #T"], Bool[Array, "*batch R T"]]:
        """The finite bias of query rows i, and whether they may attend to step j."""
        same = rows[:, None] == jnp.arange(T)
        bias = jnp.where(same, jnp.asarray(self.diagonal, dtype), jnp.zeros((), dtype))
        if self.array is not None:
            array = jnp.asarray(self.array, dtype)
            array = array.reshape((1,) * max(0, 2 - array.ndim) + array.shape)
            bias += array if array.shape[-2] == 1 else jnp.take(array, rows, axis=-2)
        away = rows[:, None] - jnp.arange(T)
        if self.slopes is not None:
            slopes = jnp.asarray(self.slopes, dtype)[..., None, None]
            bias = bias - slopes * jnp.abs(away).astype(dtype)
        allowed = bias > -jnp.inf
        bias = jnp.where(allowed, bias, jnp.zeros((), dtype))
        if self.causal:
            allowed &= away >= 0
        if self.window is not None:
            allowed &= jnp.abs(away) < self.window
        return bias, allowed

    def with_array(self, array: Any) -> "ScoreBias":
        """The same with another array.

        Args:
            array: The array.

        Returns:
            The bias, of whose rows nothing is known.
        """
        return dataclasses.replace(self, array=array)
