"""``python -m models.train``: trains forecasters and keeps what came of it."""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; imported late, so that Ctrl-C is heard from the start."""
    from models.train.command import main

    return main(argv)
