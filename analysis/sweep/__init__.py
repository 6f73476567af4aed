"""``python -m sensitivity.sweep``: every statement across lengths T."""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; imported late, so that Ctrl-C is heard from the start."""
    from analysis.sweep.command import main

    return main(argv)
