"""Tables of Markdown pages."""

from collections.abc import Iterable, Sequence

import pandas as pd


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return [lines[0], f"|{'---|' * len(head)}", *lines[1:]]


def certificate_page(table: pd.DataFrame, note: str) -> str:
    """``certificates.md``: a row per length, variant and certificate, all samples."""
    head = (
        *("T", "variant", "certificate", "applies", "samples", "holds"),
        *("exact, median", "bound, median", "exact / bound, median", "worst"),
    )
    rows = []
    names = ["T", "variant", "certificate", "applies"]
    for key, own in table.groupby(names, sort=False, dropna=False):
        inside, holding = own.dropna(subset=["bound"]), ""
        medians = [own["exact"].median()]
        if len(inside):
            holding = f"{int(inside['holds'].astype(bool).sum())} of {len(inside)}"
            medians += [inside["bound"].median(), inside["ratio"].median()]
            medians += [inside["ratio"].max()]
        numbers = [f"{value:.3g}" for value in medians] + [""] * (4 - len(medians))
        rows.append([*map(str, key), str(len(own)), holding, *numbers])
    title = (
        "# The whole Jacobian of trained layers: exact spectral norm and certificates"
    )
    return "\n".join([title, "", note, "", *markdown_table(head, rows), ""])
