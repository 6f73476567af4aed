"""Which measures of a head predict its exact influence: rank correlations."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.diagnostics.registry import BY_NAME
from analysis.plots import style as kit


def draw_predictors(
    table: pd.DataFrame,
    measures: Sequence[str],
    targets: Mapping[str, str],
    note: str,
) -> Figure:
    """Correlations with their intervals: a row per measure, a column per target.

    Args:
        table: Rows of ``predictors.csv`` of one length.
        measures: The measures, from top to bottom.
        targets: Names of the targets, and their labels.
        note: What was measured.

    Returns:
        The figure; a filled point has an interval without 0.
    """
    figure = kit.new_figure(4 + 2.9 * len(targets), 2.2 + 0.24 * len(measures))
    axes = figure.subplots(1, len(targets), sharex=True, sharey=True, squeeze=False)[0]
    place = {name: height for height, name in enumerate(measures)}
    look = kit.style_of(1)
    for ax, (target, label) in zip(axes, targets.items(), strict=True):
        own = table[(table["target"] == target) & table["measure"].isin(measures)]
        height = own["measure"].map(place).to_numpy()
        value, low, high = (own[n].to_numpy(float) for n in ("value", "low", "high"))
        ax.axvline(0, color=kit.GREY, lw=0.8)
        ax.hlines(height, low, high, color=look.color, lw=1.5, alpha=0.6)
        sure = low * high > 0
        for chosen, face, words in (
            (sure, look.color, "95 % interval without 0"),
            (~sure, "white", "interval with 0"),
        ):
            ax.plot(value[chosen], height[chosen], "o", ms=5, color=look.color,
                    mfc=face, label=words)  # fmt: skip
        ax.set_xlim(-1.05, 1.05)
        ax.set_title(label, fontsize="small")
        ax.set_xlabel("rank correlation", fontsize="small")
        kit.open_frame(ax, grid="x")
    axes[0].set_ylim(len(measures) - 0.5, -0.5)
    axes[0].set_yticks(np.arange(len(measures)))
    labels = [BY_NAME[name].label for name in measures]
    axes[0].set_yticklabels(labels, fontsize="small")
    kit.legend_outside(figure, kit.entries_of(axes), 2)
    kit.entitle(figure, f"Which measure of a head predicts its influence?\n{note}")
    return figure
