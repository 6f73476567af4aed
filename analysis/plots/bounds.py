"""The picture of a sweep: exact influence and its bounds against the length T."""

import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots import style as kit
from analysis.statistics import fit_power_law


class _Bound(NamedTuple):
    """How a bound is drawn; dashes serve in grey."""

    color: str
    ls: Any
    label: str


_PRINTED = _Bound(kit.RED, "--", "Eq. 8 as printed")
_CORRECTED = _Bound(kit.GREEN, "-.", "corrected bound")
_TIGHT = _Bound(kit.BLUE, (0, (1, 1)), "tight bound")
_PANELS = {
    "Off the diagonal": {
        "eq8_off_diagonal": _PRINTED,
        "eq8_off_diagonal_tight": _TIGHT,
    },
    "On the diagonal": {
        "eq8_diagonal_corrected": _CORRECTED,
        "eq8_diagonal_tight": _TIGHT,
        "eq8_diagonal_as_printed": _PRINTED,
    },
}
_TITLE_WIDTH = 50  # characters of a panel's title


def bound_against_length(table: pd.DataFrame) -> Figure:
    """Exact norms of a layer and their bounds against T, on and off the diagonal.

    Exact means are lines with a band from the lowest to the highest seed, bounds are
    dashed, and the legend says how many times the influence they are (the medians of
    bound / exact over cases, from the least length to the largest); where a bound is
    exceeded a cross and, above the axis, the share of cases (layers, inputs, nodes) in
    which it is. The title names the position encoding where
    there is one, and on real traffic, where it decides what a token is, always.

    Args:
        table: The rows of ``sweep.csv``.

    Returns:
        The figure, two panels on logarithmic axes.
    """
    figure = kit.new_figure(10, 5.6)
    layer = table[table["head"].astype(str) == "layer"]
    layer = table if layer.empty else layer  # heads only were judged
    axes = figure.subplots(1, 2)
    for ax, (title, bounds) in zip(axes, _PANELS.items(), strict=True):
        _panel(ax, layer, title, bounds)
    axes[0].set_ylabel("Jacobian norm, mean over query steps")
    kit.entitle(figure, f"Influence of one time step on another: {_what(table)}")
    return figure


def _what(table: pd.DataFrame) -> str:
    """What a sweep looked at, in words."""
    first, position = table.iloc[0], ""
    regularizers = ", ".join(dict.fromkeys(table["regularizer"]))
    if first["position"] != "none" or first["source"] == "metr-la":
        position = f"position {first['position']}, "
    count = table["seed"].nunique()
    layers = f"{count} layer{'s' * (count > 1)}"
    if "run" in table and (table["run"] != "random").all():
        models = len(table[["run", "seed"]].drop_duplicates())
        layers = f"trained attention of {models} model{'s' * (models > 1)}"
    return (
        f"{first['source']}, {position}regularizer {regularizers}, {first['norm']} "
        f"norm, {layers}"
    )


def _panel(
    ax: Axes, table: pd.DataFrame, title: str, bounds: Mapping[str, _Bound]
) -> None:
    own = table[table["statement"] == next(iter(bounds))]
    exact = _by_seed(own, "exact")
    shown = bool((exact > 0).any(axis=None))
    ax.set_yscale("log")
    words = f"exact{_slope(exact)}"
    kit.line_of_seeds(ax, exact, color=kit.BLACK, marker="o", label=words, zorder=3)
    failing = []
    for statement, (colour, dash, label) in bounds.items():
        rows = table[table["statement"] == statement]
        means = _by_seed(rows, "bound")
        words = f"{label}{_slope(means)}{_looseness(rows)}"
        kit.line_of_seeds(ax, means, band=False, color=colour, ls=dash, label=words)
        if _mark_violations(ax, rows, exact.mean(axis=1), colour, len(failing)):
            failing.append(f"{label} fails")
    if not shown:
        ax.set_ylim(0.1, 1)  # a logarithmic axis refuses to be empty
    elif failing:
        _make_room_below(ax, len(failing))
    finding = "no influence to show"
    if shown:
        finding = f"{_course(exact)}{' and '.join(failing) or 'both bounds hold'}"
    lines = textwrap.wrap(finding, _TITLE_WIDTH)
    ax.set_title("\n".join([f"{title}:", *lines]), fontsize="medium")
    kit.length_axis(ax, sorted(table["T"].unique()))
    low, high = ax.get_ylim()
    kit.log_axis(
        ax.yaxis, (1, 2, 5) if high > 5 * low else (1, 1.2, 1.5, 2, 3, 4, 6, 8)
    )
    kit.legend_below(ax, columns=1)
    kit.open_frame(ax)


def _by_seed(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Means, a row per length and a column per seed."""
    return rows.groupby(["T", "seed"])[column].mean().unstack()


def _looseness(rows: pd.DataFrame) -> str:
    """How many times the influence a bound is, as the legend shows it."""
    medians = 1 / rows.groupby("T")["median_ratio"].median().dropna()
    if medians.empty:
        return ""
    ends = (medians.min(), medians.max())
    ends = dict.fromkeys(f"{end:.{int(end < 10)}f}" for end in ends)
    return rf": {' to '.join(ends)} $\times$ exact"


def _course(exact: pd.DataFrame) -> str:
    slope = _fit(exact)
    if np.isnan(slope):
        return ""
    return f"influence {'falls' if slope < -0.5 else 'does not fall'}, "


def _mark_violations(
    ax: Axes, rows: pd.DataFrame, exact: pd.Series, colour: str, line: int
) -> bool:
    """Cross out the lengths at which a bound is exceeded; how often stands below."""
    rows = rows[rows["rows"] > 0]
    sums = rows.groupby("T")[["rows_holding", "rows"]].sum()
    share = 1 - sums["rows_holding"] / sums["rows"]
    share = share[share > 0]
    if share.empty:
        return False
    ax.plot(
        share.index,
        exact[share.index],
        "X",
        color=colour,
        markersize=11,
        zorder=4,
        label="exceeded in this share of cases",
    )
    for T, part in share.items():
        ax.annotate(
            f"{kit.percent(part)} %",
            (T, 0),  # on the axis, so that it lies on no line
            xycoords=("data", "axes fraction"),
            xytext=(0, 4 + 14 * line),
            textcoords="offset points",
            ha="center",
            color=colour,
            fontsize="small",
        )
    return True


def _make_room_below(ax: Axes, lines: int) -> None:
    """Lift the data above the words that stand on the axis."""
    low, high = np.log(ax.get_ylim())
    share = 0.02 + 0.07 * lines
    ax.set_ylim(float(np.exp(low - (high - low) * share / (1 - share))))


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
