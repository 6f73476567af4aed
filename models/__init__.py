"""The forecasters; so far the position encodings of their inputs."""

from models.positions import PositionKind, frequencies, position_encoding

__all__ = ["PositionKind", "frequencies", "position_encoding"]
