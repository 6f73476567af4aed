"""``python -m analysis.network``: how influence travels through whole forecasters."""

from analysis.network.command import main

__all__ = ["main"]
