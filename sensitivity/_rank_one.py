r"""Spectral norm of a fixed matrix plus rank one, for millions of rank-one terms.

The off-diagonal Jacobian of a head is :math:`\alpha_{ij} (A + u_{ij} w_i^\top)`. With
:math:`\hat w = w / |w|`, :math:`Y = A (I - \hat w \hat w^\top)` depends on the row
alone and :math:`z = A \hat w + |w| u` on the pair, and

.. math:: (A + u w^\top)(A + u w^\top)^\top = Y Y^\top + z z^\top.

So the squared norm is the largest eigenvalue of a positive semidefinite matrix plus
rank one. In the eigenbasis of :math:`Y Y^\top` (eigenvalues
:math:`\beta_1 \ge \beta_2 \ge \dots`) it is :math:`\beta_1 + \mu`, with
:math:`\mu \ge 0` the largest root of the secular equation

.. math:: \sum_k c_k / (\mu + g_k) = 1, \qquad c_k = z_k^2, \; g_k = \beta_1 - \beta_k.

All its terms are positive: nothing cancels, whatever the matrices. The squared
Frobenius norm is :math:`\|Y\|^2 + |z|^2`.

The root is found with the pole at :math:`g_1 = 0` kept as it is and the others replaced
by one pole that matches their value and slope; its quadratic gives the next
:math:`\mu`. The steps ascend monotonically to the root and converge quadratically; they
start from the others' pole at their mean gap, which is never above the root. See Bunch,
Nielsen and Sorensen, Rank-one modification of the symmetric eigenproblem, Numer. Math.
31, 1978.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def secular_root(
    squares: Float[Array, "V ..."], gaps: Float[Array, "V ..."]
) -> Float[Array, "..."]:
    """The largest root mu, 0 if that is negative, to rounding of the largest c or g."""
    # squares: the c_k >= 0; gaps: the g_k >= 0, ascending from g_1 = 0; they broadcast.
    eps = jnp.finfo(squares.dtype).eps

    def over_poles(add: Callable[[Array, Array, Any], Any], start: Any, n: int) -> Any:
        return jax.lax.fori_loop(
            n, len(squares), lambda k, sums: add(squares[k], gaps[k], sums), start
        )

    scale = over_poles(lambda c, _, total: total + c, jnp.zeros_like(squares[0]), 0)
    if len(squares) == 1:
        return scale
    per_unit = 1 / jnp.where(scale > 0, scale, jnp.ones_like(scale))
    # A pole further than 1/eps^2 away carries no digit; the cut keeps infinities out.

    def scaled(c: Array, g: Array) -> tuple[Array, Array]:
        return c * per_unit, jnp.minimum(g * per_unit, eps**-2)

    first, nothing = squares[0] * per_unit, jnp.zeros_like(scale)

    def two_poles(pole: Array, gap: Array) -> Array:
        """Largest root for ``first`` at gap 0 and ``pole`` at ``gap``."""
        middle = (first + pole - gap) / 2
        root = jnp.sqrt(middle**2 + first * gap)
        below = jnp.maximum(root - middle, eps**2)
        return jnp.where(middle >= 0, middle + root, first * gap / below)

    def step(state: tuple[Array, Array]) -> tuple[Array, Array]:
        mu, _ = state

        def add(c: Array, g: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
            c, g = scaled(c, g)
            inverse = 1 / jnp.maximum(mu + g, eps**2)
            return sums[0] + c * inverse, sums[1] + c * inverse**2

        value, slope = over_poles(add, (nothing, nothing), 1)
        near = value / jnp.where(slope > 0, slope, jnp.ones_like(slope))
        new = jnp.maximum(mu, two_poles(value * near, jnp.maximum(near - mu, 0)))
        return new, jnp.any(new - mu > eps**0.75)

    def measure(c: Array, g: Array, sums: tuple) -> tuple:
        (c, g), (rest, gap, most) = scaled(c, g), sums
        return rest + c, gap + c * g, jnp.maximum(most, c - g)

    rest, gap, most = over_poles(measure, (nothing, nothing, nothing), 1)
    start = two_poles(rest, gap / jnp.where(rest > 0, rest, jnp.ones_like(rest)))
    begin = (jnp.maximum(start, most), jnp.array(True))
    mu, _ = jax.lax.while_loop(lambda s: s[1], step, begin)
    return mu * jnp.where(scale > 0, scale, jnp.ones_like(scale))
