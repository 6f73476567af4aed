"""The command ``python -m analysis.benchmark.training``: what a training step costs."""

from analysis.benchmark.training.command import main

__all__ = ["main"]
