"""Lines of forecasters in a picture: small multiples, and what tells them apart."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from analysis.plots.style import BLACK, BLUE, GREEN, ORANGE, RED

# Okabe and Ito's colours, told apart by the colour-blind too.
COLOURS = (BLACK, BLUE, GREEN, ORANGE, RED, "#CC79A7")
MARKERS = "osD^vP"
_DASHES: tuple[Any, ...] = ("solid", "dashed", "dashdot", "dotted", (0, (6, 1, 1, 1)))


class Line(NamedTuple):
    """How the line of a name is drawn."""

    color: str
    ls: Any
    marker: str


class Panels(NamedTuple):
    """Small multiples.

    Attributes:
        tables: The rows of each by its title.
        line_of: What the line of a row is called in them.
    """

    tables: dict[str, pd.DataFrame]
    line_of: Callable[[pd.Series], str]


def kind_and_stack(table: pd.DataFrame) -> pd.Series:
    """Kind of the temporal layers and stack of each row, in words."""
    return table["model"] + ", " + table["stack"].str.replace("-", " ")


def panels_of(table: pd.DataFrame) -> Panels:
    """Panels by temporal layers and stack where runs differ in these, else by depth.

    Args:
        table: Rows of runs, with their ``variant``, ``model``, ``stack`` and
            ``layers``.

    Returns:
        The panels, one without a title where runs differ in neither. Lines are variants
        and, where a panel holds several, depths.
    """
    kinds, layers = kind_and_stack(table), table["layers"]
    if kinds.nunique() > 1:
        panels = {str(kind): table[kinds == kind] for kind in kinds.unique()}
    elif layers.nunique() > 1:
        panels = {
            _depth_in_words(number): table[layers == number]
            for number in sorted(layers.unique())
        }
    else:
        panels = {"": table}
    deep = any(rows["layers"].nunique() > 1 for rows in panels.values())
    single = all(rows["variant"].nunique() == 1 for rows in panels.values())

    def line_of(row: pd.Series) -> str:
        if not deep:
            return str(row["variant"])
        words = _depth_in_words(row["layers"])
        return words if single else f"{row['variant']}, {words}"

    return Panels(panels, line_of)


def _depth_in_words(layers: int) -> str:
    return f"{layers} layer" + ("" if layers == 1 else "s")


def styles_of(
    table: pd.DataFrame, line_of: Callable[[pd.Series], str]
) -> dict[str, Line]:
    """Colours by name; of names that are depths, dark to bright."""
    rows = table.drop_duplicates("label")
    names = list(dict.fromkeys(line_of(row) for _, row in rows.iterrows()))
    if all(name.split()[0].isdecimal() for name in names):
        names.sort(key=lambda name: int(name.split()[0]))
        places = np.linspace(0, 0.9, len(names))
        colours = [to_hex(colormaps["viridis"](place)) for place in places]
        return {
            name: Line(colour, "solid", MARKERS[number % len(MARKERS)])
            for number, (name, colour) in enumerate(zip(names, colours, strict=True))
        }
    return {name: style_of(number) for number, name in enumerate(names)}


def style_of(number: int) -> Line:
    """The style of a line by its number: colours first, then dashes too."""
    turn = number + number // len(COLOURS)
    return Line(
        COLOURS[number % len(COLOURS)],
        _DASHES[turn % len(_DASHES)],
        MARKERS[number % len(MARKERS)],
    )


def grid(rows: int, panels: int, height: float) -> tuple[Figure, Any]:
    """A figure of so many rows of panels side by side, and its axes as a table."""
    sns.set_theme(context="notebook", style="ticks")
    size = (max(7.0, 1 + 4.0 * panels), 1.2 + height * rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, panels, squeeze=False, sharex="row", sharey=True)
    return figure, axes


def band(ax: Axes, seeds: pd.DataFrame, style: Line, name: str) -> None:
    """Mean over seeds, and from the lowest to the highest; nothing where it is 0."""
    seeds = seeds.sort_index()
    x = seeds.index.to_numpy()
    mean = seeds.mean(axis=1)
    ax.plot(x, mean.where(mean > 0), label=name, ms=4, **style._asdict())
    if seeds.shape[1] > 1:
        low, high = seeds.min(axis=1), seeds.max(axis=1)
        ax.fill_between(x, low, high, color=style.color, alpha=0.12, lw=0)


def name_below(axes: Any, text: str) -> None:
    """Label the horizontal axes of the lowest row."""
    for ax in axes[-1]:
        ax.set_xlabel(text, fontsize="small")


def finish(figure: Figure, axes: Any, styles: dict[str, Line]) -> None:
    """Grids, and one legend for all panels, in the order of the styles."""
    lines = {}
    for ax in axes.flat:
        ax.grid(color="0.9", lw=0.6)
        sns.despine(ax=ax)
        lines |= {str(line.get_label()): line for line in ax.get_lines()}
    names = [name for name in styles if name in lines]
    figure.legend(
        [lines[name] for name in names],
        names,
        loc="outside lower center",
        ncols=2 if max(map(len, names)) > 12 else min(len(names), 7),
        frameon=False,
        fontsize="small",
    )
