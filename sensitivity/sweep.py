"""The door ``python -m sensitivity.sweep``: the command itself is `analysis.sweep`."""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see `analysis.sweep.command.main`."""
    from analysis.sweep.command import main

    return main(argv)


if __name__ == "__main__":
    from models.runs.entry import start

    start("analysis.sweep.command")
