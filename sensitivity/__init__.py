"""Exact influence of every time step of an attention layer on every other, by path.

Names are imported when they are used: ``python -m sensitivity.sweep`` imports this
package first, and must answer ``--help`` and Ctrl-C before jax is loaded.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sensitivity._path_norms import path_norms
    from sensitivity.attention import attend
    from sensitivity.autodiff import PathJacobians, path_jacobians
    from sensitivity.bounds import check_bounds
    from sensitivity.forms import AttentionForm
    from sensitivity.layer_input import LayerInput
    from sensitivity.norms import PathNorms
    from sensitivity.profiles import Profile, profile
    from sensitivity.weights import AttentionWeights, ScoreBias

__all__ = [
    "AttentionForm",
    "AttentionWeights",
    "LayerInput",
    "PathJacobians",
    "PathNorms",
    "Profile",
    "ScoreBias",
    "attend",
    "check_bounds",
    "path_jacobians",
    "path_norms",
    "profile",
]

_HOMES = {
    "attention": ("attend",),
    "autodiff": ("PathJacobians", "path_jacobians"),
    "bounds": ("check_bounds",),
    "forms": ("AttentionForm",),
    "layer_input": ("LayerInput",),
    "norms": ("PathNorms",),
    "_path_norms": ("path_norms",),
    "profiles": ("Profile", "profile"),
    "weights": ("AttentionWeights", "ScoreBias"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            module = importlib.import_module(f"sensitivity.{home}")
            globals()[name] = getattr(module, name)
            return globals()[name]
    raise AttributeError(f"module 'sensitivity' has no attribute {name!r}")
