"""Measures that are courses over a lag or a step, by variant."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.diagnostics.registry import CURVES
from analysis.plots import style as kit
from analysis.variants import seeds_in_words, some_layers


def draw_curves(table: pd.DataFrame, note: str) -> Figure:
    """Every curve of the registry: means over seeds, and the range of the seeds.

    A row per curve, a column per window and layer; a dashed line is what uniform
    attention has.

    Args:
        table: Rows of ``curves.csv``, one step of each variant and seed.
        note: What was measured.

    Returns:
        The figure.
    """
    table = table[table["head"] == "layer"]
    layers = some_layers(table["layer"])
    places = [(T, layer) for T in sorted(set(table["T"])) for layer in layers]
    variants = list(dict.fromkeys(table["variant"]))
    size = (2 + 4.2 * len(places), 1.6 + 2.9 * len(CURVES))
    figure = kit.new_figure(*size)
    axes = figure.subplots(len(CURVES), len(places), squeeze=False, sharey="row")
    for line, entry in zip(axes, CURVES, strict=True):
        line[0].set_ylabel(textwrap.fill(entry.label, 26), fontsize="small")
        for ax, (T, layer) in zip(line, places, strict=True):
            here = (table["T"] == T) & (table["layer"] == layer)
            own = table[here & (table["quantity"] == entry.name)]
            if entry.uniform is not None:
                values = entry.uniform(int(T))
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
                        ms=3.5,
                    )
            ax.set_xlabel(entry.over, fontsize="small")
            kit.open_frame(ax)
    for ax, (T, layer) in zip(axes[0], places, strict=True):
        ax.set_title(f"layer {layer}, T = {T}", fontsize="medium")
    kit.legend_outside(figure, kit.entries_of(axes.flat), min(4, 1 + len(variants)))
    what = seeds_in_words(table["seed"].nunique(), "mean and range over seeds")
    kit.entitle(figure, f"Courses of attention over lags and steps, {what}\n{note}")
    return figure
