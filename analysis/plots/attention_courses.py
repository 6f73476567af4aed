"""How trained attention moves: with the training step, and with the window's length."""

import itertools
import textwrap

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from analysis.diagnostics.registry import PANELS, Panel, drawn_in
from analysis.plots.attention import (
    entitle,
    legend_entries,
    plain_log_ticks,
    seeds_in_words,
    some_layers,
    uniform_values,
)
from analysis.plots.style import BLACK, BLUE, GREEN, ORANGE, RED
from analysis.statistics import fit_power_law

_STYLES = ("-", "--")
_COLOURS = (BLUE, ORANGE, GREEN, BLACK)


def by_training_step(table: pd.DataFrame, note: str) -> Figure:
    """Every panel of the registry against the training step.

    Lines are means over seeds, bands reach from the lowest to the highest seed.

    Args:
        table: Rows of ``diagnostics.csv`` of kept weights.
        note: What was measured.

    Returns:
        The figure: a column per variant and window, a line style per layer.
    """
    table = table[table["head"] == "layer"]
    columns = {
        f"{textwrap.fill(str(variant), 34)}\nT = {T}": own
        for (T, variant), own in table.groupby(["T", "variant"], sort=False)
    }
    figure, axes = _grid(columns, table, "step", "training step")
    for line, panel in zip(axes, PANELS, strict=True):
        for ax, own in zip(line, columns.values(), strict=True):
            for value in uniform_values(panel, int(own["T"].iloc[0])):
                ax.axhline(value, color=RED, lw=1.2, ls="-.", label="uniform")
        if panel.log:
            line[0].set_yscale("log")
            plain_log_ticks(line[0].yaxis)
        else:
            top = line[0].get_ylim()[1]
            line[0].set_ylim(-0.02 * top, 1.05 * top)
        _legend(line[-1], line)
    what = seeds_in_words(table["seed"].nunique(), "mean and range over seeds")
    entitle(figure, f"Attention in the course of training: {what}", note)
    return figure


def by_length(table: pd.DataFrame, note: str) -> Figure:
    """Every panel of the registry against the length T of the window, on log axes.

    Lines are means over seeds, small points are seeds; from three lengths on the legend
    has the fitted exponent of T.

    Args:
        table: Rows of ``diagnostics.csv``, one step of each variant and seed.
        note: What was measured.

    Returns:
        The figure: a column per variant seen at several lengths.
    """
    table = table[table["head"] == "layer"]
    lengths = table.groupby("variant", sort=False)["T"].nunique()
    columns = {
        textwrap.fill(variant, 34): table[table["variant"] == variant]
        for variant in [v for v in lengths.index if lengths[v] > 1] or lengths.index
    }
    figure, axes = _grid(columns, table, "T", "length T of the window (steps)")
    T = np.array(sorted(set(pd.concat(columns.values())["T"])))
    for line, panel in zip(axes, PANELS, strict=True):
        for ax in line:
            uniform = np.array([uniform_values(panel, int(t)) for t in T])
            if uniform.size:
                ax.plot(T, uniform, color=RED, ls="-.", lw=1.2, label="uniform")
            ax.set(xscale="log", yscale="log")
            ax.set_xticks(T, [str(t) for t in T])
            ax.xaxis.set_minor_locator(NullLocator())
            plain_log_ticks(ax.yaxis)
            _legend(ax, np.array([ax]))
    what = seeds_in_words(table["seed"].nunique(), "mean over seeds, and seeds")
    entitle(figure, f"Attention against the length of the window: {what}", note)
    return figure


def _grid(
    columns: dict[str, pd.DataFrame], table: pd.DataFrame, across: str, label: str
) -> tuple[Figure, np.ndarray]:
    """A row per panel of the registry, a column per table, and the lines in them."""
    sns.set_theme(context="notebook", style="ticks")
    width = 4.6 + 4 * len(columns) if across == "step" else 7.5 * len(columns)
    figure = Figure(figsize=(width, 1 + 2.8 * len(PANELS)), layout="constrained")
    axes = figure.subplots(
        len(PANELS), len(columns), sharex=True, sharey="row", squeeze=False
    )
    layers = some_layers(table, len(_STYLES))[::-1]  # the last one solid
    for line, panel in zip(axes, PANELS, strict=True):
        line[0].set_ylabel(panel.title)
        for ax, own in zip(line, columns.values(), strict=True):
            for layer, style in zip(layers, _STYLES, strict=False):
                _courses(ax, own[own["layer"] == layer], across, panel, style)
            ax.grid(color="0.9", lw=0.6)
            ax.spines[["top", "right"]].set_visible(False)
    for ax, name in zip(axes[0], columns, strict=True):
        ax.set_title(name, fontsize="small")
    for ax in axes[-1]:
        ax.set_xlabel(label)
    return figure, axes


def _legend(ax: Axes, of: np.ndarray) -> None:
    """What is drawn on some axes, beside one of them."""
    where = {"loc": "center left", "bbox_to_anchor": (1.02, 0.5)}
    ax.legend(**legend_entries(of), **where, frameon=False, fontsize="small")


def _courses(
    ax: Axes, table: pd.DataFrame, across: str, panel: Panel, style: str
) -> None:
    """The diagnostics of one layer: means over seeds, and their band or points."""
    for entry, colour in zip(drawn_in(panel), itertools.cycle(_COLOURS)):
        own = table[table["quantity"] == entry.name]
        if own.empty:
            continue
        seeds = own.pivot_table(index=across, columns="seed", values="value")
        x = seeds.index.to_numpy(float)
        label = f"{entry.label}, layer {own['layer'].iloc[0]}"
        if across == "T":
            label += _exponent(own) if panel.power_law else ""
            ax.plot(own["T"], own["value"], ".", color=colour, alpha=0.4, ms=7, mew=0)
        else:
            low, high = seeds.min(axis=1), seeds.max(axis=1)
            ax.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
        look = {"ls": style, "color": colour, "marker": "o", "ms": 3.5}
        ax.plot(x, seeds.mean(axis=1), label=label, **look)


def _exponent(own: pd.DataFrame) -> str:
    lengths, values = (own[name].to_numpy(float) for name in ("T", "value"))
    slope = fit_power_law(lengths, values, float(np.finfo(np.float64).eps)).exponent
    return "" if np.isnan(slope) else rf" $\propto T^{{{slope:.2f}}}$"
