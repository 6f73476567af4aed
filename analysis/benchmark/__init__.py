"""The command ``python -m analysis.benchmark``: what the figures cost."""

from analysis.benchmark.command import main

__all__ = ["main"]
