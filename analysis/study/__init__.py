"""``python -m analysis.study``: the paper's variants, trained side by side."""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; imported late, so that Ctrl-C is heard from the start."""
    from analysis.study.command import main

    return main(argv)
