"""How trained attention moves: with the training step, and with the window's length."""

import textwrap

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from analysis.plots.attention import (
    entitle,
    legend_entries,
    plain_log_ticks,
    some_layers,
)
from analysis.plots.bounds import BLACK, BLUE, GREEN, ORANGE, RED
from analysis.statistics import fit_power_law

_STYLES = ("-", "--", ":")
_COURSES: dict[str, dict[str, tuple[str, str]]] = {
    "norm on the diagonal": {
        "value_diagonal": (BLUE, "value path"),
        "key_diagonal": (ORANGE, "key path"),
        "query_diagonal": (GREEN, "query path"),
    },
    "diagonal share": {
        "diagonal_share": (BLACK, "diagonal share"),
    },
    "parroting ratio": {
        "parroting_median": (BLACK, "attention alone"),
        "parroting_with_residual_median": (RED, "with the residual"),
    },
}


def by_training_step(table: pd.DataFrame, note: str) -> Figure:
    """Norms by path, diagonal share and parroting ratio against the training step.

    Lines are means over seeds, bands reach from the lowest to the highest seed.

    Args:
        table: Rows of ``diagnostics.csv`` of kept weights.
        note: What was measured.

    Returns:
        The figure: a column per variant and window, a line style per layer.
    """
    sns.set_theme(context="notebook", style="ticks")
    whole = table[table["head"] == "layer"]
    columns = list(dict.fromkeys(zip(whole["T"], whole["variant"], strict=True)))
    layers = some_layers(whole, 2)[::-1]  # the last one solid
    figure = Figure(figsize=(4.6 + 4 * len(columns), 9.4), layout="constrained")
    axes = figure.subplots(
        len(_COURSES), len(columns), sharex=True, sharey="row", squeeze=False
    )
    for k, (T, variant) in enumerate(columns):
        own = whole[(whole["T"] == T) & (whole["variant"] == variant)]
        for ax, lines in zip(axes[:, k], _COURSES.values(), strict=True):
            for layer, style in zip(layers, _STYLES, strict=False):
                here = own[own["layer"] == layer]
                for name, (colour, label) in lines.items():
                    _course(ax, here, "step", name, colour, style, label, layer)
        axes[1, k].axhline(1 / T, color=RED, lw=1.2, ls="-.", label="1/T")
        axes[1, k].set_ylim(bottom=-0.004)
        axes[2, k].set_yscale("log")
        axes[2, k].axhline(1, color="0.6", lw=1)
        plain_log_ticks(axes[2, k].yaxis)
        axes[0, k].set_title(f"{textwrap.fill(variant, 34)}\nT = {T}", fontsize="small")
        axes[-1, k].set_xlabel("training step")
    for ax, label in zip(axes[:, 0], _COURSES, strict=True):
        ax.set_ylabel(label)
    for ax in axes.flat:
        ax.grid(color="0.9", lw=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    for line in axes:  # beside the panels of a row
        where = {"loc": "center left", "bbox_to_anchor": (1.02, 0.5)}
        line[-1].legend(
            **legend_entries(line), **where, frameon=False, fontsize="small"
        )
    title = "Attention in the course of training: mean and range over seeds"
    entitle(figure, title, note)
    return figure


def by_length(table: pd.DataFrame, note: str) -> Figure:
    """Diagonal share and norms against the length T of the window, on log axes.

    Lines are means over seeds, small points are seeds; from three lengths on the legend
    has the fitted exponent of T.

    Args:
        table: Rows of ``diagnostics.csv``, one step of each variant and seed.
        note: What was measured.

    Returns:
        The figure: a row per variant seen at several lengths, and two panels.
    """
    sns.set_theme(context="notebook", style="ticks")
    whole = table[table["head"] == "layer"]
    lengths = whole.groupby("variant", sort=False)["T"].nunique()
    variants = [v for v in lengths.index if lengths[v] > 1] or list(lengths.index)
    layers = some_layers(whole, 2)[::-1]
    figure = Figure(figsize=(11, 1.6 + 5 * len(variants)), layout="constrained")
    axes = figure.subplots(len(variants), 2, squeeze=False, sharex=True)
    norms = {
        "query_diagonal": (GREEN, "query path, on the diagonal"),
        "total_off_diagonal": (BLUE, "total, mean off the diagonal"),
    }
    for line, variant in zip(axes, variants, strict=True):
        own = whole[whole["variant"] == variant]
        for layer, style in zip(layers, _STYLES, strict=False):
            here = own[own["layer"] == layer]
            share = (BLACK, style, "diagonal share", layer)
            _course(line[0], here, "T", "diagonal_share", *share, fit=True)
            for name, (colour, label) in norms.items():
                look = (colour, style, label, layer)
                _course(line[1], here, "T", name, *look, fit=True)
        T = np.array(sorted(set(own["T"])))
        line[0].plot(T, 1 / T, color=RED, ls="-.", lw=1.2, label="1/T, uniform")
        for ax, label in zip(line, ("weight", "norm"), strict=True):
            ax.set(xscale="log", yscale="log", ylabel=f"mean {label}")
            ax.set_title(variant, fontsize="medium")
            ax.set_xticks(T, [str(t) for t in T])
            ax.xaxis.set_minor_locator(NullLocator())
            ax.set_xlabel("length T of the window (steps)")
            plain_log_ticks(ax.yaxis)
            where = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16)}
            ax.legend(**where, frameon=False, fontsize="small")
            ax.grid(color="0.9", lw=0.6)
            ax.spines[["top", "right"]].set_visible(False)
    title = "Attention against the length of the window: mean over seeds, and seeds"
    entitle(figure, title, note)
    return figure


def _course(
    ax: Axes,
    table: pd.DataFrame,
    across: str,
    name: str,
    colour: str,
    style: str,
    label: str,
    layer: int,
    *,
    fit: bool = False,
) -> None:
    """One quantity of one layer: its mean over seeds, and their band or points."""
    own = table[table["quantity"] == name]
    if own.empty:
        return
    seeds = own.pivot_table(index=across, columns="seed", values="value")
    if fit and seeds.shape[0] > 2:
        lengths = own[across].to_numpy(float)
        eps = float(np.finfo(np.float64).eps)
        slope = fit_power_law(lengths, own["value"].to_numpy(float), eps).exponent
        label += "" if np.isnan(slope) else rf" $\propto T^{{{slope:.2f}}}$"
    x = seeds.index.to_numpy(float)
    ax.plot(
        x,
        seeds.mean(axis=1),
        ls=style,
        color=colour,
        marker="o",
        ms=3.5,
        label=f"{label}, layer {layer}",
    )
    if fit:
        ax.plot(own[across], own["value"], ".", color=colour, alpha=0.4, ms=7, mew=0)
        return
    low, high = seeds.min(axis=1), seeds.max(axis=1)
    ax.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
