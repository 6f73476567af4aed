"""``python -m models.train``: trains forecasters and keeps what came of it.

The command is imported when it is called: what starts it must be listening for Ctrl-C.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.train.command import main

__all__ = ["main"]


def __getattr__(name: str) -> Any:
    if name == "main":
        from models.train.command import main

        return main
    raise AttributeError(f"module 'models.train' has no attribute {name!r}")
