"""How trained attention moves: with the training step, and with the window's length."""

import math
import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.diagnostics.registry import PANELS, Panel, drawn_in
from analysis.plots import style as kit
from analysis.plots.attention import uniform_values
from analysis.statistics import fit_power_law
from analysis.variants import seeds_in_words, some_layers

_STYLES = ("-", "--")
_BESIDE = 3  # panels in a row, where there is one column only


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
    figure, axes = _grid(columns, table, "step")
    for ax in _bottom(axes):
        ax.set_xlabel("training step")
    for line, panel in zip(axes, PANELS, strict=True):
        for ax, own in zip(line, columns.values(), strict=True):
            for value in uniform_values(panel, int(own["T"].iloc[0])):
                ax.axhline(value, **kit.REFERENCE, label="uniform")
        if panel.log:
            kit.log_axis(line[0].yaxis)
        elif not panel.signed:
            top = line[0].get_ylim()[1]
            line[0].set_ylim(-0.02 * top, 1.05 * top)
        _legend(line[-1], *line)
    what = seeds_in_words(table["seed"].nunique(), "mean and range over seeds")
    kit.entitle(figure, f"Attention in the course of training: {what}\n{note}")
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
    figure, axes = _grid(columns, table, "T")
    T = np.array(sorted(set(pd.concat(columns.values())["T"])))
    for line, panel in zip(axes, PANELS, strict=True):
        for ax in line:
            uniform = np.array([uniform_values(panel, int(t)) for t in T])
            if uniform.size:
                ax.plot(T, uniform, **kit.REFERENCE, label="uniform")
            if not panel.signed:
                kit.log_axis(ax.yaxis)
            _legend(ax, ax)
    for ax in _bottom(axes):
        kit.length_axis(ax, T.tolist(), "length T of the window (steps)")
    what = seeds_in_words(table["seed"].nunique(), "mean over seeds, and seeds")
    kit.entitle(figure, f"Attention against the length of the window: {what}\n{note}")
    return figure


def _grid(
    columns: dict[str, pd.DataFrame], table: pd.DataFrame, across: str
) -> tuple[Figure, np.ndarray]:
    """A row per panel of the registry, a column per table, and the lines in them."""
    # Of one table alone panels stand side by side, so that the picture is no ribbon.
    beside = _BESIDE if len(columns) == 1 else 1
    rows, width = math.ceil(len(PANELS) / beside), 7.5 * len(columns) * beside
    if across == "step" and beside == 1:
        width = 4.6 + 4 * len(columns)
    figure = kit.new_figure(width, 1 + 2.8 * rows)
    sharing: dict[str, Any] = {"sharex": True, "squeeze": False}
    sharing["sharey"] = False if beside > 1 else "row"
    axes = figure.subplots(rows, len(columns) * beside, **sharing)
    if beside > 1:
        for ax in axes.flat[len(PANELS) :]:
            ax.remove()
        axes = axes.reshape(-1, 1)[: len(PANELS)]
    layers = some_layers(table["layer"], len(_STYLES))[::-1]  # the last one solid
    for line, panel in zip(axes, PANELS, strict=True):
        line[0].set_ylabel(panel.title)
        if panel.log or (across == "T" and not panel.signed):
            line[0].set_yscale("log")
        for ax, own in zip(line, columns.values(), strict=True):
            for layer, style in zip(layers, _STYLES, strict=False):
                _courses(ax, own[own["layer"] == layer], across, panel, style)
            kit.open_frame(ax)
    for ax, name in zip(axes[0], columns, strict=True):
        ax.set_title(name, fontsize="small")
    return figure, axes


def _bottom(axes: np.ndarray) -> list[Axes]:
    """The lowest panel of every column of the picture; it shows its numbers."""
    beside = _BESIDE if axes.shape[1] == 1 else axes.shape[1]
    lowest = list(axes.flat[-beside:])
    for ax in lowest:
        ax.tick_params(labelbottom=True)
    return lowest


def _legend(ax: Axes, *of: Axes) -> None:
    """What is drawn on some axes, beside one of them."""
    found, place = kit.entries_of(of), (1.02, 0.5)
    where = {"loc": "center left", "bbox_to_anchor": place}
    ax.legend(found.values(), found, **where, frameon=False, fontsize="small")


def _courses(
    ax: Axes, table: pd.DataFrame, across: str, panel: Panel, style: str
) -> None:
    """The diagnostics of one layer: means over seeds, and their band or points."""
    for number, entry in enumerate(drawn_in(panel), 1):
        own = table[table["quantity"] == entry.name]
        if own.empty:
            continue
        seeds = own.pivot_table(index=across, columns="seed", values="value")
        colour = kit.style_of(number).color
        look = {"color": colour, "marker": "o", "ms": 3.5, "ls": style}
        label = f"{entry.label}, layer {own['layer'].iloc[0]}"
        if ax.get_yscale() == "log" and (seeds == 0).all(axis=None):
            label += " (exactly 0)"
        if across == "T":
            says = panel.power_law and not panel.signed
            label += _exponent(own) if says else ""
            dots = {"color": colour, "alpha": 0.4, "ms": 7, "mew": 0}
            ax.plot(own["T"], own["value"], ".", **dots)
        kit.line_of_seeds(ax, seeds, band=across != "T", label=label, **look)


def _exponent(own: pd.DataFrame) -> str:
    lengths, values = (own[name].to_numpy(float) for name in ("T", "value"))
    slope = fit_power_law(lengths, values, float(np.finfo(np.float64).eps)).exponent
    return "" if np.isnan(slope) else rf" $\propto T^{{{slope:.2f}}}$"
