"""A table as Markdown and as LaTeX."""

import itertools
from math import isnan

from analysis.tables._layout import (
    Cell,
    ResultTable,
    Row,
    horizon_label,
    number,
    shows_difference,
)

_NAMES = {"mae": "MAE", "rmse": "RMSE", "mape": "MAPE"}
_TEX = {
    **{
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    },
    **{character: "\\" + character for character in "&%$#_{}"},
    "±": r"$\pm$",
}


def value_text(cell: Cell) -> str:
    """A mean, and its spread where there is one.

    Args:
        cell: The cell.

    Returns:
        ``2.966 ± 0.022`` or ``2.966``.
    """
    return number(cell.mean) + ("" if isnan(cell.std) else f" ± {number(cell.std)}")


def interval_text(cell: Cell) -> str:
    """The interval of a difference, nothing where there is none.

    Args:
        cell: The cell.

    Returns:
        ``[-0.031, +0.011]`` or nothing.
    """
    if isnan(cell.low):
        return ""
    return f"[{number(cell.low, sign=True)}, {number(cell.high, sign=True)}]"


def difference_text(cell: Cell) -> str:
    """A difference with its interval.

    Args:
        cell: The cell.

    Returns:
        ``-0.010 [-0.031, +0.011]`` or ``-0.010``.
    """
    return f"{number(cell.difference, sign=True)} {interval_text(cell)}".rstrip()


def difference_label(row: Row) -> str:
    """What the line of differences under a row is called.

    Args:
        row: The row.

    Returns:
        ``minus (b)``.
    """
    return f"minus {row.reference}"


def column_label(table: ResultTable, k: int) -> str:
    """A column in words.

    Args:
        table: The table.
        k: Which column.

    Returns:
        ``MAE 3``, or ``MAE mean 1-12``.
    """
    metric, horizon = table.columns[k]
    return f"{_NAMES[metric]} {horizon_label(horizon, table.H)}"


def markdown(table: ResultTable) -> str:
    """The table in GitHub's Markdown, its title above and its notes below.

    Args:
        table: The table.

    Returns:
        The text.
    """
    names = [column_label(table, k) for k in range(len(table.columns))]
    lines = [_bar(["variant", "seeds", *names])]
    lines.append(_bar(["---", *["---:"] * (1 + len(names))]))
    for row in table.variants:
        cells = [f"**{value_text(c)}**" if c.best else value_text(c) for c in row.cells]
        lines.append(_bar([row.label, str(row.seeds), *cells]))
        if shows_difference(row):
            cells = [difference_text(cell) for cell in row.cells]
            head = [f"*{difference_label(row)}*", str(row.paired_seeds)]
            lines.append(_bar([*head, *cells]))
    for row in table.baselines:
        cells = [value_text(cell) for cell in row.cells]
        lines.append(_bar([f"baseline: {row.label}", "", *cells]))
    notes = "\n".join(f"- {note}" for note in table.notes)
    return f"**{table.title}**\n\n" + "\n".join(lines) + f"\n\n{notes}\n"


def _bar(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def latex(table: ResultTable) -> str:
    r"""The table for LaTeX with booktabs, metrics as groups of columns.

    Args:
        table: The table.

    Returns:
        The text; it needs ``\usepackage{booktabs}``.
    """
    groups = [
        (name, [column.horizon for column in columns])
        for name, columns in itertools.groupby(table.columns, lambda c: c.metric)
    ]
    tops, rules, first = [], [], 3
    for name, horizons in groups:
        last = first + len(horizons) - 1
        tops.append(rf"\multicolumn{{{len(horizons)}}}{{c}}{{{_NAMES[name]}}}")
        rules.append(rf"\cmidrule(lr){{{first}-{last}}}")
        first = last + 1
    steps = [_escape(horizon_label(c.horizon, table.H)) for c in table.columns]
    body = [_tex_line(["", "", *tops]), "".join(rules)]
    body += [_tex_line(["Variant", "Seeds", *steps]), r"\midrule"]
    for row in table.variants:
        body += _tex_variant(row)
    if table.baselines:
        body.append(r"\midrule")
    for row in table.baselines:
        cells = [_tex_value(cell) for cell in row.cells]
        body.append(_tex_line([_escape(row.label), "", *cells]))
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


def _tex_variant(row: Row) -> list[str]:
    """A row, its differences and their intervals, a line each."""
    values = [_tex_value(cell) for cell in row.cells]
    lines = [_tex_line([_escape(row.label), str(row.seeds), *values])]
    if not shows_difference(row):
        return lines
    head = [rf"\quad {_escape(difference_label(row))}", str(row.paired_seeds)]
    cells = [_tex_number(number(cell.difference, sign=True)) for cell in row.cells]
    lines.append(_tex_line([*head, *cells]))
    intervals = [interval_text(cell) for cell in row.cells]
    if any(intervals):
        cells = [_tex_number(text) if text else "" for text in intervals]
        lines.append(_tex_line([r"\quad 95\,\% interval", "", *cells]))
    return lines


def _tex_value(cell: Cell) -> str:
    text = value_text(cell).replace("±", r"\pm")
    return rf"$\mathbf{{{text}}}$" if cell.best else _tex_number(text)


def _tex_number(text: str) -> str:
    return text if text == "n/a" else f"${text}$"


def _tex_line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _escape(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)
