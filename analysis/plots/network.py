"""Pictures of influence through whole forecasters: by lag, hop, bound and depth."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from analysis.plots import style as kit
from analysis.variants import depth_in_words

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
    panels, line_of = _panels_of(table)
    styles = _styles_of(table, line_of)
    figure, axes = _grid(len(kinds), len(panels), 3.0)
    for row, kind in enumerate(kinds):
        for ax, (title, rows) in zip(axes[row], panels.items(), strict=True):
            ax.set_yscale("log")
            for label in rows["label"].unique():
                seeds = 100 * by_seed.loc[label].xs(kind, level="node_kind").unstack(0)
                name = line_of(rows[rows["label"] == label].iloc[0])
                kit.line_of_seeds(ax, seeds, label=name, ms=4, **styles[name]._asdict())
            if row == 0:
                ax.set_title(title, fontsize="medium")
            kit.log_axis(ax.yaxis)
            kit.whole_axis(ax.xaxis)
            if not ax.xaxis_inverted():
                ax.invert_xaxis()
    for row, words in enumerate(kinds.values()):
        axes[row][0].set_ylabel(f"share of {word} (%)\nfrom {words}")
    what = "How much each input step moves the forecast"
    _add_title(figure, table, what, _BAND)
    _finish(figure, axes, styles, "age of the input step (steps before the newest)")
    return figure


def influence_by_hop(
    table: pd.DataFrame, resistance: pd.DataFrame | None = None
) -> Figure:
    """Influence between two nodes by their distance in the road graph.

    A line per run label: the mean over pairs of nodes at that distance, output steps,
    windows and seeds, of the sum over input steps; bands reach over seeds. What is
    exactly 0 cannot be on a logarithmic axis and is named in the panel. A second row of
    panels has the effective resistance in place of the number of edges.

    Args:
        table: The rows of ``hops.csv``.
        resistance: Those of ``resistance.csv``, if a road joins nodes.

    Returns:
        The figure.
    """
    panels, line_of = _panels_of(table)
    styles = _styles_of(table, line_of)
    figure, axes = _grid(1 if resistance is None else 2, len(panels), 3.8)
    axes[0][0].set_yscale("log")  # all share it
    for ax, (title, rows) in zip(axes[0], panels.items(), strict=True):
        ax.set_title(title, fontsize="medium")
        _draw_hops(ax, table, _lines(table, "hop", rows, line_of), styles)
    below = "edges of the road graph between them (0: own node)"
    if resistance is not None:
        for ax, rows in zip(axes[1], panels.values(), strict=True):
            lines = _lines(resistance, "resistance", rows, line_of)
            _draw_resistances(ax, lines, styles)
        for ax in axes[0]:
            ax.set_xlabel(below, fontsize="small")
        below = "effective resistance between them\n"
        below += "(a point: a tenth of the pairs with a path)"
    for row in axes:
        row[0].set_ylabel("influence of one node on one node\n(z-score per z-score)")
    _add_title(figure, table, "Influence of nodes on each other by distance", _BAND)
    _finish(figure, axes, styles, below)
    return figure


def _draw_hops(
    ax: Axes,
    table: pd.DataFrame,
    lines: dict[str, pd.DataFrame],
    styles: dict[str, kit.Line],
) -> None:
    """Lines over the number of edges, as in all panels; what is exactly 0 is named."""
    names = dict.fromkeys(table["hop"].astype(str))
    order = sorted(filter(str.isdecimal, names), key=int)
    places = [float(place) for place in range(len(order))]
    for name in names:  # unreachable, or unknown: no step of the road
        if not name.isdecimal():
            order.append(name)
            places.append(len(places) + 0.3)
    zeros = []
    for name, by_seed in lines.items():
        seeds = by_seed.reindex(order)
        others = seeds.drop(index="0").dropna(how="all")
        if len(others) and (others == 0).all(axis=None):
            zeros.append(name)
        seeds.index = pd.Index(places)
        if not order[-1].isdecimal():  # a gap: no line to it
            seeds.loc[len(order) - 1] = np.nan
        kit.line_of_seeds(ax, seeds, label=name, ms=4, **styles[name]._asdict())
    if zeros:
        text = "exactly 0 beyond the own node:\n" + "\n".join(zeros)
        place: Any = {"ha": "right", "va": "top", "transform": ax.transAxes}
        ax.text(0.98, 0.97, text, fontsize="x-small", **place)
    kit.log_axis(ax.yaxis)
    ax.set_xticks(places, order)
    if len(order) > 8:
        ax.tick_params(axis="x", labelsize="x-small")


def _draw_resistances(
    ax: Axes, lines: dict[str, pd.DataFrame], styles: dict[str, kit.Line]
) -> None:
    """Lines over the effective resistance."""
    ax.set_xscale("log")
    for name, by_seed in lines.items():
        kit.line_of_seeds(ax, by_seed, label=name, ms=4, **styles[name]._asdict())
    for axis in (ax.xaxis, ax.yaxis):
        kit.log_axis(axis)


def _lines(
    table: pd.DataFrame,
    distance: str,
    panel: pd.DataFrame,
    line_of: Callable[[pd.Series], str],
) -> dict[str, pd.DataFrame]:
    """Of the runs of a panel, by the name of the line: influence by distance, seed."""
    found = {}
    for label in panel["label"].unique():
        own = table[table["label"] == label]
        if len(own):
            by_seed = own.groupby([distance, "seed"])["influence"].mean().unstack()
            found[line_of(own.iloc[0])] = by_seed
    return found


def bounds_tightness(table: pd.DataFrame) -> Figure:
    """Exact influence over each bound, and how well each bound ranks influence.

    Bars are the middle 90 % of pairs and their median, means over seeds; points are the
    medians of single seeds. Rank correlations are Spearman's over the pairs of a
    window. Seeds without a pair above rounding are left out. Hollow is no bound.

    Args:
        table: The rows of ``bounds.csv``.

    Returns:
        The figure, a group of bars per run label.
    """
    said = table[table["pairs_above_rounding"] > 0]
    labels, styles = list(table["label"].unique()), _styles_of_bounds(table)
    figure = kit.new_figure(11, 2.4 + 0.24 * len(labels) * len(styles))
    axes = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for place, label in enumerate(labels):
        own = said[said["label"] == label].groupby("bound", sort=False)
        for number, (name, rows) in enumerate(own):
            style = styles[str(name)]
            height = place + (number - (len(own) - 1) / 2) * 0.8 / len(styles)
            ends = rows[["ratio_05", "ratio_95"]].mean()
            bar: Any = {"color": style["color"], "lw": 2, "solid_capstyle": "butt"}
            axes[0].plot(ends, [height] * 2, **bar)
            columns = ("ratio_median", "rank_correlation")
            for ax, column in zip(axes, columns, strict=True):
                dots: Any = {"color": style["color"], "ms": 4, "alpha": 0.6}
                ax.plot(rows[column], [height] * len(rows), ".", **dots)
                ax.plot(rows[column].mean(), height, **style | {"ls": "none"})
    kinds = table.drop_duplicates("bound")
    for name, is_bound, domain in kinds[["bound", "is_bound", "holds_for"]].to_numpy():
        note = "" if is_bound else f" ({domain})"
        axes[0].plot([], [], label=name + note, **styles[name])
    axes[0].axvline(1, **kit.REFERENCE, label="tight")
    axes[0].set(xscale="log", xlabel="exact influence / bound (median, 5 to 95 %)")
    kit.log_axis(axes[0].xaxis, digits=(1,))
    axes[1].axvline(0, **kit.REFERENCE)
    axes[1].set_xlabel("rank correlation with influence")
    axes[0].set_yticks(range(len(labels)), labels, fontsize="small")
    # As much room around one group as around many.
    axes[0].set_ylim(len(labels) - 0.5, -0.5)
    for ax in axes:
        kit.open_frame(ax, grid="x")
    what = "Exact influence over its bounds, and how bounds rank it"
    _add_title(figure, table, what, "dots: single ones")
    kit.legend_outside(figure, kit.entries_of(axes), columns=3)
    return figure


def _styles_of_bounds(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """How each is drawn, bounds and what is none numbered by themselves."""
    styles = {}
    for is_bound, rows in table.groupby("is_bound", sort=False):
        for number, name in enumerate(rows["bound"].unique()):
            line = kit.style_of(number)._replace(ls="-")._asdict()
            hollow = {} if is_bound else {"mfc": "white", "ls": "--"}
            styles[name] = line | {"ms": 6} | hollow
    return {name: styles[name] for name in table["bound"].unique()}


def depth(table: pd.DataFrame) -> Figure:
    """Shares of the newest and of the oldest quarter of the window against depth.

    A line per kind of temporal layers and stack (and variant, if there are several);
    bands reach from the lowest to the highest seed.

    Args:
        table: The rows of ``summary.csv``.

    Returns:
        The figure, two panels.
    """
    names = _kind_and_stack(table)
    if table.assign(kind=names).groupby("kind")["variant"].nunique().max() > 1:
        names = table["variant"] + ", " + table["stack"].str.replace("-", " ")
    table = table.assign(line=names)
    styles = {line: kit.style_of(k) for k, line in enumerate(table["line"].unique())}
    figure, axes = _grid(1, 2, 4.2)
    power = "" if "newest_quarter" in table else "squared_"  # of an estimate
    depths = sorted(table["layers"].unique())
    T = int(table["window"].iloc[0])
    uniform = 100 * max(1, T // 4) / T
    for ax, end in zip(axes[0], ("newest", "oldest"), strict=True):
        for line, style in styles.items():
            own = table[table["line"] == line]
            column = f"{power}{end}_quarter"
            seeds = own.pivot_table(index="layers", columns=["seed"], values=column)
            kit.line_of_seeds(ax, 100 * seeds, label=line, ms=4, **style._asdict())
        if table["window"].nunique() == 1:
            ax.axhline(uniform, **kit.REFERENCE)
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
    _add_title(figure, table, what, _BAND)
    _finish(figure, axes, styles, "temporal layers, and as many graph layers")
    return figure


class _Panels(NamedTuple):
    """Small multiples."""

    tables: dict[str, pd.DataFrame]  # the rows of each by its title
    line_of: Callable[[pd.Series], str]  # what the line of a row is called


def _kind_and_stack(table: pd.DataFrame) -> pd.Series:
    """Kind of the temporal layers and stack of each row, in words."""
    return table["model"] + ", " + table["stack"].str.replace("-", " ")


def _panels_of(table: pd.DataFrame) -> _Panels:
    """Panels by temporal layers and stack where runs differ in these, else by depth."""
    # Lines are variants and, where a panel holds several, depths.
    kinds, layers = _kind_and_stack(table), table["layers"]
    if kinds.nunique() > 1:
        panels = {str(kind): table[kinds == kind] for kind in kinds.unique()}
    elif layers.nunique() > 1:
        depths = sorted(layers.unique())
        panels = {depth_in_words(depth): table[layers == depth] for depth in depths}
    else:
        panels = {"": table}
    deep = any(rows["layers"].nunique() > 1 for rows in panels.values())
    single = all(rows["variant"].nunique() == 1 for rows in panels.values())

    def line_of(row: pd.Series) -> str:
        if not deep:
            return str(row["variant"])
        words = depth_in_words(row["layers"])
        return words if single else f"{row['variant']}, {words}"

    return _Panels(panels, line_of)


def _styles_of(
    table: pd.DataFrame, line_of: Callable[[pd.Series], str]
) -> dict[str, kit.Line]:
    """Colours by name; of names that are depths, dark to bright."""
    rows = table.drop_duplicates("label")
    names = list(dict.fromkeys(line_of(row) for _, row in rows.iterrows()))
    styles = {name: kit.style_of(number) for number, name in enumerate(names)}
    if all(name.split()[0].isdecimal() for name in names):
        names.sort(key=lambda name: int(name.split()[0]))
        places = np.linspace(0, 0.9, len(names))
        for number, (name, place) in enumerate(zip(names, places, strict=True)):
            colour = to_hex(colormaps["viridis"](place))
            styles[name] = kit.style_of(number)._replace(color=colour, ls="solid")
    return {name: styles[name] for name in names}


def _grid(rows: int, panels: int, height: float) -> tuple[Figure, Any]:
    """A figure of so many rows of panels side by side, and its axes as a table."""
    figure = kit.new_figure(max(7.0, 1 + 4.0 * panels), 1.8 + height * rows)
    axes = figure.subplots(rows, panels, squeeze=False, sharex="row", sharey=True)
    return figure, axes


def _add_title(figure: Figure, table: pd.DataFrame, what: str, spread: str) -> None:
    """What a picture shows, of which sizes, and its spread where there is one."""
    pairs = table[["window", "horizon"]].drop_duplicates().to_numpy()
    sizes = " and ".join(f"{window} steps in, {ahead} out" for window, ahead in pairs)
    counts = table.groupby("label")["seed"].nunique()
    several = " to ".join(str(n) for n in sorted({counts.min(), counts.max()}))
    seeds = "one seed" if several == "1" else f"means over {several} seeds, {spread}"
    kit.entitle(figure, f"{what}\n{sizes}; {seeds}")


def _finish(figure: Figure, axes: Any, styles: dict[str, kit.Line], below: str) -> None:
    """Grids, what the x axis is, and one legend for all panels, in order."""
    for ax in axes.flat:
        kit.open_frame(ax)
    for ax in axes[-1]:
        ax.set_xlabel(below, fontsize="small")
    entries = kit.entries_of(axes.flat)
    entries = {name: entries[name] for name in styles if name in entries}
    column = 0.7 + 0.085 * max(map(len, entries))  # inches, about
    kit.legend_outside(figure, entries, columns=int(figure.get_figwidth() / column))
