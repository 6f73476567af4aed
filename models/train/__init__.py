"""``python -m models.train``: trains forecasters and keeps what came of it."""

from models.train.command import main

__all__ = ["main"]
