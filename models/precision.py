"""What matrix products are computed in, and what everything else is computed in."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.config import Precision

Arrays = TypeVar("Arrays")


def product_dtype(precision: Precision) -> jnp.dtype | None:
    """What the operands of a matrix product are rounded to.

    Args:
        precision: Of the products.

    Returns:
        bfloat16; or None for float32, which rounds nothing: parameters are drawn in
        float32, and a model whose parameters were made float64 computes in float64.

    Example:
        >>> product_dtype("float32") is None
        True
    """
    return jnp.dtype(jnp.bfloat16) if precision == "bfloat16" else None


def narrow(arrays: Arrays, precision: Precision) -> Arrays:
    """Operands of a matrix product, rounded to the precision of the products.

    Args:
        arrays: Any pytree of floating arrays.
        precision: Of the products.

    Returns:
        The pytree.

    Example:
        >>> narrow([jnp.array(1.001)], "bfloat16")[0].item()
        1.0
    """
    dtype = product_dtype(precision)
    if dtype is None:
        return arrays
    return jax.tree.map(lambda array: array.astype(dtype), arrays)


def wide(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """A product as sums, norms and residuals take it: in float32 or wider.

    Args:
        x: The product.

    Returns:
        The same numbers.

    Example:
        >>> wide(jnp.ones(2, jnp.bfloat16)).dtype.itemsize
        4
    """
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
