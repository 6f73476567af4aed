"""What every layer does around its mixing of steps or of nodes.

Products are rounded and widened again, weights are drawn, units are dropped, and the
input is added before all is normalised.
"""

import math
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Key, UInt32

from models.config import ForecasterConfig, Precision
from sensitivity.arguments import ArgumentError

Arrays = TypeVar("Arrays")


# --- rounding -----------------------------------------------------------------------


def narrow(arrays: Arrays, precision: Precision) -> Arrays:
    """Operands of a matrix product, rounded to the precision of the products.

    float32 rounds nothing: parameters are drawn in float32, and a model whose
    parameters were made float64 computes in float64.

    Args:
        arrays: Any pytree of floating arrays.
        precision: Of the products.

    Returns:
        The pytree.

    Example:
        >>> narrow([jnp.array(1.001)], "bfloat16")[0].item()
        1.0
    """
    dtype = _product_dtype(precision)
    if dtype is None:
        return arrays
    return jax.tree.map(lambda array: array.astype(dtype), arrays)


def wide(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """A product as sums, norms and residuals take it: in float32 or wider."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _product_dtype(precision: Precision) -> jnp.dtype | None:
    return jnp.dtype(jnp.bfloat16) if precision == "bfloat16" else None


# --- initial weights ----------------------------------------------------------------


def uniform(
    key: Key[Array, ""], shape: tuple[int, ...], bound: float
) -> Float[Array, "*shape"]:
    """A draw from U(-bound, bound), float32."""
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)


def linear(
    inputs: int, outputs: int, *, precision: Precision, rngs: nnx.Rngs
) -> nnx.Linear:
    """A linear layer that starts as PyTorch's, which the reference uses.

    Kernel and bias start in U(-1/sqrt(inputs), 1/sqrt(inputs)), float32.

    Args:
        inputs: Input width.
        outputs: Output width.
        precision: Of its matrix product.
        rngs: What it is drawn from.

    Returns:
        The layer.

    Example:
        >>> layer = linear(4, 2, precision="float32", rngs=nnx.Rngs(0))
        >>> layer.kernel.shape, bool(abs(layer.kernel[...]).max() <= 0.5)
        ((4, 2), True)
    """
    bound = inputs**-0.5

    def draw(key: Array, shape: tuple[int, ...], dtype: object = None) -> Array:
        return uniform(key, shape, bound)

    return nnx.Linear(
        inputs,
        outputs,
        kernel_init=draw,
        bias_init=draw,
        dtype=_product_dtype(precision),
        rngs=rngs,
    )


def layer_norm(width: int, *, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """A layer norm of variance + 1e-5, without the shortcut that cancels.

    Args:
        width: Width of what it normalises.
        rngs: Required by Flax; nothing is drawn.

    Returns:
        The layer, starting with scale 1 and bias 0.

    Example:
        >>> layer_norm(2, rngs=nnx.Rngs(0))(jnp.array([1.0, 3.0])).round(3).tolist()
        [-1.0, 1.0]
    """
    return nnx.LayerNorm(width, epsilon=1e-5, use_fast_variance=False, rngs=rngs)


# --- dropout ------------------------------------------------------------------------


def words(key: Key[Array, ""], shape: tuple[int, ...]) -> UInt32[Array, "*shape"]:
    r"""Random words of 32 bits by hashing a counter, for dropout and nothing finer.

    With two words a and b drawn from the key and a bijection s of 32-bit words,

    .. math:: w_n = s(s(n + a \bmod 2^{32}) \oplus b), \qquad n = 0, 1, \dots

    Two hashes a word: on a CPU, where the generator behind `jax.random.bits` took a
    third of a training step, dropout takes a small part of it. No word comes twice
    within 2**32 of one key.

    Args:
        key: What they are drawn from.
        shape: Their shape.

    Returns:
        The words.

    References:
        Wellons, `Prospecting for hash functions
        <https://nullprogram.com/blog/2018/07/31/>`_, 2018: s is its ``lowbias32``.
    """
    first, second = jax.random.bits(key, (2,), jnp.uint32)
    number = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    return _scramble(_scramble(number + first) ^ second)


def _scramble(word: UInt32[Array, "*shape"]) -> UInt32[Array, "*shape"]:
    word = (word ^ (word >> 16)) * jnp.uint32(0x7FEB352D)
    word = (word ^ (word >> 15)) * jnp.uint32(0x846CA68B)
    return word ^ (word >> 16)


def coin(
    key: Key[Array, ""], chance: float, shape: tuple[int, ...]
) -> Bool[Array, "*shape"]:
    """Independent coins that show True with a chance.

    Args:
        key: What they are drawn from.
        chance: Chance of True, in [0, 1); it is rounded to a multiple of 2**-32.
        shape: Their shape.

    Returns:
        The coins.

    Raises:
        ArgumentError: If the chance is not in [0, 1).

    Example:
        >>> coin(jax.random.key(0), 0.0, (3,)).tolist()
        [False, False, False]
    """
    if not 0 <= chance < 1:
        raise ArgumentError("chance", f"must lie in [0, 1), got {chance}.")
    threshold = min(round(chance * 2**32), 2**32 - 1)
    return words(key, shape) < jnp.uint32(threshold)


def dropout(
    x: Float[Array, "*shape"], rate: float, key: Key[Array, ""] | None
) -> Float[Array, "*shape"]:
    """Set units to zero by chance and scale the rest up, so that the mean stays.

    Args:
        x: The units.
        rate: Chance that a unit is dropped, in [0, 1).
        key: What is dropped is drawn from; None drops nothing (evaluation).

    Returns:
        The units that stay, divided by ``1 - rate``, and zeros.

    Example:
        >>> dropout(jnp.ones(3), 0.5, None).tolist()
        [1.0, 1.0, 1.0]

    References:
        Srivastava et al., Dropout, JMLR 15, 2014.
    """
    if key is None or rate == 0:
        return x
    scale = jnp.asarray(1 / (1 - rate), x.dtype)
    return jnp.where(coin(key, rate, x.shape), jnp.zeros((), x.dtype), x * scale)


# --- clock, residual and norm -------------------------------------------------------


class Mixing(nnx.Module):
    """What a layer does between its input and its residual: called with x and a key."""

    def penalty(self, x: Any, key: Key[Array, ""]) -> Float[Array, ""]:
        """What it adds to the loss in training, called with the same: nothing."""
        del x, key
        return jnp.zeros((), jnp.float32)


class ResidualLayer(nnx.Module):
    r"""A mixing f with its clock, residual and layer norm.

    .. math:: x \leftarrow \mathrm{LN}(x + \mathrm{drop}(f(x) + W_\tau \tau))

    with :math:`\tau` the time of day; without the residual
    :math:`\mathrm{LN}(\mathrm{drop}(f(x) + W_\tau \tau))`.
    """

    def __init__(
        self,
        mix: Any,  # a `Mixing`
        config: ForecasterConfig,
        *,
        residual: bool,
        rngs: nnx.Rngs,
    ):
        """Draw the weights around the mixing.

        Args:
            mix: Called with x and the key that its own dropout is drawn from.
            config: The model.
            residual: Whether the input is added to what is mixed.
            rngs: What the weights are drawn from.
        """
        self.mix, self.residual = mix, residual
        self.clock = linear(1, config.width, precision="float32", rngs=rngs)
        self.norm = layer_norm(config.width, rngs=rngs)
        self.config = config

    def __call__(
        self,
        x: Float[Array, "N B T D"],
        clock: Float[Array, "N B T 1"],
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "N B T D"]:
        """Mix; ``clock`` is in [0, 1), and without a key it is evaluation."""
        mix_key, drop_key = (None, None) if key is None else jax.random.split(key)
        moved = self.mix(x, mix_key) + self.clock(clock)
        moved = dropout(moved, self.config.dropout, drop_key)
        return self.norm(x + moved if self.residual else moved)

    def penalty(
        self, x: Float[Array, "N B T D"], key: Key[Array, ""]
    ) -> Float[Array, ""]:
        """What its mixing adds to the loss, called with the same input and key."""
        return self.mix.penalty(x, jax.random.split(key)[0])
