"""``--list``: what is measured, in words."""

from rich.console import Console

from analysis.diagnostics.registry import CURVES, DIAGNOSTICS
from models.runs.console import empty_table


def list_measures(console: Console) -> None:
    """Print name, meaning and source of every measure."""
    words = ("name", "meaning", "source")
    for title, entries in (
        ("Measures of a head or layer (diagnostics.csv)", DIAGNOSTICS),
        ("Courses over a lag or step (curves.csv)", CURVES),
    ):
        shown = empty_table(title, words, wraps=words)
        for entry in entries:
            shown.add_row(entry.name, entry.meaning, entry.source)
        console.print(shown)
