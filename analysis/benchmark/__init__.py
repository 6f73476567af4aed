"""``python -m analysis.benchmark``: what the figures cost."""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; imported late, so that Ctrl-C is heard from the start."""
    from analysis.benchmark.command import main

    return main(argv)
