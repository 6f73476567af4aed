"""The forecasters; ``python -m models.train`` trains them."""

from models.positions import PositionKind, frequencies, position_encoding

__all__ = ["PositionKind", "frequencies", "position_encoding"]
