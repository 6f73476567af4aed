"""How every picture looks: colours, axes, legends. One place, so that they agree.

A picture takes a frame and returns a `Figure`; it is made by `new_figure`, takes its
colours from here, and is written by `models.runs.folder.RunFolder.write_figure`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
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

GREY = "0.5"
"""Of reference lines: a ratio of 1, uniform attention."""


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


def length_axis(ax: Axes, lengths: Sequence[int]) -> None:
    """A horizontal axis of lengths T: log2, a tick at every length measured.

    Args:
        ax: The axes.
        lengths: The lengths T.
    """
    ax.set_xscale("log", base=2)
    ax.set_xlabel("number of time steps T")
    ax.set_xticks(list(lengths), [str(T) for T in lengths])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.margins(x=0.08)


def log_axis(axis: Axis) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5, in plain numbers.

    Args:
        axis: Such as ``ax.yaxis``; its scale is set before.
    """
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def whole_axis(axis: Axis, ticks: int = 7) -> None:
    """Ticks of an axis that counts: at whole numbers.

    Args:
        axis: Such as ``ax.xaxis``.
        ticks: At most how many.
    """
    axis.set_major_locator(MaxNLocator(integer=True, nbins=ticks))


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


def line_of_seeds(ax: Axes, by_seed: pd.DataFrame, band: bool = True, **line: Any):
    """A line of means over seeds, in a band from the lowest to the highest of them.

    Args:
        ax: The axes.
        by_seed: Values, a row per place on the horizontal axis, a column per seed.
        band: Whether to draw the band.
        **line: How the line is drawn, as for ``ax.plot``; ``color`` among it.
    """
    places = by_seed.index.to_numpy(float)
    if band:
        low, high = by_seed.min(axis=1), by_seed.max(axis=1)
        ax.fill_between(places, low, high, color=line["color"], alpha=0.15, lw=0)
    ax.plot(places, by_seed.mean(axis=1).to_numpy(float), **line)


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
