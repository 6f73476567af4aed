"""The command ``python -m analysis.attention``: trained attention, layer by layer."""

from analysis.attention.command import main

__all__ = ["main"]
