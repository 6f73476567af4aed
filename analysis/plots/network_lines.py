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

from analysis.plots.style import COLOURS, DASHES, new_figure
from analysis.variants import depth_in_words

MARKERS = "osD^vP"


class Line(NamedTuple):
    """How the line of a name is drawn."""

    color: str
    ls: Any
    marker: str


class Panels(NamedTuple):
    """Small multiples."""

    tables: dict[str, pd.DataFrame]  # the rows of each by its title
    line_of: Callable[[pd.Series], str]  # what the line of a row is called


def kind_and_stack(table: pd.DataFrame) -> pd.Series:
    """Kind of the temporal layers and stack of each row, in words."""
    return table["model"] + ", " + table["stack"].str.replace("-", " ")


def panels_of(table: pd.DataFrame) -> Panels:
    """Panels by temporal layers and stack where runs differ in these, else by depth."""
    # Lines are variants and, where a panel holds several, depths.
    kinds, layers = kind_and_stack(table), table["layers"]
    if kinds.nunique() > 1:
        panels = {str(kind): table[kinds == kind] for kind in kinds.unique()}
    elif layers.nunique() > 1:
        depths = sorted(layers.unique())
        panels = {depth_in_words(depth): table[layers == depth] for depth in depths}
    else:
        panels = {"": table}
    deep = any(rows["layers"].nunique() > 1 for rows in panels.values())
    single = all(rows["variant"].nunique() == 1 for rows in panels.values())

    def line_of(row: pd.Series) -> str:
        if not deep:
            return str(row["variant"])
        words = depth_in_words(row["layers"])
        return words if single else f"{row['variant']}, {words}"

    return Panels(panels, line_of)


def styles_of(
    table: pd.DataFrame, line_of: Callable[[pd.Series], str]
) -> dict[str, Line]:
    """Colours by name; of names that are depths, dark to bright."""
    rows = table.drop_duplicates("label")
    names = list(dict.fromkeys(line_of(row) for _, row in rows.iterrows()))
    styles = {name: style_of(number) for number, name in enumerate(names)}
    if all(name.split()[0].isdecimal() for name in names):
        names.sort(key=lambda name: int(name.split()[0]))
        places = np.linspace(0, 0.9, len(names))
        for number, (name, place) in enumerate(zip(names, places, strict=True)):
            colour = to_hex(colormaps["viridis"](place))
            styles[name] = Line(colour, "solid", MARKERS[number % len(MARKERS)])
    return {name: styles[name] for name in names}


def style_of(number: int) -> Line:
    """The style of a line by its number: colours first, then dashes too."""
    turn = number + number // len(COLOURS)
    return Line(
        COLOURS[number % len(COLOURS)],
        DASHES[turn % len(DASHES)],
        MARKERS[number % len(MARKERS)],
    )


def grid(rows: int, panels: int, height: float) -> tuple[Figure, Any]:
    """A figure of so many rows of panels side by side, and its axes as a table."""
    figure = new_figure(max(7.0, 1 + 4.0 * panels), 1.8 + height * rows)
    axes = figure.subplots(rows, panels, squeeze=False, sharex="row", sharey=True)
    return figure, axes


def band(ax: Axes, seeds: pd.DataFrame, style: Line, name: str) -> None:
    """Mean over seeds, and from the lowest to the highest; nothing where it is 0."""
    seeds = seeds.sort_index()
    x, mean = seeds.index.to_numpy(), seeds.mean(axis=1)
    ax.plot(x, mean.where(mean > 0), label=name, ms=4, **style._asdict())
    if seeds.shape[1] > 1:
        low, high = seeds.min(axis=1), seeds.max(axis=1)
        ax.fill_between(x, low, high, color=style.color, alpha=0.12, lw=0)


def add_title(figure: Figure, table: pd.DataFrame, what: str, spread: str) -> None:
    """What a picture shows, of which sizes, and its spread where there is one."""
    pairs = table[["window", "horizon"]].drop_duplicates().to_numpy()
    sizes = " and ".join(f"{window} steps in, {ahead} out" for window, ahead in pairs)
    counts = table.groupby("label")["seed"].nunique()
    several = " to ".join(str(n) for n in sorted({counts.min(), counts.max()}))
    seeds = "one seed" if several == "1" else f"means over {several} seeds, {spread}"
    figure.suptitle(f"{what}\n{sizes}; {seeds}", fontsize="medium")


def finish(figure: Figure, axes: Any, styles: dict[str, Line], below: str) -> None:
    """Grids, what the x axis is, and one legend for all panels, in order."""
    lines = {}
    for ax in axes.flat:
        ax.grid(color="0.9", lw=0.6)
        sns.despine(ax=ax)
        lines |= {str(line.get_label()): line for line in ax.get_lines()}
    for ax in axes[-1]:
        ax.set_xlabel(below, fontsize="small")
    names = [name for name in styles if name in lines]
    column = 0.7 + 0.085 * max(map(len, names))  # inches, about
    figure.legend(
        [lines[name] for name in names],
        names,
        loc="outside lower center",
        ncols=min(len(names), max(1, int(figure.get_figwidth() / column))),
        frameon=False,
        fontsize="small",
    )
