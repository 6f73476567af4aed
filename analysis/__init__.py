"""From results to understanding: diagnostics, benchmarks, plots and reports.

``analysis.diagnose`` is imported when it is used: every command imports this package
first, and must answer ``--help`` and Ctrl-C before jax is loaded.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.diagnostics.diagnose import diagnose

__all__ = ["diagnose"]

_HOMES = {"diagnostics.diagnose": ("diagnose",)}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            module = importlib.import_module(f"analysis.{home}")
            globals()[name] = getattr(module, name)
            return globals()[name]
    raise AttributeError(f"module 'analysis' has no attribute {name!r}")
