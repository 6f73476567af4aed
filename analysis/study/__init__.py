"""``python -m analysis.study``: the paper's variants, trained side by side."""

from analysis.study.command import main

__all__ = ["main"]
