"""The forecasters; ``python -m models.train`` trains them.

Names are imported when they are used, so that commands answer at once.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.positions import PositionKind, frequencies, position_encoding

__all__ = ["PositionKind", "frequencies", "position_encoding"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from models import positions

        return getattr(positions, name)
    raise AttributeError(f"module 'models' has no attribute {name!r}")
