"""Measures that are courses over a lag or a step, by variant."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.diagnostics.registry import CURVES
from analysis.plots import style as kit
from analysis.variants import seeds_in_words, some_layers

_DOTS = 40  # points of a line that can be told apart


def draw_curves(table: pd.DataFrame, note: str) -> Figure:
    """Every curve of the registry: means over seeds, and the range of the seeds.

    A row per curve, a column per layer; a dotted line is what uniform attention has.

    Args:
        table: Rows of ``curves.csv`` of one window, one step of each variant and seed.
        note: What was measured.

    Returns:
        The figure.
    """
    table = table[table["head"] == "layer"]
    layers = some_layers(table["layer"])
    T = int(table["T"].iloc[0])
    marker_size = 3.5 if T <= _DOTS else 0
    variants = list(dict.fromkeys(table["variant"]))
    size = (2 + 4.2 * len(layers), 1.6 + 2.9 * len(CURVES))
    figure = kit.new_figure(*size)
    axes = figure.subplots(len(CURVES), len(layers), squeeze=False, sharey="row")
    for line, entry in zip(axes, CURVES, strict=True):
        line[0].set_ylabel(textwrap.fill(entry.label, 26), fontsize="small")
        for ax, layer in zip(line, layers, strict=True):
            here = (table["layer"] == layer) & (table["quantity"] == entry.name)
            own = table[here]
            if entry.uniform is not None:
                values = entry.uniform(T)
                at = np.arange(len(values)) + entry.first
                ax.plot(at, values, **kit.REFERENCE, label="uniform attention")
            for number, variant in enumerate(variants, 1):
                seeds = own[own["variant"] == variant].pivot_table(
                    index="at", columns="seed", values="value"
                )
                if len(seeds):
                    look = kit.style_of(number)
                    kit.line_of_seeds(
                        *(ax, seeds),
                        band=True,
                        label=textwrap.fill(str(variant), 40),
                        color=look.color,
                        marker=look.marker,
                        ms=marker_size,
                    )
            ax.set_xlabel(entry.over, fontsize="small")
            kit.open_frame(ax)
        if line[0].get_ylim()[0] > 0:
            line[0].set_ylim(0)
    for ax, layer in zip(axes[0], layers, strict=True):
        ax.set_title(f"layer {layer}, T = {T}", fontsize="medium")
    kit.legend_outside(figure, kit.entries_of(axes.flat), min(4, 1 + len(variants)))
    what = seeds_in_words(table["seed"].nunique(), "mean and range over seeds")
    kit.entitle(figure, f"Courses of attention over lags and steps, {what}\n{note}")
    return figure
