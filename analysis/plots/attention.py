"""Pictures of trained attention: maps by path, diagonal share, parroting."""

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

from analysis.plots.bounds import BLACK, BLUE, RED

_ZERO = "#D9D9D9"
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
    """Put a title on a figure, wrapped to its width.

    Args:
        figure: The figure.
        lines: Of the title.
    """
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


def diagonal_share(points: pd.DataFrame, rows: pd.DataFrame, note: str) -> Figure:
    """Mean attention weight on the diagonal, of every variant and seed, beside 1/T.

    Args:
        points: Rows of ``diagnostics.csv``, one step of each variant and seed.
        rows: Rows of ``variants.csv`` for the same steps.
        note: What was measured.

    Returns:
        The figure: a row of panels per window, a column per layer.
    """
    shown = {"diagonal_share": (BLUE, "o", "trained")}
    figure = _dots(points, rows, shown, "mean attention weight on the diagonal")
    entitle(figure, "Diagonal share of attention", note)
    return figure


def parroting(points: pd.DataFrame, rows: pd.DataFrame, note: str) -> Figure:
    """How much more a step moves its own output than another step does.

    Args:
        points: Rows of ``diagnostics.csv``, one step of each variant and seed.
        rows: Rows of ``variants.csv`` for the same steps.
        note: What was measured.

    Returns:
        The figure, on a logarithmic axis: the median over rows, without and with the
        identity of the residual. An interval that reaches 0 is cut at the axis.
    """
    shown = {
        "parroting_median": (BLUE, "o", r"attention alone, $\|J_{ii}\|$"),
        "parroting_with_residual_median": (
            *(RED, "s"),
            r"with the residual, $\|I + J_{ii}\|$",
        ),
    }
    label = r"norm on the diagonal / mean of $\|J_{ij}\|$, $j \ne i$ (median over rows)"
    figure = _dots(points, rows, shown, label, log=True)
    entitle(figure, "Parroting ratio", note)
    return figure


def _dots(
    points: pd.DataFrame,
    rows: pd.DataFrame,
    shown: Mapping[str, tuple[str, str, str]],
    label: str,
    *,
    log: bool = False,
) -> Figure:
    """A point per seed, and the mean with its interval: panels by window and layer."""
    sns.set_theme(context="notebook", style="ticks")
    lengths, layers = sorted(set(points["T"])), some_layers(points)
    variants = {T: list(dict.fromkeys(points.loc[points["T"] == T, "variant"]))
                for T in lengths}  # fmt: skip
    heights = [0.9 + 0.5 * len(variants[T]) for T in lengths]
    figure = Figure(figsize=(4 + 4 * len(layers), 2 + sum(heights)),
                    layout="constrained")  # fmt: skip
    axes = figure.subplots(
        *(len(lengths), len(layers)),
        squeeze=False,
        sharex="row" if len(lengths) > 1 and not log else "all",
        gridspec_kw={"height_ratios": heights},
    )
    for line, T in zip(axes, lengths, strict=True):
        for ax, layer in zip(line, layers, strict=True):
            reference = 1 if log else 1 / T
            named = "1: no more than others" if log else "1/T: uniform attention"
            ax.axvline(reference, color=BLACK, ls="--", lw=1.2, label=named)
            own = points[(points["T"] == T) & (points["layer"] == layer)]
            own = own[own["head"] == "layer"]
            if log:  # first: intervals are cut by the scale
                ax.set_xscale("log")
            means = rows[(rows["T"] == T) & (rows["layer"] == str(layer))]
            for number, (name, look) in enumerate(shown.items()):
                shift = 0.3 * (number - (len(shown) - 1) / 2)
                _draw_dots(ax, own, means, variants[T], name, look, shift)
            ax.set_ylim(len(variants[T]) - 0.5, -0.5)
            ax.set_yticks(range(len(variants[T])))
            names = [textwrap.fill(name, 30) for name in variants[T]]
            ax.set_yticklabels(names if layer == layers[0] else [], fontsize="small")
            ax.set_title(f"layer {layer}, T = {T}", fontsize="medium")
            ax.grid(axis="x", color="0.9", lw=0.6)
            ax.spines[["top", "right"]].set_visible(False)
            if log:
                plain_log_ticks(ax.xaxis)
        if not log:
            right = max(float(ax.dataLim.xmax) for ax in line)
            line[0].set_xlim(-0.03 * right, 1.06 * right)
    for ax in axes[-1]:
        ax.set_xlabel(label, fontsize="small")
    figure.legend(
        **legend_entries(axes),
        loc="outside lower center",
        ncols=2 if log else 3,
        frameon=False,
        fontsize="small",
    )
    return figure


def _draw_dots(
    ax: Axes,
    points: pd.DataFrame,
    means: pd.DataFrame,
    variants: list[str],
    name: str,
    look: tuple[str, str, str],
    shift: float,
) -> None:
    colour, marker, label = look
    seeds = points[points["quantity"] == name]
    height = np.array([variants.index(v) for v in seeds["variant"]]) + shift
    ax.plot(seeds["value"], height, marker, color=colour, ms=5, alpha=0.45, ls="",
            mew=0, label=f"{label}: a seed")  # fmt: skip
    own = means[means["quantity"] == name]
    height = np.array([variants.index(v) for v in own["variant"]]) + shift
    ax.plot(own["mean"], height, "|", color=colour, ms=13, mew=2, ls="",
            label=f"{label}: mean, 95 % interval")  # fmt: skip
    low = own["low"].to_numpy(float)
    if ax.get_xscale() == "log":
        least = seeds["value"][seeds["value"] > 0].min()
        low = np.where(low > 0, low, 0.5 * least)
    ax.hlines(height, low, own["high"], color=colour, lw=2)


def plain_log_ticks(axis: Axis) -> None:
    """Ticks at 1, 2 and 5 of every decade, written out.

    Args:
        axis: A logarithmic axis.
    """
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def legend_entries(axes: np.ndarray) -> dict[str, list]:
    """What is drawn on some axes, each label once.

    Args:
        axes: The axes.

    Returns:
        ``handles`` and ``labels`` of a legend.
    """
    found: dict[str, object] = {}
    for ax in axes.flat:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return {"handles": list(found.values()), "labels": list(found)}


def some_layers(table: pd.DataFrame, most: int = 3) -> list[int]:
    """Layers to show: all of a few, else evenly spaced ones from first to last.

    Args:
        table: With the column ``layer``.
        most: How many at most.

    Returns:
        Their numbers.

    Example:
        >>> some_layers(pd.DataFrame({"layer": range(12)}))
        [0, 6, 11]
    """
    layers = sorted(int(layer) for layer in set(table["layer"]))
    count = min(most, len(layers))
    chosen = np.linspace(0, len(layers) - 1, count).round().astype(int)
    return [layers[k] for k in chosen]
