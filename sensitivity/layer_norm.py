"""The norm of a vector that layers apply: LayerNorm, or RMSNorm, and its Jacobian."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sensitivity._arrays import as_array
from sensitivity._pytree import pytree


@pytree(static=("centred", "epsilon"))
@dataclasses.dataclass(frozen=True)
class LayerNorm:
    r"""A norm over the last axis, LayerNorm or RMSNorm.

    .. math:: y = g \odot \frac{c}{s} + b, \qquad
        s^2 = \mathrm{mean}(c^2) + \epsilon

    with :math:`c = u - \mathrm{mean}(u)` (LayerNorm), or :math:`c = u` (RMSNorm).

    Attributes:
        scale: The g, shape (D,); None is 1 everywhere. A model that stores g - 1
            (Gemma) is given as 1 + its weights.
        bias: The b, shape (D,), or None.
        centred: Whether the mean is taken off: LayerNorm, else RMSNorm.
        epsilon: What is added to the mean square.

    Raises:
        ValueError: If the arrays are no vectors, or ``epsilon`` is negative.

    Example:
        >>> LayerNorm(epsilon=0.0)(jnp.array([1.0, 3.0])).tolist()
        [-1.0, 1.0]

    References:
        Ba et al., arXiv 1607.06450, 2016; Zhang and Sennrich, arXiv 1910.07467, 2019.
    """

    scale: Any = None
    bias: Any = None
    centred: bool = True
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        """Refuse what is no norm."""
        for name in ("scale", "bias"):
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, as_array(name, given))
                if (shape := np.shape(getattr(self, name))) and len(shape) == 1:
                    continue
                raise ValueError(f"{name} must have shape (D,), got {shape}.")
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon must not be negative, got {self.epsilon}.")

    def check(self, name: str, width: int) -> None:
        """Refuse vectors of another width.

        Args:
            name: What the norm is called in the error.
            width: Width of what is normed.

        Raises:
            ValueError: Naming the vector and its shape.
        """
        for part in ("scale", "bias"):
            given = getattr(self, part)
            if given is not None and np.shape(given) != (width,):
                raise ValueError(
                    f"{name}.{part} must have shape ({width},), got {np.shape(given)}."
                )

    def __call__(self, u: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
        """Norm vectors, in float32 at least.

        Args:
            u: Vectors, shape (..., D).

        Returns:
            The same, normed, in their own dtype.
        """
        wide = u.astype(jnp.float32) if u.dtype.itemsize < 4 else u
        apart, rate = self._parts(wide)
        y = apart * rate
        if self.scale is not None:
            y = y * jnp.asarray(self.scale, wide.dtype)
        if self.bias is not None:
            y = y + jnp.asarray(self.bias, wide.dtype)
        return y.astype(u.dtype)

    def pull(
        self, g: Float[Array, "*batch D"], u: Float[Array, "*#batch D"]
    ) -> Float[Array, "*batch D"]:
        r"""Pull vectors back through the norm: N'^T g, N' its Jacobian at u.

        .. math:: N'^\top g = \frac1s \Big( g' - \mathrm{mean}(g')
            - \frac{c \cdot g'}{D s^2}\, c \Big), \qquad g' = g \odot \mathrm{scale}

        without the mean where nothing is centred.

        Args:
            g: Vectors on the side of the output, shape (..., D).
            u: Where the norm is taken, shape (..., D).

        Returns:
            The vectors on the side of the input, shape (..., D).
        """
        if self.scale is not None:
            g = g * jnp.asarray(self.scale, g.dtype)
        apart, rate = self._parts(u)
        unit = apart * rate
        along = jnp.mean(unit * g, -1, keepdims=True)
        if self.centred:
            g = g - jnp.mean(g, -1, keepdims=True)
        return (g - along * unit) * rate

    def direction(
        self, u: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch D"], Float[Array, "*batch"]]:
        """What vectors are normed to before the scale, c / s, and the rate 1 / s.

        Args:
            u: Vectors, shape (..., D).

        Returns:
            The directions, shape (..., D), and the rates, shape (...).
        """
        apart, rate = self._parts(u)
        return apart * rate, rate[..., 0]

    def _parts(self, u: Array) -> tuple[Float[Array, "*batch D"], Array]:
        """C, and 1 / s."""
        apart = u - jnp.mean(u, -1, keepdims=True) if self.centred else u
        square = jnp.mean(apart**2, -1, keepdims=True)
        return apart, jax.lax.rsqrt(square + self.epsilon)
