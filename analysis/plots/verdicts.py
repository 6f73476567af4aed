"""Pictures of the verdicts on trained layers: where, and when, statements hold."""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.plots.bounds import BLACK, BLUE, GREEN, ORANGE, RED

_PRINTED = {
    "eq8_diagonal_as_printed": "Eq. 8 diagonal, as printed",
    "eq8_diagonal_as_printed_per_row": "the same, row by row",
}
_OTHERS = "all other statements"
# What the pictures of training show of each statement: median exact / bound.
_LINES = {
    "eq8_off_diagonal": ("Eq. 8 off the diagonal", BLUE, "o"),
    "eq8_diagonal_corrected": ("Eq. 8 diagonal, corrected", GREEN, "s"),
    "eq8_diagonal_as_printed": ("Eq. 8 diagonal, as printed", RED, "X"),
    "query_max": ("query path against C_Q", ORANGE, "^"),
    "query_covariance": ("query path against covariances", BLACK, "v"),
}
# The shares beside them.
_SHARES = {
    "eq8_diagonal_as_printed": ("Eq. 8 diagonal, as printed", RED, "X"),
    "eq8_diagonal_as_printed_per_row": ("the same, row by row", ORANGE, "X"),
    _OTHERS: ("least of all others", GREEN, "o"),
}
_DASHES: tuple[Any, ...] = ("solid", "dashed", "dotted", "dashdot", (0, (6, 1, 1, 1)))


def verdict_share(table: pd.DataFrame) -> Figure:
    """In which share of rows statements hold, by layer and head.

    Args:
        table: The rows of ``sweep.csv`` of trained layers.

    Returns:
        The figure: a panel for each printed diagonal line of Eq. 8 and one for the
        least share of all other statements; rows are lengths and layers, columns heads.
    """
    sns.set_theme(context="notebook", style="ticks")
    several = table["T"].nunique() > 1
    rows = ["T", "layer"] if several else ["layer"]
    panels = {**_PRINTED, _OTHERS: _OTHERS}
    places = table[rows].drop_duplicates()
    heads = list(dict.fromkeys(table["head"].astype(str)))
    width = max(3.0, 1.4 + 0.6 * len(heads))
    height = 2.2 + 0.34 * len(places)
    figure = Figure(figsize=(1.4 + 3 * width, height), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    image = None
    for ax, (statement, title) in zip(axes, panels.items(), strict=True):
        share = _share(table, statement, rows).reindex(columns=heads)
        image = ax.imshow(share, vmin=0, vmax=1, cmap="cividis", aspect="auto")
        for (row, column), value in np.ndenumerate(share.to_numpy(float)):
            if np.isfinite(value):
                colour = "black" if value > 0.6 else "white"
                ax.text(
                    *(column, row, _percent(value)),
                    ha="center",
                    va="center",
                    color=colour,
                    fontsize="x-small",
                )
        ax.set_title(title, fontsize="small")
        ax.set_xticks(range(len(heads)), heads)
        ax.set_xlabel("head" if heads != ["layer"] else "")
        names = [_place(key, several) for key in share.index]
        ax.set_yticks(range(len(names)), names)
    if image is not None:
        figure.colorbar(image, ax=axes, label="share of rows that hold")
    figure.suptitle(f"Verdicts on trained attention: {_words(table)}", fontsize="small")
    return figure


def _share(
    table: pd.DataFrame, statement: str, rows: list[str], column: str = "head"
) -> pd.DataFrame:
    """Share of rows that hold, by place and head; the least over the other ones."""
    keys = [*rows, column]
    if statement == _OTHERS:
        own = table[~table["statement"].isin(list(_PRINTED))]
        sums = own.groupby([*keys, "statement"])[["rows_holding", "rows"]].sum()
        shares = (sums["rows_holding"] / sums["rows"]).groupby(keys).min()
    else:
        own = table[table["statement"] == statement]
        sums = own.groupby(keys)[["rows_holding", "rows"]].sum()
        shares = sums["rows_holding"] / sums["rows"]
    return shares.unstack()


def _percent(share: float) -> str:
    """A share in percent; never 100 where something fails, nor 0 where something holds.

    Args:
        share: In [0, 1].

    Returns:
        Two or three characters.

    Example:
        >>> _percent(1.0), _percent(0.999), _percent(0.001), _percent(0.0)
        ('100', '>99', '<1', '0')
    """
    whole = round(100 * share)
    if whole == 100 and share < 1:
        return ">99"
    return "<1" if whole == 0 and share > 0 else str(whole)


def _place(key: object, several: bool) -> str:
    if several and isinstance(key, tuple):
        return f"T={key[0]}, layer {key[1]}"
    return f"layer {key}"


def verdicts_by_step(table: pd.DataFrame) -> Figure:
    """How verdicts and tightness move while models are trained.

    Runs are apart: their steps need not be the same.

    Args:
        table: The rows of ``sweep.csv`` of layers at several training steps.

    Returns:
        The figure. Left: share of rows in which the printed diagonal lines hold. Right:
        median of exact / bound. A line per run; bands reach from its lowest to its
        highest seed.
    """
    sns.set_theme(context="notebook", style="ticks")
    figure = Figure(figsize=(10, 5.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    runs = list(dict.fromkeys(table["run"]))
    for number, run in enumerate(runs):
        dash, first = _DASHES[number % len(_DASHES)], number == 0
        own = table[table["run"] == run]
        for statement, (title, colour, marker) in _SHARES.items():
            shares = _share(own, statement, ["step"], "seed")
            _band(left, 100 * shares, title if first else "", colour, marker, dash)
        for statement, (title, colour, marker) in _LINES.items():
            rows = own[own["statement"] == statement]
            medians = rows.groupby(["step", "seed"])["median_ratio"].median().unstack()
            _band(right, medians, title if first else "", colour, marker, dash)
        if len(runs) > 1:
            name = "/".join(str(run).split("/")[-2:])
            left.plot([], [], color="0.4", ls=dash, label=name)
    left.set(ylim=(-4, 104), ylabel="rows in which the statement holds (%)")
    right.axhline(1, color="0.5", ls=":", lw=1)
    right.set(yscale="log", ylabel="exact / bound, median")
    right.yaxis.set_major_formatter("{x:g}")
    for ax in (left, right):
        ax.set_xlabel("training steps")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
        ax.legend(
            frameon=False,
            fontsize="x-small",
            loc="upper center",
            bbox_to_anchor=(0.5, -0.14),
            ncols=2,
        )
        sns.despine(ax=ax)
    figure.suptitle(f"Verdicts while training: {_words(table)}", fontsize="small")
    return figure


def _band(
    ax: Axes, by_seed: pd.DataFrame, label: str, colour: str, marker: str, dash: Any
) -> None:
    """One run's line and its band over seeds; without a label it has no legend."""
    steps = by_seed.index.to_numpy(float)
    low, high = by_seed.min(axis=1), by_seed.max(axis=1)
    ax.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0)
    mean = by_seed.mean(axis=1)
    ax.plot(
        *(steps, mean),
        color=colour,
        marker=marker,
        ls=dash,
        label=label or "_nolegend_",
    )


def _words(table: pd.DataFrame) -> str:
    """What a table is of, in words."""
    regularizers = ", ".join(dict.fromkeys(table["regularizer"]))
    residuals = set(table["residual"]) if "residual" in table else {True}
    if residuals != {True}:
        regularizers += (
            ", without residual"
            if residuals == {False}
            else (", some without residual")
        )
    lengths = ", ".join(str(T) for T in sorted(table["T"].unique()))
    return (
        f"{', '.join(dict.fromkeys(table['source']))}, T = {lengths}, regularizer "
        f"{regularizers}, {table['norm'].iloc[0]} norm, {table['run'].nunique()} "
        f"run(s), {table['seed'].nunique()} seed(s)"
    )
