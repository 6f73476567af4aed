"""Pictures of trained attention: maps by path, and diagnostics by variant."""

import itertools
import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.diagnostics.registry import Diagnostic, Panel, drawn_in
from analysis.plots.style import BLACK, BLUE, GREEN, ORANGE, RED

_ZERO = "#D9D9D9"
_DECADES = 3
_LOOKS = ((BLUE, "o"), (RED, "s"), (GREEN, "^"), (ORANGE, "D"))
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
    sns.set_theme(context="notebook", style="ticks")
    size = (15.2, 1.7 + 2.75 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
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
        share = 1 / len(maps["attention"])
        bar.ax.axhline(share, color="white", lw=2)
        bar.ax.text(
            -0.2, share, "1/T", ha="right", va="center", fontsize="x-small",
            transform=bar.ax.get_yaxis_transform(),
        )  # fmt: skip
        bar = figure.colorbar(images[-1], ax=line[1:], shrink=0.85, extend=extend)
        bar.set_label(f"{norm.capitalize()} norm")
        plain_log_ticks(bar.ax.yaxis)
        line[0].set_ylabel(f"{textwrap.fill(name, 22)}\nquery step i", fontsize="small")
    for ax, label in zip(axes[0], _PANELS.values(), strict=True):
        ax.set_title(label, fontsize="medium")
    for ax in axes[-1]:
        ax.set_xlabel("source step j", fontsize="small")
    figure.legend(
        handles=[Patch(facecolor=_ZERO, edgecolor="0.5")],
        labels=[
            "exactly 0 (colours: attention linear from 0, one scale for one length; "
            "paths logarithmic, one scale a row)"
        ],
        loc="outside lower center",
        frameon=False,
        fontsize="small",
    )
    entitle(figure, *title.split("\n"))
    return figure


def entitle(figure: Figure, *lines: str) -> None:
    """Put a title on a figure, wrapped to its width."""
    width = int(11 * figure.get_figwidth())
    text = "\n".join(textwrap.fill(line, width) for line in lines)
    figure.suptitle(text, fontsize="medium")


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
    edge = len(table) - 0.5  # steps are counted from 0
    ax.set_facecolor(_ZERO)
    image = ax.imshow(
        np.ma.masked_equal(table, 0),
        cmap=colours,
        extent=(-0.5, edge, edge, -0.5),
        interpolation="nearest",
        **scale,  # pyright: ignore[reportArgumentType]
    )
    ax.tick_params(labelsize="x-small")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    return image


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
    sns.set_theme(context="notebook", style="ticks")
    points = points[points["head"] == "layer"]
    lengths, layers = sorted(set(points["T"])), some_layers(points)
    variants = {T: list(points.loc[points["T"] == T, "variant"].unique())
                for T in lengths}  # fmt: skip
    heights = [0.9 + 0.5 * len(variants[T]) for T in lengths]
    figure = Figure(figsize=(4 + 4 * len(layers), 2 + sum(heights)),
                    layout="constrained")  # fmt: skip
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
                ax.axvline(value, color=BLACK, ls="--", lw=1.2,
                           label="uniform attention")  # fmt: skip
            own = points[(points["T"] == T) & (points["layer"] == layer)]
            means = rows[(rows["T"] == T) & (rows["layer"] == str(layer))]
            for number, (entry, look) in enumerate(zip(drawn, itertools.cycle(_LOOKS))):
                shift = 0.3 * (number - (len(drawn) - 1) / 2)
                _draw_dots(ax, own, means, variants[T], entry, look, shift)
            ax.set_ylim(len(variants[T]) - 0.5, -0.5)
            ax.set_yticks(range(len(variants[T])))
            names = [textwrap.fill(name, 30) for name in variants[T]]
            ax.set_yticklabels(names if layer == layers[0] else [], fontsize="small")
            ax.set_title(f"layer {layer}, T = {T}", fontsize="medium")
            ax.grid(axis="x", color="0.9", lw=0.6)
            ax.spines[["top", "right"]].set_visible(False)
            if panel.log:
                plain_log_ticks(ax.xaxis)
        if not panel.log:
            right = max(float(ax.dataLim.xmax) for ax in line)
            line[0].set_xlim(-0.03 * right, 1.06 * right)
    for ax in axes[-1]:
        ax.set_xlabel(panel.axis or panel.title, fontsize="small")
    figure.legend(
        **legend_entries(axes),
        loc="outside lower center",
        ncols=min(4, 1 + 3 * len(drawn)),
        frameon=False,
        fontsize="small",
    )
    entitle(figure, panel.title, note)
    return figure


def _draw_dots(
    ax: Axes,
    points: pd.DataFrame,
    means: pd.DataFrame,
    variants: list[str],
    entry: Diagnostic,
    look: tuple[str, str],
    shift: float,
) -> None:
    """What is drawn has a label; a mean is of two seeds or more."""
    colour, marker = look
    seeds = points[points["quantity"] == entry.name]
    height = np.array([variants.index(v) for v in seeds["variant"]]) + shift
    ax.plot(seeds["value"], height, marker, color=colour, ms=5, alpha=0.45, ls="",
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


def plain_log_ticks(axis: Axis) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5 of every decade, written out."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def legend_entries(axes: np.ndarray) -> dict[str, list]:
    """``handles`` and ``labels`` of what is drawn on some axes, each label once."""
    found: dict[str, object] = {}
    for ax in axes.flat:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return {"handles": list(found.values()), "labels": list(found)}


def seeds_in_words(count: int, several: str = "mean over seeds") -> str:
    """What a line of so many seeds is."""
    return several if count > 1 else "one seed"


def some_layers(table: pd.DataFrame, most: int = 3) -> list[int]:
    """Layers to show: all of a few, else evenly spaced ones from first to last."""
    layers = sorted(int(layer) for layer in set(table["layer"]))
    count = min(most, len(layers))
    chosen = np.linspace(0, len(layers) - 1, count).round().astype(int)
    return [layers[k] for k in chosen]
