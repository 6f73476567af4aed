"""Pictures of training runs: how the validation error falls, and where steps look."""

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

from analysis.plots import style as kit
from analysis.variants import seeds_in_words


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
    figure = kit.new_figure(1 + 4.8 * len(windows), 4.8)
    axes = figure.subplots(1, len(windows), squeeze=False)[0]
    variants = list(dict.fromkeys(table["variant"]))
    single = table["epoch"].nunique() == 1  # a point is no line
    for ax, window in zip(axes, windows, strict=True):
        ax.set_yscale("log")
        for number, variant in enumerate(variants):
            own = table[(table["window"] == window) & (table["variant"] == variant)]
            if own.empty:
                continue
            by_seed = own.pivot(index="epoch", columns="seed", values="validation_mae")
            look = kit.style_of(number)
            look = look if single else look._replace(marker="")
            kit.line_of_seeds(ax, by_seed.ffill(), label=variant, **look._asdict())
        ax.set_title(f"{window} steps in", fontsize="medium")
        ax.set_xlabel("epoch")
        kit.whole_axis(ax.xaxis)
        kit.log_axis(ax.yaxis, digits=range(1, 10))
        ax.tick_params(axis="y", labelsize="small")
        kit.open_frame(ax)
    axes[0].set_ylabel("validation MAE (mph)")
    entries = kit.entries_of(axes)
    shown = {variant: entries[variant] for variant in variants}
    kit.legend_outside(figure, shown, columns=1 + len(windows))
    what = seeds_in_words(table["seed"].nunique(), "mean and range over seeds")
    kit.entitle(figure, f"Validation error in the course of training: {what}")
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
    figure = kit.new_figure(3.4 * columns + 1, 3.4 * rows + 0.9)
    axes = figure.subplots(rows, columns, squeeze=False)
    top = max(float(table.max()) for table in maps.values())
    image = None
    for ax, (variant, table) in zip(axes.flat, maps.items(), strict=False):
        image = kit.step_map(ax, table, "cividis", vmin=0, vmax=top)
        share = float(np.trace(table)) / len(table)
        ax.set_title(f"{variant}\ndiagonal mean {share:.3f}", fontsize="small")
    for ax in axes.flat[len(maps) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("query step i")
    for ax in axes[-1]:
        ax.set_xlabel("source step j")
    if image is not None:
        bar = figure.colorbar(image, ax=axes, shrink=0.8, label="mean attention weight")
        kit.mark_uniform(bar, len(next(iter(maps.values()))))
    kit.entitle(figure, title)
    return figure
