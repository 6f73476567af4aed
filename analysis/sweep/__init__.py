"""The command ``python -m sensitivity.sweep``: every statement across lengths T."""

from analysis.sweep.command import main

__all__ = ["main"]
