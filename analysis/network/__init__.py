"""``python -m analysis.network``: how influence travels through whole forecasters."""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; imported late, so that Ctrl-C is heard from the start."""
    from analysis.network.command import main

    return main(argv)
