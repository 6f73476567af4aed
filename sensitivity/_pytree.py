"""Frozen dataclasses as pytrees."""

import dataclasses
from typing import Any

import jax


def pytree(static: tuple[str, ...] = ()) -> Any:
    """Register a frozen dataclass as a pytree whose rebuilding skips its checks."""

    # Transformations rebuild a pytree with stacked arrays, tracers or placeholders in
    # its leaves; only the user's own construction is checked.
    def register(cls: type) -> type:
        names = [f.name for f in dataclasses.fields(cls) if f.name not in static]

        def flatten(node: Any) -> tuple[list, tuple]:
            children = [
                (jax.tree_util.GetAttrKey(name), getattr(node, name)) for name in names
            ]
            return children, tuple(getattr(node, name) for name in static)

        def unflatten(aux: tuple, children: Any) -> Any:
            node = object.__new__(cls)
            for name, leaf in zip((*names, *static), (*children, *aux), strict=True):
                object.__setattr__(node, name, leaf)
            return node

        jax.tree_util.register_pytree_with_keys(cls, flatten, unflatten)
        return cls

    return register
