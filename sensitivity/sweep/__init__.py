"""The command ``python -m sensitivity.sweep``: every statement across lengths T."""

from sensitivity.sweep.command import main

__all__ = ["main"]
