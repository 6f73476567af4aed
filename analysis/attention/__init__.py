"""``python -m analysis.attention``: trained attention, layer by layer."""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; imported late, so that Ctrl-C is heard from the start."""
    from analysis.attention.command import main

    return main(argv)
