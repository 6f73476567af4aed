"""Pictures of training runs: how the validation error falls, and where steps look."""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.plots.network_lines import style_of
from analysis.plots.style import new_figure, whole_axis


def training_curves(table: pd.DataFrame) -> Figure:
    """Validation MAE against the epoch: a panel per window, a line per variant.

    A line is the mean over seeds, its band reaches from the lowest to the highest. A
    seed that has stopped early counts on with its last error.

    Args:
        table: Rows of ``metrics.csv``, with the columns ``variant`` and ``window``.

    Returns:
        The figure.
    """
    windows = sorted(table["window"].unique())
    figure = new_figure(1 + 4.8 * len(windows), 4.8)
    axes = figure.subplots(1, len(windows), squeeze=False)[0]
    variants = list(dict.fromkeys(table["variant"]))
    single = table["epoch"].nunique() == 1  # a point is no line
    for ax, window in zip(axes, windows, strict=True):
        for number, variant in enumerate(variants):
            own = table[(table["window"] == window) & (table["variant"] == variant)]
            if own.empty:
                continue
            by_seed = own.pivot(index="epoch", columns="seed", values="validation_mae")
            by_seed = by_seed.ffill()
            mean, low, high = (by_seed.agg(f, axis=1) for f in ("mean", "min", "max"))
            colour, dash, marker = style_of(number)
            dots = marker if single else ""
            ax.plot(mean.index, mean, label=variant, color=colour, ls=dash, marker=dots)
            ax.fill_between(mean.index, low, high, color=colour, alpha=0.12, lw=0)
        ax.set_title(f"{window} steps in", fontsize="medium")
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("{x:g}")
        ax.tick_params(axis="y", which="minor", labelsize="x-small")
        ax.grid(color="0.9", lw=0.6)
        sns.despine(ax=ax)
    axes[0].set_ylabel("validation MAE (mph)")
    lines = {str(line.get_label()): line for ax in axes for line in ax.get_lines()}
    figure.legend(
        [lines[variant] for variant in variants],
        variants,
        loc="outside lower center",
        ncols=1 + len(windows),
        frameon=False,
        fontsize="small",
    )
    return figure


def attention_maps(maps: dict[str, Float[np.ndarray, "T T"]], title: str) -> Figure:
    """Mean attention weights of variants, side by side on one scale.

    Args:
        maps: Weights alpha_ij by variant, row i the query step.
        title: What they are a mean of.

    Returns:
        The figure; 1/T, uniform attention, is marked on the colour bar.

    References:
        arXiv 2602.10956, Fig. 1 and 2.
    """
    columns = min(len(maps), 3)
    rows = -(-len(maps) // columns)
    figure = new_figure(3.4 * columns + 1, 3.4 * rows + 0.9)
    axes = figure.subplots(rows, columns, squeeze=False)
    top = max(float(table.max()) for table in maps.values())
    image = None
    for ax, (variant, table) in zip(axes.flat, maps.items(), strict=False):
        edge = len(table) - 0.5  # steps are counted from 0
        extent = (-0.5, edge, edge, -0.5)
        image = ax.imshow(table, cmap="cividis", vmin=0, vmax=top, extent=extent)
        share = float(np.trace(table)) / len(table)
        ax.set_title(f"{variant}\ndiagonal mean {share:.3f}", fontsize="small")
        for axis in (ax.xaxis, ax.yaxis):
            whole_axis(axis, ticks=6)
    for ax in axes.flat[len(maps) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("query step i")
    for ax in axes[-1]:
        ax.set_xlabel("source step j")
    uniform = 1 / len(next(iter(maps.values())))
    if image is not None:
        bar = figure.colorbar(image, ax=axes, shrink=0.8, label="mean attention weight")
        bar.ax.axhline(uniform, color="white", lw=2)
        place: Any = {"ha": "right", "va": "center"}
        across = bar.ax.get_yaxis_transform()
        bar.ax.text(-0.3, uniform, "1/T", transform=across, **place)
    figure.suptitle(title, fontsize="medium")
    return figure
