"""The picture of a sweep: exact influence and its bounds against the length T."""

import textwrap

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from analysis.statistics import fit_power_law

# Okabe and Ito's colours, told apart by the colour-blind too.
BLUE, ORANGE, GREEN, RED, BLACK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#000000"

_PANELS = {
    "Off the diagonal": (("eq8_off_diagonal", "bound", BLUE, "Eq. 8 bound"),),
    "On the diagonal": (
        ("eq8_diagonal_corrected", "bound", GREEN, "corrected bound"),
        ("eq8_diagonal_as_printed", "bound", RED, "Eq. 8 as printed"),
    ),
}


def bound_against_length(table: pd.DataFrame) -> Figure:
    """Exact norms of a layer and their bounds against T, on and off the diagonal.

    Exact means are lines with a band from the lowest to the highest seed, bounds are
    dashed; where a bound is exceeded a cross and the share of cases (layers, inputs,
    nodes) in which it is. The title names the position encoding where there is one, and
    on real traffic, where it decides what a token is, always.

    Args:
        table: The rows of ``sweep.csv``.

    Returns:
        The figure, two panels on logarithmic axes.
    """
    sns.set_theme(context="notebook", style="ticks")
    layer = table[table["head"].astype(str) == "layer"]
    layer = table if layer.empty else layer  # heads only were judged
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    axes = figure.subplots(1, 2)
    for ax, (title, bounds) in zip(axes, _PANELS.items(), strict=True):
        _panel(ax, layer, title, bounds)
    axes[0].set_ylabel("Jacobian norm, mean over query steps")
    title = f"Influence of one time step on another: {_what(table)}"
    figure.suptitle(textwrap.fill(title, 100), fontsize="medium")
    return figure


def _what(table: pd.DataFrame) -> str:
    """What a sweep looked at, in words."""
    first, position = table.iloc[0], ""
    regularizers = ", ".join(dict.fromkeys(table["regularizer"]))
    if first["position"] != "none" or first["source"] == "metr-la":
        position = f"position {first['position']}, "
    layers = f"{table['seed'].nunique()} layers"
    if "run" in table and (table["run"] != "random").all():
        models = len(table[["run", "seed"]].drop_duplicates())
        layers = f"trained attention of {models} models"
    return (
        f"{first['source']}, {position}regularizer {regularizers}, {first['norm']} "
        f"norm, {layers}"
    )


def _panel(ax: Axes, table: pd.DataFrame, title: str, bounds: tuple) -> None:
    statement = bounds[0][0]
    own = table[table["statement"] == statement]
    seeds = own.groupby(["T", "seed"])["exact"].mean().unstack()
    centre = seeds.mean(axis=1)
    exponent = _slope(seeds)
    ax.fill_between(
        seeds.index, seeds.min(axis=1), seeds.max(axis=1), color=BLACK, alpha=0.15, lw=0
    )
    ax.plot(centre.index, centre, "o-", color=BLACK, label=f"exact{exponent}", zorder=3)
    for name, column, colour, label in bounds:
        rows = table[table["statement"] == name]
        means = rows.groupby(["T", "seed"])[column].mean().unstack()
        ax.plot(
            means.index,
            means.mean(axis=1),
            "--",
            color=colour,
            label=label + _slope(means),
        )
        _mark_violations(ax, rows, centre, colour)
    if not (seeds > 0).any(axis=None):
        ax.set_ylim(0.1, 1)  # a logarithmic axis refuses to be empty
    ax.set(xscale="log", yscale="log", xlabel="number of time steps T")
    ax.set_title(f"{title}: {_finding(table, seeds, bounds)}", fontsize="medium")
    lengths = sorted(table["T"].unique())
    ax.set_xticks(lengths, [str(T) for T in lengths])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.margins(x=0.08)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.legend(
        frameon=False,
        ncols=2,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.16),
        fontsize="small",
        columnspacing=1,
    )
    sns.despine(ax=ax)


def _finding(table: pd.DataFrame, seeds: pd.DataFrame, bounds: tuple) -> str:
    """What a panel shows, in words, from its numbers.

    Returns:
        Half a sentence.
    """
    if not (seeds > 0).any(axis=None):
        return "no influence to show"
    slope = _fit(seeds)
    course = "falls" if slope < -0.5 else "does not fall"
    failing = []
    for name, _, _, label in bounds:
        rows = table[table["statement"] == name]
        if (rows["rows_holding"] < rows["rows"]).any():
            failing.append(f"{label} fails")
    words = " and ".join(failing) or "the bound holds"
    return words if np.isnan(slope) else f"influence {course}, {words}"


def _mark_violations(
    ax: Axes, rows: pd.DataFrame, exact: pd.Series, colour: str
) -> None:
    """Cross out the lengths at which a bound is exceeded, and say how often."""
    rows = rows[rows["rows"] > 0]
    sums = rows.groupby("T")[["rows_holding", "rows"]].sum()
    share = 1 - sums["rows_holding"] / sums["rows"]
    share = share[share > 0]
    if share.empty:
        return
    ax.plot(
        share.index,
        exact[share.index],
        "X",
        color=colour,
        markersize=11,
        zorder=4,
        label="exceeded in this share of cases",
    )
    for T, part, height in zip(share.index, share, exact[share.index], strict=True):
        ax.annotate(
            f"{100 * part:.0f} %",
            (T, height),
            xytext=(0, 10),
            textcoords="offset points",
            ha="center",
            color=colour,
            fontsize="small",
            path_effects=[withStroke(linewidth=3, foreground="white")],
            zorder=5,
        )


def _fit(seeds: pd.DataFrame) -> float:
    """Fitted exponent of T; NaN below three lengths."""
    values = seeds.to_numpy(float)
    lengths = np.broadcast_to(seeds.index.to_numpy(float)[:, None], values.shape)
    eps = float(np.finfo(np.float64).eps)
    return fit_power_law(lengths.ravel(), values.ravel(), eps).exponent


def _slope(seeds: pd.DataFrame) -> str:
    """The exponent as a legend shows it."""
    slope = _fit(seeds)
    return "" if np.isnan(slope) else rf" $\propto T^{{{slope:.2f}}}$"
