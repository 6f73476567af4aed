"""What an attention layer does beside plain softmax attention."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sensitivity._arrays import as_array
from sensitivity._pytree import pytree


@pytree(static=("norm_epsilon",))
@dataclasses.dataclass(frozen=True)
class AttentionForm:
    r"""What is done to the weights behind the softmax, and to the attended values.

    .. math:: f_{ij} = \frac{e^{s_{ij}}}{e^b + \sum_m e^{s_{im}}}, \qquad
        \alpha_{ij} = g f_{ij} + \ell_{ij}, \qquad
        h_i = \mathrm{norm}\Big(\sum_j \alpha_{ij} v_j\Big)

    with :math:`\mathrm{norm}(h) = \lambda \odot h / \sqrt{\mathrm{mean}(h^2) +
    \epsilon}`. What is None is left out: b, g = 1, l = 0, no norm.

    Attributes:
        sink: Logit b of a further entry of every row that has no value, one per head,
            shape (H,): rows add up to less than 1. 0 is the softmax with an extra 1.
        gain: Factor g of the softmax, one per head, shape (H,).
        added: Weights l that are added to it, whatever the input, shape (H, T, T).
        norm_scale: Scale of the norm of each head's attended values, shape (V,), which
            all heads share.
        norm_epsilon: What the norm adds to the mean square.

    Raises:
        ValueError: If nothing is given, or ``norm_epsilon`` is negative.

    Example:
        >>> AttentionForm(sink=np.zeros(2)).names
        ('sink',)

    References:
        Miller, `Attention is off by one
        <https://www.evanmiller.org/attention-is-off-by-one.html>`_, 2023, and Xiao et
        al., arXiv 2309.17453 (``sink``); He et al., arXiv 2102.03147 (``gain`` and
        ``added``); Li et al., arXiv 2605.06611 (``norm_scale``).
    """

    sink: Any = None
    gain: Any = None
    added: Any = None
    norm_scale: Any = None
    norm_epsilon: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse what is no form."""
        for name in self.names:
            object.__setattr__(self, name, as_array(name, getattr(self, name)))
        if not self.names:
            raise ValueError("a form must do something, got None everywhere.")
        if not self.norm_epsilon >= 0:
            raise ValueError(
                f"norm_epsilon must not be negative, got {self.norm_epsilon}."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of what is given."""
        every = ("sink", "gain", "added", "norm_scale")
        return tuple(name for name in every if getattr(self, name) is not None)

    def check(self, H: int, V: int, T: int | None = None) -> None:
        """Refuse arrays that do not fit a layer of H heads of V values.

        Args:
            H: Number of heads.
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
        for name in self.names:
            if (shape := np.shape(getattr(self, name))) != shapes[name]:
                raise ValueError(
                    f"form.{name} must have shape {shapes[name]}, got {shape}."
                )

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
