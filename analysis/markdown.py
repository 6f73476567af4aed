"""Tables of Markdown pages."""

from collections.abc import Iterable, Sequence


def markdown_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], rule: str = ""
) -> list[str]:
    r"""The lines of a table as GitHub reads it.

    Args:
        head: Names of the columns.
        rows: Cells.
        rule: The line under the names, where it says to which side columns are.

    Returns:
        The lines.

    Example:
        >>> markdown_table(["a", "b"], [["1", "x|y"]])
        ['| a | b |', '|---|---|', '| 1 | x\\|y |']
    """
    whole = ([cell.replace("|", r"\|") for cell in cells] for cells in (head, *rows))
    lines = [f"| {' | '.join(cells)} |" for cells in whole]
    return [lines[0], rule or f"|{'---|' * len(head)}", *lines[1:]]
