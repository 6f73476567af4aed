"""How every picture looks: colours, axes, legends. One place, so that they agree.

A picture takes a frame and returns a `Figure`; it is made by `new_figure`, takes its
colours from here, and is written by `models.runs.folder.RunFolder.write_figure`.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

# Okabe and Ito's colours, told apart by the colour-blind too.
BLUE, ORANGE, GREEN, RED, BLACK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#000000"
PURPLE = "#CC79A7"
COLOURS = (BLACK, BLUE, GREEN, ORANGE, RED, PURPLE)
"""In the order in which variants take them."""

DASHES: tuple[Any, ...] = ("solid", "dashed", "dotted", "dashdot", (0, (6, 1, 1, 1)))
"""In the order in which runs, or what is one level above the colour, take them."""

MARKERS = "osD^vP"
"""In the order in which variants take them."""

GREY, ZERO = "0.5", "#D9D9D9"
"""Of what is no data: reference lines, and what is exactly 0 in a map."""

REFERENCE: dict[str, Any] = {"color": GREY, "lw": 1.5, "ls": "dotted"}
"""How a reference line is drawn: a ratio of 1, uniform attention."""


class Line(NamedTuple):
    """How a line is drawn, as ``ax.plot`` names it."""

    color: str
    ls: Any
    marker: str


def style_of(number: int) -> Line:
    """The style of a line by its number: colours first, then dashes too.

    Args:
        number: From 0, which is black; a reader takes it for the first of all.

    Returns:
        The style.
    """
    turn = number + number // len(COLOURS)
    return Line(
        COLOURS[number % len(COLOURS)],
        DASHES[turn % len(DASHES)],
        MARKERS[number % len(MARKERS)],
    )


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in the one style of all pictures.

    Args:
        width: In inches.
        height: In inches.

    Returns:
        The figure; its layout makes room for titles and legends.
    """
    sns.set_theme(context="notebook", style="ticks")
    return Figure(figsize=(width, height), layout="constrained")


def entitle(figure: Figure, title: str) -> None:
    """Put a title on a figure, its lines wrapped to the width.

    Args:
        figure: The figure.
        title: What is shown.
    """
    width = int(11 * figure.get_figwidth())
    lines = (textwrap.fill(line, width) for line in title.splitlines())
    figure.suptitle("\n".join(lines), fontsize="medium")


def open_frame(ax: Axes, grid: Literal["both", "x"] = "both") -> None:
    """A light grid, and no frame at the top and to the right.

    Args:
        ax: The axes.
        grid: Whether lines go both ways or stand on the horizontal axis.
    """
    ax.grid(axis=grid, color="0.9", lw=0.6)
    sns.despine(ax=ax)


def length_axis(
    ax: Axes, lengths: Sequence[int], label: str = "number of time steps T"
) -> None:
    """A horizontal axis of lengths T: log2, a tick at every length measured.

    Args:
        ax: The axes.
        lengths: The lengths T; 1024 is written 1k.
        label: What the lengths are.
    """
    ax.set_xscale("log", base=2)
    ax.set_xlabel(label)
    names = [str(T) if T % 1024 else f"{T // 1024}k" for T in lengths]
    ax.set_xticks(list(lengths), names)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.margins(x=0.08)


def log_axis(axis: Axis, digits: Sequence[float] = (1, 2, 5)) -> None:
    """Ticks of a logarithmic axis, in plain numbers.

    Args:
        axis: Such as ``ax.yaxis``; its scale is set before.
        digits: Where in every decade.
    """
    axis.set_major_locator(LogLocator(subs=digits))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def whole_axis(axis: Axis, ticks: int = 7) -> None:
    """Ticks of an axis that counts: at whole numbers.

    Args:
        axis: Such as ``ax.xaxis``.
        ticks: At most how many.
    """
    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=ticks))


def legend_below(ax: Axes, columns: int = 2, size: str = "small") -> None:
    """A legend under the label of the horizontal axis, out of the way of the data.

    Args:
        ax: The axes.
        columns: How many entries side by side.
        size: Of the letters.
    """
    ax.legend(
        frameon=False,
        ncols=columns,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.16),
        fontsize=size,
        columnspacing=1,
    )


def entries_of(axes: Iterable[Axes]) -> dict[str, Any]:
    """What has a label on some axes.

    Args:
        axes: The axes.

    Returns:
        What is drawn by its label, each label once.
    """
    found: dict[str, Any] = {}
    for ax in axes:
        for drawn, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, drawn)
    return found


def legend_outside(figure: Figure, entries: Mapping[str, Any], columns: int) -> None:
    """One legend for all panels, at the foot of the figure.

    Args:
        figure: The figure.
        entries: What is drawn by its label.
        columns: How many entries side by side, at most.
    """
    figure.legend(
        [*entries.values()],
        [*entries],
        loc="outside lower center",
        ncols=max(1, min(len(entries), columns)),
        frameon=False,
        fontsize="small",
    )


def line_of_seeds(ax: Axes, by_seed: pd.DataFrame, band: bool = True, **line: Any):
    """A line of means over seeds, in a band from the lowest to the highest of them.

    A mean of 0 is a gap on a logarithmic axis, whose scale is set before.

    Args:
        ax: The axes.
        by_seed: Values, a row per place on the horizontal axis, a column per seed.
        band: Whether to draw the band.
        **line: How the line is drawn, as for ``ax.plot``; ``color`` among it.
    """
    by_seed = by_seed.sort_index()
    places, mean = by_seed.index.to_numpy(float), by_seed.mean(axis=1)
    if ax.get_yscale() == "log":
        mean = mean.where(mean > 0)
    if band and by_seed.shape[1] > 1:
        low, high = by_seed.min(axis=1), by_seed.max(axis=1)
        ax.fill_between(places, low, high, color=line["color"], alpha=0.15, lw=0)
    ax.plot(places, mean.to_numpy(float), **line)


def step_map(ax: Axes, table: np.ndarray, colours: str, **scale: Any) -> Any:
    """A map of query steps i by source steps j, both counted from 0.

    Args:
        ax: The axes.
        table: A value per i and j; what is masked is drawn as an exact 0.
        colours: Name of the colour map.
        **scale: As for ``ax.imshow``: ``vmin`` and ``vmax``, or ``norm``.

    Returns:
        The image, for a colour bar.
    """
    edge = len(table) - 0.5
    ax.set_facecolor(ZERO)
    look: dict[str, Any] = {"interpolation": "nearest", "cmap": colours} | scale
    image = ax.imshow(table, extent=(-0.5, edge, edge, -0.5), **look)
    for axis in (ax.xaxis, ax.yaxis):
        whole_axis(axis, ticks=5)
    return image


def mark_uniform(bar: Colorbar, T: int) -> None:
    """Mark 1/T, uniform attention, on a colour bar.

    Args:
        bar: The colour bar of attention weights.
        T: Number of steps.
    """
    bar.ax.axhline(1 / T, color="white", lw=2)
    place: dict[str, Any] = {"ha": "right", "va": "center", "fontsize": "x-small"}
    bar.ax.text(-0.2, 1 / T, "1/T", transform=bar.ax.get_yaxis_transform(), **place)


def share_map(
    ax: Axes, shares: pd.DataFrame, names: Sequence[str], columns: Sequence[str]
) -> Any:
    """A map of shares in percent, its numbers in the cells.

    Args:
        ax: The axes.
        shares: Shares in [0, 1], NaN where there is nothing to say.
        names: Of the rows.
        columns: Of the columns.

    Returns:
        The image, for a colour bar.
    """
    table = shares.to_numpy(float)
    image = ax.imshow(100 * table, vmin=0, vmax=100, cmap="cividis", aspect="auto")
    for (row, column), share in np.ndenumerate(table):
        if np.isfinite(share):
            ax.text(
                *(column, row, percent(share)),
                ha="center",
                va="center",
                color="black" if share > 0.6 else "white",
                fontsize="x-small",
            )
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(names)), names)
    return image


def percent(share: float) -> str:
    """A share in percent; never 100 where something fails, nor 0 where something holds.

    Args:
        share: In [0, 1].

    Returns:
        One to three characters.

    Example:
        >>> percent(1.0), percent(0.999), percent(0.001), percent(0.0)
        ('100', '>99', '<1', '0')
    """
    whole = round(100 * share)
    if whole == 100 and share < 1:
        return ">99"
    return "<1" if whole == 0 and share > 0 else str(whole)
