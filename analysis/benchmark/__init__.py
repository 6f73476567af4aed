"""The command ``python -m analysis.benchmark``: what the figures cost."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.benchmark.command import main

__all__ = ["main"]


def __getattr__(name: str) -> Any:  # Ctrl-C is caught before anything slow is imported
    if name == "main":
        from analysis.benchmark.command import main

        return main
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
