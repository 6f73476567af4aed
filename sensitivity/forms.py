"""What an attention layer does beside plain softmax attention."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sensitivity._arrays import as_array, is_number
from sensitivity._cpu_products import inner_products
from sensitivity._pytree import pytree
from sensitivity.layer_norm import LayerNorm
from sensitivity.rotary import Rotary

_ARRAYS = ("sink", "gain", "added", "norm_scale")
_NORMS = ("input_norm", "query_norm", "key_norm")
# What leaves the weights the softmax of the scores.
_SOFTMAX = {"norm_scale", "scale", "cap", "rotary", *_NORMS}


@pytree(static=("norm_epsilon", "scale", "cap"))
@dataclasses.dataclass(frozen=True)
class AttentionForm:
    r"""How queries, keys and scores are made, and what is done behind the softmax.

    .. math:: y_i = \mathrm{norm}(x_i), \quad
        q_i = R_i\, \mathrm{norm}(W^Q y_i + b^Q), \quad
        k_j = R_j\, \mathrm{norm}(W^K y_j + b^K), \quad
        s_{ij} = \mathrm{cap}(\lambda\, q_i \cdot k_j) + m_{ij}

    .. math:: f_{ij} = \frac{e^{s_{ij}}}{e^b + \sum_m e^{s_{im}}}, \qquad
        \alpha_{ij} = g f_{ij} + \ell_{ij}, \qquad
        h_i = \mathrm{norm}\Big(\sum_j \alpha_{ij} v_j\Big)

    with :math:`\mathrm{cap}(s) = c \tanh(s / c)`, and :math:`\mathrm{norm}(h) = \lambda
    \odot h / \sqrt{\mathrm{mean}(h^2) + \epsilon}` of attended values. What is None is
    left out: no norm, R = 1, :math:`\lambda = 1/\sqrt{K}`, no cap, b, g = 1, l = 0.

    Attributes:
        sink: Logit b of a further entry of every row that has no value, one per head,
            shape (H,): rows add up to less than 1. 0 is the softmax with an extra 1.
        gain: Factor g of the softmax, one per head, shape (H,).
        added: Weights l that are added to it, whatever the input, shape (H, T, T).
        norm_scale: Scale of the norm of each head's attended values, shape (V,), which
            all heads share.
        norm_epsilon: What that norm adds to the mean square.
        input_norm: The norm before the layer, of width D, as in pre-norm blocks ``x +
            attention(norm(x))``: Jacobians are with respect to x, where a residual's
            identity stands too.
        query_norm: A norm of the queries of every head, of width K, before positions.
        key_norm: A norm of its keys.
        rotary: Rotary positions of queries and keys.
        scale: What scores are multiplied by; by default 1/sqrt(K).
        cap: The c of a soft cap of scores.

    Raises:
        ValueError: If nothing is given, ``norm_epsilon`` is negative, ``scale`` is no
            number, ``cap`` is not positive, or a part is none of its type.

    Example:
        >>> AttentionForm(sink=np.zeros(2)).names
        ('sink',)

    References:
        Miller, `Attention is off by one
        <https://www.evanmiller.org/attention-is-off-by-one.html>`_, 2023, and Xiao et
        al., arXiv 2309.17453 (``sink``); He et al., arXiv 2102.03147 (``gain`` and
        ``added``); Li et al., arXiv 2605.06611 (``norm_scale``); Xiong et al., arXiv
        2002.04745 (``input_norm``); Henry et al., arXiv 2010.04245 (``query_norm``);
        Su et al., arXiv 2104.09864 (``rotary``); Gemma 2, arXiv 2408.00118 (``cap``).
    """

    PARTS: ClassVar = (*_ARRAYS, *_NORMS, "rotary", "scale", "cap")
    sink: Any = None
    gain: Any = None
    added: Any = None
    norm_scale: Any = None
    norm_epsilon: float = 1e-6
    input_norm: LayerNorm | None = None
    query_norm: LayerNorm | None = None
    key_norm: LayerNorm | None = None
    rotary: Rotary | None = None
    scale: float | None = None
    cap: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is no form."""
        for name in _ARRAYS:
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, as_array(name, given))
        if not self.names:
            raise ValueError("a form must do something, got None everywhere.")
        if not self.norm_epsilon >= 0:
            raise ValueError(
                f"norm_epsilon must not be negative, got {self.norm_epsilon}."
            )
        types = {name: LayerNorm for name in _NORMS} | {"rotary": Rotary}
        for name, own in types.items():
            if not isinstance(given := getattr(self, name), own | None):
                raise ValueError(
                    f"{name} must be a {own.__name__}, got {type(given).__name__}."
                )
        for name in ("scale", "cap"):
            if (given := getattr(self, name)) is None:
                continue
            if not is_number(given) or not np.isfinite(given):
                raise ValueError(f"{name} must be a finite number, got {given!r}.")
            object.__setattr__(self, name, float(given))
        if self.cap is not None and not self.cap > 0:
            raise ValueError(f"cap must be positive, got {self.cap}.")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of what is given."""
        return tuple(name for name in self.PARTS if getattr(self, name) is not None)

    @property
    def is_softmax(self) -> bool:
        """Whether the weights are the softmax of the scores, and add up to 1."""
        return {*self.names} <= _SOFTMAX

    @property
    def is_bilinear(self) -> bool:
        """Whether scores are x_i^T W_QK x_j, but for biases."""
        return not {*self.names} & {"cap", "rotary", *_NORMS}

    def check(self, D: int, H: int, K: int, V: int, T: int | None = None) -> None:
        """Refuse arrays that do not fit a layer.

        Args:
            D: Its width.
            H: Number of heads.
            K: Width of their queries and keys.
            V: Width of their values.
            T: Number of steps, where it is known.

        Raises:
            ValueError: Naming the array and its shape.
        """
        shapes: dict[str, tuple[int, ...]] = {
            "sink": (H,),
            "gain": (H,),
            "norm_scale": (V,),
        }
        if self.added is not None:
            steps = np.shape(self.added)[-1] if T is None else T
            shapes["added"] = (H, steps, steps)
        for name, expected in shapes.items():
            given = getattr(self, name)
            if given is not None and (shape := np.shape(given)) != expected:
                raise ValueError(
                    f"form.{name} must have shape {expected}, got {shape}."
                )
        for name, width in zip(_NORMS, (D, K, K), strict=True):
            if (norm := getattr(self, name)) is not None:
                norm.check(f"form.{name}", width)
        if self.rotary is not None:
            self.rotary.check(K, T)

    def rate(self, K: int) -> float:
        """What products of queries and keys of width K are multiplied by."""
        return K**-0.5 if self.scale is None else self.scale

    def scores(
        self, q: Float[Array, "*batch R K"], k: Float[Array, "*batch T K"]
    ) -> Float[Array, "*batch R T"]:
        """Products of queries and keys, scaled and capped."""
        found = inner_products(q * self.rate(k.shape[-1]), k)
        return found if self.cap is None else self.cap * jnp.tanh(found / self.cap)

    def score_slopes(
        self, q: Float[Array, "*batch R K"], k: Float[Array, "*batch T K"]
    ) -> Float[Array, "*batch R T"]:
        """What a product of query and key is multiplied by where they move."""
        rate = self.rate(k.shape[-1])
        products = inner_products(q * rate, k)
        if self.cap is None:
            return jnp.full_like(products, rate)
        return rate / jnp.cosh(products / self.cap) ** 2

    def of_head(self, n: Int[Array, ""]) -> "AttentionForm":
        """The form of one head, as that of a layer with one.

        Args:
            n: Which head.

        Returns:
            The form.
        """
        own = {
            name: jnp.take(getattr(self, name), n[None], 0)
            for name in ("sink", "gain", "added")
            if getattr(self, name) is not None
        }
        return dataclasses.replace(self, **own)

    def weights(
        self, alpha: Float[Array, "*batch H R T"], rows: Int[Array, " R"]
    ) -> Float[Array, "*batch H R T"]:
        """The weights of query rows, from those of their softmax."""
        if self.gain is not None:
            alpha = alpha * self.gain.astype(alpha.dtype)[:, None, None]
        if self.added is not None:
            alpha = alpha + jnp.take(self.added.astype(alpha.dtype), rows, axis=-2)
        return alpha

    def normed(self, h: Float[Array, "*batch H R V"]) -> Float[Array, "*batch H R V"]:
        """The attended values behind the norm, computed in float32 at least."""
        if self.norm_scale is None:
            return h
        wide = h.astype(jnp.float32 if h.dtype.itemsize < 4 else h.dtype)
        size = jnp.mean(wide**2, -1, keepdims=True) + self.norm_epsilon
        scale = self.norm_scale.astype(wide.dtype)
        return (wide * jax.lax.rsqrt(size) * scale).astype(h.dtype)
