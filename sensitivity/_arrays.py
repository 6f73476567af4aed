"""What users give as arrays and numbers, told from what is neither."""

from typing import Any

import jax.numpy as jnp
import numpy as np


def as_array(name: str, values: Any) -> Any:
    """What has a dtype as it is, anything else as a NumPy array of numbers."""
    if hasattr(values, "dtype"):
        return values
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        message = f"{name} must be an array of numbers, got a ragged list: {error}"
        raise ValueError(message) from None
    if array.dtype.kind not in "biufc":
        raise ValueError(
            f"{name} must be an array of numbers, got {type(values).__name__} of "
            f"dtype {array.dtype}."
        )
    return array


def is_number(value: Any) -> bool:
    """Whether a value is one real number, possibly traced, and no bool."""
    if isinstance(value, bool | str) or value is None or np.ndim(value) != 0:
        return False
    return is_real(value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype)


def is_real(dtype: Any) -> bool:
    """Whether a dtype is one of real numbers, and not of booleans."""
    return jnp.issubdtype(dtype, np.floating) or jnp.issubdtype(dtype, np.integer)
