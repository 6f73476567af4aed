"""From results to understanding: diagnostics, benchmarks, plots and reports.

``analysis.diagnose`` is imported when it is used: every command imports this package
first, and must answer ``--help`` and Ctrl-C before jax is loaded.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.diagnostics.diagnose import diagnose

__all__ = ["diagnose"]


def __getattr__(name: str) -> Any:
    if name == "diagnose":
        from analysis.diagnostics.diagnose import diagnose

        return diagnose
    raise AttributeError(f"module 'analysis' has no attribute {name!r}")
