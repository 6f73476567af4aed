"""Pictures of the verdicts on trained layers: where, and when, statements hold."""

import pandas as pd
from matplotlib.figure import Figure

from analysis.plots import style as kit

_PRINTED = {
    "eq8_diagonal_as_printed": "Eq. 8 diagonal, as printed",
    "eq8_diagonal_as_printed_per_row": "the same, row by row",
}
_OTHERS = "all other statements"
# What the pictures of training show: median exact / bound, a tight line hollow ...
_RATIOS = {
    "eq8_off_diagonal": ("Eq. 8 off the diagonal", kit.BLUE, "o", "full"),
    "eq8_off_diagonal_tight": ("the same, tight", kit.BLUE, "o", "none"),
    "eq8_diagonal_corrected": ("Eq. 8 diagonal, corrected", kit.GREEN, "s", "full"),
    "eq8_diagonal_tight": ("the same, tight", kit.GREEN, "s", "none"),
    "eq8_diagonal_as_printed": ("Eq. 8 diagonal, as printed", kit.RED, "X", "full"),
    "query_max": ("query path against C_Q", kit.ORANGE, "^", "full"),
    "query_covariance": ("query path against covariances", kit.BLACK, "v", "full"),
}
# ... and shares; the wider line is below, so that both show where they coincide.
_SHARES = {
    _OTHERS: ("least of all others", kit.GREEN, "o", 3),
    "eq8_diagonal_as_printed_per_row": (
        "printed diagonal, row by row",
        kit.ORANGE,
        "s",
        2,
    ),
    "eq8_diagonal_as_printed": ("Eq. 8 diagonal, as printed", kit.RED, "X", 1),
}


def verdict_share(table: pd.DataFrame) -> Figure:
    """In which share of rows statements hold, by layer and head.

    Args:
        table: The rows of ``sweep.csv`` of trained layers.

    Returns:
        The figure: a panel for each printed diagonal line of Eq. 8 and one for the
        least share of all other statements; rows are lengths and layers, columns heads.
    """
    several = table["T"].nunique() > 1
    rows = ["T", "layer"] if several else ["layer"]
    panels = {**_PRINTED, _OTHERS: f"least of {_OTHERS}"}
    heads = list(dict.fromkeys(table["head"].astype(str)))
    width = max(3.0, 1.4 + 0.6 * len(heads))
    height = 2.2 + 0.34 * len(table[rows].drop_duplicates())
    figure = kit.new_figure(1.4 + 3 * width, height)
    axes, image = figure.subplots(1, 3, sharey=True), None
    for ax, (statement, title) in zip(axes, panels.items(), strict=True):
        share = _share(table, statement, rows).reindex(columns=heads)
        names = [_place(key, several) for key in share.index]
        image = kit.share_map(ax, share, names, heads)
        ax.set_title(title, fontsize="small")
        ax.set_xlabel("head" if heads != ["layer"] else "")
    if image is not None:
        figure.colorbar(image, ax=axes, label="rows that hold (%)")
    kit.entitle(figure, f"Verdicts on trained attention: {_words(table)}")
    return figure


def _share(
    table: pd.DataFrame, statement: str, rows: list[str], column: str = "head"
) -> pd.DataFrame:
    """Share of rows that hold, by place and column; the least over the other ones."""
    keys = [*rows, column]
    others = statement == _OTHERS
    own = table["statement"].isin(list(_PRINTED) if others else [statement])
    own = table[~own if others else own]
    sums = own.groupby([*keys, "statement"])[["rows_holding", "rows"]].sum()
    return (sums["rows_holding"] / sums["rows"]).groupby(keys).min().unstack()


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
    figure = kit.new_figure(10, 5.2)
    left, right = figure.subplots(1, 2)
    left.set(ylim=(-4, 104), ylabel="rows in which the statement holds (%)")
    right.set(yscale="log", ylabel="exact / bound, median")
    runs = list(dict.fromkeys(table["run"]))
    for number, run in enumerate(runs):
        own, dash = table[table["run"] == run], kit.DASHES[number % len(kit.DASHES)]
        for statement, (title, colour, marker, width) in _SHARES.items():
            line = {"color": colour, "marker": marker, "ls": dash}
            line |= {"lw": 1.5 * width, "ms": 4 + 2 * width}
            line |= {"label": "_" if number else title}  # a legend for the first run
            percent = 100 * _share(own, statement, ["step"], "seed")
            kit.line_of_seeds(left, percent, **line)
        for statement, (title, colour, marker, fill) in _RATIOS.items():
            rows = own[own["statement"] == statement]
            medians = rows.groupby(["step", "seed"])["median_ratio"].median().unstack()
            line = {"color": colour, "marker": marker, "fillstyle": fill, "ls": dash}
            kit.line_of_seeds(right, medians, label="_" if number else title, **line)
        if len(runs) > 1:
            name = "/".join(str(run).split("/")[-2:])
            left.plot([], [], color=kit.GREY, ls=dash, label=name)
    right.axhline(1, **kit.REFERENCE)
    kit.log_axis(right.yaxis)
    for ax in (left, right):
        ax.set_xlabel("training steps")
        kit.whole_axis(ax.xaxis)
        kit.legend_below(ax, size="x-small")
        kit.open_frame(ax)
    kit.entitle(figure, f"Verdicts while training: {_words(table)}")
    return figure


def _words(table: pd.DataFrame) -> str:
    """What a table is of, in words."""
    regularizers = ", ".join(dict.fromkeys(table["regularizer"]))
    residuals = set(table["residual"]) if "residual" in table else {True}
    if residuals != {True}:
        some = "" if residuals == {False} else "some "
        regularizers += f", {some}without residual"
    lengths = ", ".join(str(T) for T in sorted(table["T"].unique()))
    return (
        f"{', '.join(dict.fromkeys(table['source']))}, T = {lengths}, regularizer "
        f"{regularizers}, {table['norm'].iloc[0]} norm, {table['run'].nunique()} "
        f"run(s), {table['seed'].nunique()} seed(s)"
    )
