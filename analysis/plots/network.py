"""Pictures of influence through whole forecasters: by lag, hop, bound and depth."""

import itertools
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from analysis.plots.network_lines import (
    MARKERS,
    add_title,
    band,
    finish,
    grid,
    kind_and_stack,
    panels_of,
    style_of,
    styles_of,
)
from analysis.plots.style import COLOURS, log_axis, new_figure, whole_axis

_BAND = "bands from the lowest to the highest"


def influence_by_lag(table: pd.DataFrame) -> Figure:
    """Share of all influence by the age of the input step, a line per run label.

    The upper panels show what comes from the output's own node, the lower ones what
    comes from others (of an estimate, which cannot tell, both together). A line is the
    mean over seeds and windows, its band reaches from the lowest to the highest seed.
    Runs that differ in their stack or temporal layers have panels by these, runs that
    differ in depth alone panels by depth.

    Args:
        table: The rows of ``influence.csv``.

    Returns:
        The figure, logarithmic in the share.
    """
    kinds = {"own": "own node", "others": "other nodes"}
    share, word = "share", "influence"
    if "share" not in table:  # an estimate
        kinds, share, word = {"all": "all nodes"}, "squared_share", "squared influence"
    keys = ["label", "seed", "window_index", "lag", "node_kind"]
    of_lag = table.groupby(keys, sort=False)[share].sum()
    by_seed = of_lag.groupby(["label", "seed", "lag", "node_kind"], sort=False).mean()
    panels, line_of = panels_of(table)
    styles = styles_of(table, line_of)
    figure, axes = grid(len(kinds), len(panels), 3.0)
    for row, kind in enumerate(kinds):
        for ax, (title, rows) in zip(axes[row], panels.items(), strict=True):
            for label in rows["label"].unique():
                seeds = 100 * by_seed.loc[label].xs(kind, level="node_kind").unstack(0)
                name = line_of(rows[rows["label"] == label].iloc[0])
                band(ax, seeds, styles[name], name)
            if row == 0:
                ax.set_title(title, fontsize="medium")
            ax.set_yscale("log")
            log_axis(ax.yaxis)
            whole_axis(ax.xaxis)
            if not ax.xaxis_inverted():
                ax.invert_xaxis()
    for row, words in enumerate(kinds.values()):
        axes[row][0].set_ylabel(f"share of {word} (%)\nfrom {words}")
    what = "How much each input step moves the forecast"
    add_title(figure, table, what, _BAND)
    finish(figure, axes, styles, "age of the input step (steps before the newest)")
    return figure


def influence_by_hop(table: pd.DataFrame) -> Figure:
    """Influence between two nodes by their distance in the road graph.

    A line per run label: the mean over pairs of nodes at that distance, output steps,
    windows and seeds, of the sum over input steps; bands reach over seeds. What is
    exactly 0 cannot be on a logarithmic axis and is named in the panel.

    Args:
        table: The rows of ``hops.csv``.

    Returns:
        The figure.
    """
    names = dict.fromkeys(table["hop"].astype(str))
    order = sorted(filter(str.isdecimal, names), key=int)
    places = [float(place) for place in range(len(order))]
    for name in names:  # unreachable, or unknown: no step of the road
        if not name.isdecimal():
            order.append(name)
            places.append(len(places) + 0.3)
    by_seed = table.groupby(["label", "seed", "hop"])["influence"].mean()
    panels, line_of = panels_of(table)
    styles = styles_of(table, line_of)
    figure, axes = grid(1, len(panels), 3.8)
    for ax, (title, rows) in zip(axes[0], panels.items(), strict=True):
        zeros = []
        for label in rows["label"].unique():
            seeds = by_seed.loc[label].unstack(0).reindex(order)
            name = line_of(rows[rows["label"] == label].iloc[0])
            others = seeds.drop(index="0").dropna(how="all")
            if len(others) and (others == 0).all(axis=None):
                zeros.append(name)
            seeds.index = pd.Index(places)
            if not order[-1].isdecimal():  # a gap: no line to it
                seeds.loc[len(order) - 1] = np.nan
            band(ax, seeds, styles[name], name)
        if zeros:
            text = "exactly 0 beyond the own node:\n" + "\n".join(zeros)
            place: Any = {"ha": "right", "va": "top", "transform": ax.transAxes}
            ax.text(0.98, 0.97, text, fontsize="x-small", **place)
        ax.set_title(title, fontsize="medium")
        ax.set_yscale("log")
        ax.set_xticks(places, order)
        if len(order) > 8:
            ax.tick_params(axis="x", labelsize="x-small")
    axes[0][0].set_ylabel("influence of one node on one node\n(z-score per z-score)")
    add_title(figure, table, "Influence of nodes on each other by distance", _BAND)
    finish(figure, axes, styles, "edges of the road graph between them (0: own node)")
    return figure


def bounds_tightness(table: pd.DataFrame) -> Figure:
    """Exact influence over each bound: median and the middle 90 % of pairs.

    Bars are means over seeds, points the medians of single seeds. Seeds without a pair
    above rounding are left out.

    Args:
        table: The rows of ``bounds.csv``.

    Returns:
        The figure, a group of bars per run label.
    """
    said = table[table["pairs_above_rounding"] > 0]
    labels, names = list(table["label"].unique()), list(table["bound"].unique())
    figure = new_figure(10, 2.4 + 0.28 * len(labels) * len(names))
    ax = figure.subplots()
    colours = dict(zip(names, itertools.cycle(COLOURS[1:])))
    markers = dict(zip(names, itertools.cycle(MARKERS)))
    for place, label in enumerate(labels):
        own = said[said["label"] == label].groupby("bound", sort=False)
        for number, (name, rows) in enumerate(own):
            style: Any = {"color": colours[name]}
            height = place + (number - (len(own) - 1) / 2) * 0.8 / len(names)
            ends, medians = rows[["ratio_05", "ratio_95"]].mean(), rows["ratio_median"]
            ax.plot(ends, [height] * 2, lw=2, solid_capstyle="butt", **style)
            ax.plot(medians, [height] * len(rows), ".", ms=4, alpha=0.6, **style)
            ax.plot(medians.mean(), height, markers[name], ms=6, **style)
    kinds = table.drop_duplicates("bound").set_index("bound")["is_bound"]
    for name, is_bound in zip(names, kinds, strict=True):
        note = "" if is_bound else " (leaves paths out: no bound)"
        ax.plot([], [], markers[name], color=colours[name], ls="-", label=name + note)
    ax.axvline(1, color="0.4", lw=1, ls="dashed", label="tight")
    ax.set(xscale="log", xlabel="exact influence / bound (median, 5 to 95 % of pairs)")
    ax.set_yticks(range(len(labels)), labels, fontsize="small")
    ax.set_ylim(len(labels) - 0.5, -0.5)  # as much room around one group as around many
    ax.grid(axis="x", color="0.9", lw=0.6)
    sns.despine(ax=ax)
    what = "Exact influence over its bounds"
    add_title(figure, table, what, "dots: the medians of single ones")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    return figure


def depth(table: pd.DataFrame) -> Figure:
    """Shares of the newest and of the oldest quarter of the window against depth.

    A line per kind of temporal layers and stack (and variant, if there are several);
    bands reach from the lowest to the highest seed.

    Args:
        table: The rows of ``summary.csv``.

    Returns:
        The figure, two panels.
    """
    names = kind_and_stack(table)
    if table.assign(kind=names).groupby("kind")["variant"].nunique().max() > 1:
        names = table["variant"] + ", " + table["stack"].str.replace("-", " ")
    table = table.assign(line=names)
    styles = {line: style_of(k) for k, line in enumerate(table["line"].unique())}
    figure, axes = grid(1, 2, 4.2)
    power = "" if "newest_quarter" in table else "squared_"  # of an estimate
    depths = sorted(table["layers"].unique())
    T = int(table["window"].iloc[0])
    uniform = 100 * max(1, T // 4) / T
    for ax, end in zip(axes[0], ("newest", "oldest"), strict=True):
        for line, style in styles.items():
            own = table[table["line"] == line]
            column = f"{power}{end}_quarter"
            seeds = own.pivot_table(index="layers", columns=["seed"], values=column)
            band(ax, 100 * seeds, style, line)
        if table["window"].nunique() == 1:
            ax.axhline(uniform, color="0.5", lw=1, ls="dotted")
            across = ax.get_yaxis_transform()
            place: Any = {"va": "center", "fontsize": "x-small", "transform": across}
            ax.text(1.01, uniform, "uniform", **place)
        ax.set_title(f"{end} quarter of the window", fontsize="medium")
        ax.set_xscale("log")
        ax.set_xticks(depths, [str(layers) for layers in depths])
        ax.minorticks_off()
        ax.set_ylim(bottom=0)
    axes[0][0].set_ylabel(f"share of {power.replace('_', ' ')}influence (%)")
    what = "Which end of the window moves the forecast, by depth"
    add_title(figure, table, what, _BAND)
    finish(figure, axes, styles, "temporal layers, and as many graph layers")
    return figure
