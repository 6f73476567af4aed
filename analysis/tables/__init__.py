"""``python -m analysis.tables``: test errors of runs, side by side."""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; imported late, so that Ctrl-C is heard from the start."""
    from analysis.tables.command import main

    return main(argv)
