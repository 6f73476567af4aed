"""The command ``python -m analysis.tables``: test errors of runs, side by side."""

from analysis.tables.command import main

__all__ = ["main"]
