"""Rotary positions: coordinates of queries and keys, turned by the step they are at."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sensitivity._arrays import as_array
from sensitivity._pytree import pytree


@pytree(static=("interleaved",))
@dataclasses.dataclass(frozen=True)
class Rotary:
    r"""A rotation of pairs of coordinates by an angle that grows with the step.

    .. math:: (u_a, u_b) \mapsto (u_a \cos\theta_{tp} - u_b \sin\theta_{tp},\;
        u_a \sin\theta_{tp} + u_b \cos\theta_{tp})

    for every pair p of coordinates, at step t. What lies behind the P pairs stays.

    Attributes:
        cos: Cosines by step and pair, shape (T, P), as the layer has them: rounded, or
            scaled by a factor as in YaRN.
        sin: Sines, likewise.
        interleaved: Whether a pair is (2 p, 2 p + 1), as in RoFormer; else (p, p + P),
            the halves that most libraries take.

    Raises:
        ValueError: If the tables are none, or of unequal shape.

    Example:
        >>> turn = Rotary.of_base(steps=3, dims=2, base=1.0)
        >>> turn.turn(jnp.ones((3, 2)), jnp.arange(3)).round(2).tolist()[0]
        [1.0, 1.0]

    References:
        Su et al., arXiv 2104.09864, 2021.
    """

    cos: Any
    sin: Any
    interleaved: bool = False

    def __post_init__(self) -> None:
        """Refuse what are no tables."""
        for name in ("cos", "sin"):
            object.__setattr__(self, name, as_array(name, getattr(self, name)))
        shape = np.shape(self.cos)
        if len(shape) != 2 or 0 in shape or np.shape(self.sin) != shape:
            raise ValueError(
                "cos and sin must have one shape (T, P), P pairs of coordinates, got "
                f"{shape} and {np.shape(self.sin)}."
            )

    @classmethod
    def of_base(
        cls, steps: int, dims: int, base: float = 10_000.0, interleaved: bool = False
    ) -> "Rotary":
        """Angles t base^(-2 p / dims), the usual ones.

        Args:
            steps: Number of steps T.
            dims: How many coordinates are turned, an even number: of a partial rotation
                fewer than the width of a head.
            base: Its base.
            interleaved: Which coordinates make a pair, as above.

        Returns:
            The rotation.

        Raises:
            ValueError: If ``dims`` is odd or no positive number.
        """
        if dims < 2 or dims % 2:
            raise ValueError(
                f"dims must be an even number of coordinates that are turned, got "
                f"{dims}."
            )
        frequencies = float(base) ** (-np.arange(0, dims, 2) / dims)
        angles = np.arange(steps)[:, None] * frequencies
        return cls(np.cos(angles), np.sin(angles), interleaved)

    @property
    def dims(self) -> int:
        """How many coordinates are turned."""
        return 2 * np.shape(self.cos)[-1]

    def check(self, width: int, T: int | None = None) -> None:
        """Refuse tables that do not fit a head.

        Args:
            width: Width K of its queries and keys.
            T: Number of steps, where it is known.

        Raises:
            ValueError: Naming the numbers.
        """
        if self.dims > width:
            raise ValueError(
                f"form.rotary must turn at most K={width} coordinates, got {self.dims}."
            )
        steps = np.shape(self.cos)[0]
        if T is not None and steps < T:
            raise ValueError(
                f"form.rotary must have the angles of T={T} steps, got {steps}."
            )

    def turn(
        self, u: Float[Array, "*batch R K"], rows: Int[Array, " R"]
    ) -> Float[Array, "*batch R K"]:
        """Turn vectors by the angles of their steps.

        Args:
            u: Vectors, shape (..., R, K).
            rows: Their steps.

        Returns:
            The same, turned.
        """
        return self._turned(u, rows, 1)

    def back(
        self, u: Float[Array, "*batch R K"], rows: Int[Array, " R"]
    ) -> Float[Array, "*batch R K"]:
        """Multiply vectors by the transpose of `turn`: back, but for a factor.

        Args:
            u: Vectors, shape (..., R, K).
            rows: Their steps.

        Returns:
            The vectors before they were turned.
        """
        return self._turned(u, rows, -1)

    def _turned(self, u: Array, rows: Array, sign: int) -> Array:
        cos, sin = (
            jnp.take(jnp.asarray(t, u.dtype), rows, 0) for t in (self.cos, self.sin)
        )
        sin, P = sign * sin, self.dims // 2
        moving, still = u[..., : 2 * P], u[..., 2 * P :]
        if self.interleaved:
            first, second = moving[..., ::2], moving[..., 1::2]
        else:
            first, second = moving[..., :P], moving[..., P:]
        pair = (first * cos - second * sin, first * sin + second * cos)
        if self.interleaved:
            moving = jnp.stack(pair, -1).reshape(moving.shape)
        else:
            moving = jnp.concatenate(pair, -1)
        return jnp.concatenate([moving, still], -1)
