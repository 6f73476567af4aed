"""Where attention stands out from that of resampled windows."""

import textwrap
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.plots import style as kit

_PANELS = {
    "attention": r"attention $\alpha_{ij}$",
    "surviving_lfdr": "survive by local fdr",
    "surviving_p": "survive by p",
}


def survival_maps(
    rows: Mapping[str, Mapping[str, Float[np.ndarray, "T T"]]], title: str
) -> Figure:
    """Mean attention, and the share of windows, nodes and heads in which it survives.

    Shares have one linear scale from 0 for all rows, attention one for each row. What
    has no share, such as an edge that a mask forbids, is grey.

    Args:
        rows: By row, and by the names ``attention``, ``surviving_lfdr`` and
            ``surviving_p``.
        title: What they are a mean of.

    Returns:
        The figure.
    """
    figure = kit.new_figure(10.5, 1.9 + 2.75 * len(rows))
    axes = figure.subplots(len(rows), len(_PANELS), squeeze=False)
    shares = [m[name] for m in rows.values() for name in list(_PANELS)[1:]]
    top = max(float(s[~np.isnan(s)].max(initial=0)) for s in shares) or 1
    for line, (name, maps) in zip(axes, rows.items(), strict=True):
        images = []
        for ax, panel in zip(line, _PANELS, strict=True):
            scale = {"vmin": 0} if panel == "attention" else {"vmin": 0, "vmax": top}
            colours = "cividis" if panel == "attention" else "viridis"
            table = np.ma.masked_invalid(maps[panel])
            if panel == "attention":
                table = np.ma.masked_equal(table, 0)
            ax.tick_params(labelsize="x-small")
            images.append(kit.step_map(ax, table, colours, **scale))
        bar = figure.colorbar(images[0], ax=line[0], shrink=0.85)
        kit.mark_uniform(bar, len(maps["attention"]))
        bar = figure.colorbar(images[-1], ax=line[1:], shrink=0.85)
        bar.set_label("share of windows", fontsize="small")
        line[0].set_ylabel(f"{textwrap.fill(name, 22)}\nquery step i", fontsize="small")
    for ax, label in zip(axes[0], _PANELS.values(), strict=True):
        ax.set_title(label, fontsize="medium")
    for ax in axes[-1]:
        ax.set_xlabel("source step j", fontsize="small")
    patch = Patch(facecolor=kit.ZERO, edgecolor=kit.GREY)
    kit.legend_outside(figure, {"no edge, or no rate": patch}, columns=1)
    kit.entitle(figure, title)
    return figure
