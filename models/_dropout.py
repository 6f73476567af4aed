"""Dropout as a pure function of a key; no key means evaluation."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, UInt32


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

    Example:
        >>> words(jax.random.key(0), (2, 3)).shape
        (2, 3)

    References:
        Wellons, `Prospecting for hash functions
        <https://nullprogram.com/blog/2018/07/31/>`_, 2018: s is its ``lowbias32``.
    """
    first, second = jax.random.bits(key, (2,), jnp.uint32)
    number = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    return _scramble(_scramble(number + first) ^ second)


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
        ValueError: If the chance is not in [0, 1).

    Example:
        >>> coin(jax.random.key(0), 0.0, (3,)).tolist()
        [False, False, False]
    """
    if not 0 <= chance < 1:
        raise ValueError(f"chance must lie in [0, 1), got {chance}.")
    threshold = min(round(chance * 2**32), 2**32 - 1)
    return words(key, shape) < jnp.uint32(threshold)


def _scramble(word: UInt32[Array, "*shape"]) -> UInt32[Array, "*shape"]:
    word = (word ^ (word >> 16)) * jnp.uint32(0x7FEB352D)
    word = (word ^ (word >> 15)) * jnp.uint32(0x846CA68B)
    return word ^ (word >> 16)


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

    Raises:
        ValueError: If something is dropped and the rate is not in [0, 1).

    Example:
        >>> import jax.numpy as jnp
        >>> dropout(jnp.ones(3), 0.5, None).tolist()
        [1.0, 1.0, 1.0]

    References:
        Srivastava et al., Dropout, JMLR 15, 2014.
    """
    if key is None or rate == 0:
        return x
    scale = jnp.asarray(1 / (1 - rate), x.dtype)
    return jnp.where(coin(key, rate, x.shape), jnp.zeros((), x.dtype), x * scale)
