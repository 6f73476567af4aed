"""Initial weights, drawn as PyTorch's layers draw theirs, which the reference uses."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from models.config import Precision
from models.precision import product_dtype


def uniform(
    key: Key[Array, ""], shape: tuple[int, ...], bound: float
) -> Float[Array, "*shape"]:
    """Draw from U(-bound, bound), float32.

    Args:
        key: What it is drawn from.
        shape: Shape of the result.
        bound: Largest absolute value.

    Returns:
        The draw.
    """
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)


def linear(
    inputs: int, outputs: int, *, precision: Precision, rngs: nnx.Rngs
) -> nnx.Linear:
    """A linear layer whose kernel and bias start in U(-1/sqrt(inputs), 1/sqrt(inputs)).

    Args:
        inputs: Input width.
        outputs: Output width.
        precision: Of its matrix product; its parameters are float32.
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
        dtype=product_dtype(precision),
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
