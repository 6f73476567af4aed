"""A table as Markdown, as LaTeX and on a terminal.

pandas' own writers do not do: its Markdown needs another library, and neither format
has differences below the values.
"""

import itertools
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.markdown import markdown_table
from analysis.tables._layout import Cell, ResultTable, Row
from models.runs.console import empty_table

_TEX = {
    **{
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    },
    **{character: "\\" + character for character in "&%$#_{}"},
    "±": r"$\pm$",
}


def markdown(table: ResultTable) -> str:
    """GitHub's, the title above and the notes below."""
    names = [" ".join(column) for column in table.columns]
    lines = []
    for row in table.variants:
        values = [f"**{c.value}**" if c.best else c.value for c in row.cells]
        lines.append([row.label, row.seeds, *values])
        if row.minus:
            gaps = [f"{c.difference} {c.interval}".rstrip() for c in row.cells]
            lines.append([f"*{row.minus}*", row.paired_seeds, *gaps])
    for row in table.baselines:
        lines.append([f"baseline: {row.label}", "", *(c.value for c in row.cells)])
    rule = f"| --- |{' ---: |' * (1 + len(names))}"
    body = "\n".join(markdown_table(["variant", "seeds", *names], lines, rule))
    notes = "\n".join(f"- {note}" for note in table.notes)
    return f"**{table.title}**\n\n{body}\n\n{notes}\n"


def latex(table: ResultTable) -> str:
    r"""With booktabs and metrics as groups of columns."""
    tops, rules, first = [], [], 3
    for metric, columns in itertools.groupby(c.metric for c in table.columns):
        count = len([*columns])
        tops.append(rf"\multicolumn{{{count}}}{{c}}{{{metric}}}")
        rules.append(rf"\cmidrule(lr){{{first}-{first + count - 1}}}")
        first += count
    body = [_tex_line("", "", *tops), "".join(rules)]
    body += [_tex_line("Variant", "Seeds", *(_escape(c.step) for c in table.columns))]
    body += [r"\midrule", *(line for row in table.variants for line in _tex_lines(row))]
    if table.baselines:
        body.append(r"\midrule")
    body += [line for row in table.baselines for line in _tex_lines(row)]
    notes = " ".join(_escape(note) for note in table.notes)
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table*}",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{_escape(table.title)}. {notes}}}",
            rf"\begin{{tabular}}{{lr{'c' * len(table.columns)}}}",
            r"\toprule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table*}",
            "",
        ]
    )


def _tex_lines(row: Row) -> list[str]:
    """A row, its differences and their intervals, a line each."""
    lines = [_tex_line(_escape(row.label), row.seeds, *map(_tex_value, row.cells))]
    if row.minus:
        head = rf"\quad {_escape(row.minus)}"
        gaps = [_tex_number(cell.difference) for cell in row.cells]
        lines.append(_tex_line(head, row.paired_seeds, *gaps))
        intervals = [cell.interval and _tex_number(cell.interval) for cell in row.cells]
        if any(intervals):
            lines.append(_tex_line(r"\quad 95\,\% interval", "", *intervals))
    return lines


def _tex_value(cell: Cell) -> str:
    text = cell.value.replace("±", r"\pm")
    return rf"$\mathbf{{{text}}}$" if cell.best else _tex_number(text)


def _tex_number(text: str) -> str:
    return text if text == "n/a" else f"${text}$"


def _tex_line(*cells: str) -> str:
    return " & ".join(cells) + r" \\"


def _escape(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)


def show(console: Console, table: ResultTable) -> None:
    """Print it, a block for each metric, since all together do not fit."""
    console.print(f"\n{table.title}", style="bold")
    columns = enumerate(table.columns)
    for _, block in itertools.groupby(columns, lambda pair: pair[1].metric):
        console.print(_block(table, [k for k, _ in block]))
    for note in table.notes:
        console.print(note, style="dim")


def _block(table: ResultTable, columns: Sequence[int]) -> Table:
    numbers = ["seeds", *(" ".join(table.columns[k]) for k in columns)]
    shown = empty_table(None, ["variant"], numbers, wraps=["variant"])
    shown.columns[0].min_width = 23
    for row in (*table.variants, *table.baselines):
        if table.variants and table.baselines and row is table.baselines[0]:
            shown.add_section()
        cells = [row.cells[k] for k in columns]
        values = (Text(c.value, "bold green" if c.best else "") for c in cells)
        shown.add_row(row.label, row.seeds, *values)
        if row.minus:  # above its interval: three columns and a label fit 80 characters
            gaps = (f"{c.difference}\n{c.interval}".rstrip() for c in cells)
            shown.add_row(f"  {row.minus}", row.paired_seeds, *gaps, style="dim")
    return shown
