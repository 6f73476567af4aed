"""Pictures of trained attention: maps by path, and diagnostics by variant."""

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.diagnostics.registry import Diagnostic, Panel, drawn_in
from analysis.plots import style as kit
from analysis.variants import some_layers

_DECADES = 3
_PANELS = {
    "attention": r"attention $\alpha_{ij}$",
    "value": "value path",
    "key": "key path",
    "query": "query path",
    "total": "total, no residual",
}


def path_maps(
    rows: Mapping[str, Mapping[str, Float[np.ndarray, "T T"]]], title: str, norm: str
) -> Figure:
    """Mean attention weights and mean norms by path, T x T, a panel each.

    Attention has a linear scale from 0, the same for rows of one length. The paths of a
    row share one logarithmic scale, so that they can be compared; exact zeros are grey.
    Where values lie below three decades, the colour bar ends in an arrow.

    Args:
        rows: By row, and by the names ``attention``, ``value``, ``key``, ``query`` and
            ``total``.
        title: What they are a mean of.
        norm: Norm of the Jacobians.

    Returns:
        The figure.
    """
    figure = kit.new_figure(15.2, 1.7 + 2.75 * len(rows))
    axes = figure.subplots(len(rows), len(_PANELS), squeeze=False)
    tops: dict[int, float] = {}
    for table in (maps["attention"] for maps in rows.values()):
        tops[len(table)] = max(tops.get(len(table), 0), float(table.max()))
    for line, (name, maps) in zip(axes, rows.items(), strict=True):
        paths = [maps[path] for path in _PANELS if path != "attention"]
        scale, extend = _scale(paths)
        top = tops[len(maps["attention"])]
        images = [_map(line[0], maps["attention"], "cividis", vmin=0, vmax=top)]
        for ax, table in zip(line[1:], paths, strict=True):
            images.append(_map(ax, table, "viridis", norm=scale))
        bar = figure.colorbar(images[0], ax=line[0], shrink=0.85)
        kit.mark_uniform(bar, len(maps["attention"]))
        bar = figure.colorbar(images[-1], ax=line[1:], shrink=0.85, extend=extend)
        bar.set_label(f"{norm.capitalize()} norm")
        kit.log_axis(bar.ax.yaxis)
        line[0].set_ylabel(f"{textwrap.fill(name, 22)}\nquery step i", fontsize="small")
    for ax, label in zip(axes[0], _PANELS.values(), strict=True):
        ax.set_title(label, fontsize="medium")
    for ax in axes[-1]:
        ax.set_xlabel("source step j", fontsize="small")
    zero = (
        "exactly 0 (colours: attention linear from 0, one scale for one length; paths "
        "logarithmic, one scale a row)"
    )
    patch = Patch(facecolor=kit.ZERO, edgecolor=kit.GREY)
    kit.legend_outside(figure, {zero: patch}, columns=1)
    kit.entitle(figure, title)
    return figure


def _scale(tables: list[np.ndarray]) -> tuple[LogNorm, str]:
    """One scale for all that is not 0, of at most three decades, and where it ends."""
    values = np.concatenate([table[table > 0] for table in tables])
    if not values.size:
        return LogNorm(0.1, 1), "neither"
    top = float(values.max())
    least, low = float(values.min()), top / 10**_DECADES
    scale = LogNorm(min(max(least, low), 0.9 * top), top)
    return scale, "min" if least < low else "neither"


def _map(ax: Axes, table: np.ndarray, colours: str, **scale: object):
    ax.tick_params(labelsize="x-small")
    return kit.step_map(ax, np.ma.masked_equal(table, 0), colours, **scale)


def dots(panel: Panel, points: pd.DataFrame, rows: pd.DataFrame, note: str) -> Figure:
    """The diagnostics of a panel: seeds, their mean and its interval, by variant.

    A row of panels per window, a column per layer; a dashed line where attention would
    be uniform. On a logarithmic axis an interval that reaches 0 is cut at the axis.

    Args:
        panel: Which diagnostics.
        points: Rows of ``diagnostics.csv``, one step of each variant and seed.
        rows: Rows of ``variants.csv`` for the same steps.
        note: What was measured.

    Returns:
        The figure.
    """
    points = points[points["head"] == "layer"]
    lengths, layers = sorted(set(points["T"])), some_layers(points["layer"])
    variants = {T: list(points.loc[points["T"] == T, "variant"].unique())
                for T in lengths}  # fmt: skip
    heights = [0.9 + 0.5 * len(variants[T]) for T in lengths]
    figure = kit.new_figure(4 + 4 * len(layers), 2 + sum(heights))
    axes = figure.subplots(
        *(len(lengths), len(layers)),
        squeeze=False,
        sharex="row" if len(lengths) > 1 and not panel.log else "all",
        gridspec_kw={"height_ratios": heights},
    )
    drawn = drawn_in(panel)
    for line, T in zip(axes, lengths, strict=True):
        for ax, layer in zip(line, layers, strict=True):
            if panel.log:  # first: intervals are cut by the scale
                ax.set_xscale("log")
            for value in uniform_values(panel, T):
                ax.axvline(value, **kit.REFERENCE, label="uniform attention")
            own = points[(points["T"] == T) & (points["layer"] == layer)]
            means = rows[(rows["T"] == T) & (rows["layer"] == str(layer))]
            for number, entry in enumerate(drawn):
                look = kit.style_of(number + 1)
                shift = 0.3 * (number - (len(drawn) - 1) / 2)
                _draw_dots(ax, own, means, variants[T], entry, look, shift)
            ax.set_ylim(len(variants[T]) - 0.5, -0.5)
            ax.set_yticks(range(len(variants[T])))
            names = [textwrap.fill(name, 30) for name in variants[T]]
            ax.set_yticklabels(names if layer == layers[0] else [], fontsize="small")
            ax.set_title(f"layer {layer}, T = {T}", fontsize="medium")
            kit.open_frame(ax, grid="x")
            if panel.log:
                kit.log_axis(ax.xaxis)
        if not panel.log:
            right = max(float(ax.dataLim.xmax) for ax in line)
            line[0].set_xlim(-0.03 * right, 1.06 * right)
    for ax in axes[-1]:
        ax.set_xlabel(panel.axis or panel.title, fontsize="small")
    columns = min(4, 1 + 3 * len(drawn))
    kit.legend_outside(figure, kit.entries_of(axes.flat), columns)
    kit.entitle(figure, f"{panel.title}\n{note}")
    return figure


def _draw_dots(
    ax: Axes,
    points: pd.DataFrame,
    means: pd.DataFrame,
    variants: list[str],
    entry: Diagnostic,
    look: kit.Line,
    shift: float,
) -> None:
    """What is drawn has a label; a mean is of two seeds or more."""
    colour = look.color
    seeds = points[points["quantity"] == entry.name]
    height = np.array([variants.index(v) for v in seeds["variant"]]) + shift
    ax.plot(seeds["value"], height, look.marker, color=colour, ms=5, alpha=0.45, ls="",
            mew=0, label=f"{entry.label}: a seed")  # fmt: skip
    own = means[(means["quantity"] == entry.name) & (means["seeds"] > 1)]
    if own.empty:
        return
    height = np.array([variants.index(v) for v in own["variant"]]) + shift
    ax.plot(own["mean"], height, "|", color=colour, ms=13, mew=2, ls="",
            label=f"{entry.label}: mean")  # fmt: skip
    there = own["low"].notna().to_numpy()
    if not there.any():
        return
    low = own["low"].to_numpy(float)
    if ax.get_xscale() == "log":
        low = np.where(low > 0, low, 0.5 * seeds["value"][seeds["value"] > 0].min())
    ax.hlines(height[there], low[there], own["high"][there], color=colour, lw=2,
              label=f"{entry.label}: 95 % interval")  # fmt: skip


def uniform_values(panel: Panel, T: int) -> list[float]:
    """What uniform attention has of the diagnostics of a panel, where it says much."""
    found = [e.uniform(T) for e in drawn_in(panel) if e.uniform is not None]
    return [value for value in dict.fromkeys(found) if value]
