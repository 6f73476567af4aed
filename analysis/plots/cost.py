"""What every influence in a window costs, by method, layer, norm and length."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots import style as kit

# Markers serve in grey.
_METHODS: dict[str, tuple[str, str, str]] = {
    "torch": ("torch.func.jacrev", kit.PURPLE, "v"),
    "jacrev": ("jax.jacrev", kit.RED, "s"),
    "autodiff": ("autodiff, by row (ours)", kit.ORANGE, "D"),
    "path_norms": ("closed form: path_norms", kit.BLUE, "o"),
    "profile": ("closed form: profile", kit.GREEN, "^"),
    "forward": ("one forward pass", kit.BLACK, "x"),
}
_NORMS = {"frobenius": "Frobenius", "spectral": "spectral", "none": "forward only"}
_LAYERS = {
    "one head": "one head of 64",
    "eight heads": r"eight heads of 8 with $W^O$",
}


def cost_against_length(table: pd.DataFrame) -> Figure:
    """Seconds against T, of the rows of ``benchmark.csv``: layer by norm, log axes."""
    layers = [name for name in _LAYERS if name in set(table["layer"])]
    norms = [name for name in ("frobenius", "spectral") if name in set(table["norm"])]
    norms = norms or ["none"]
    figure = kit.new_figure(1.5 + 4.2 * len(layers), 1.6 + 2.7 * len(norms))
    axes = figure.subplots(
        len(norms), len(layers), sharex=True, sharey=True, squeeze=False
    )
    measured = table[table["seconds"].notna() & table["layer"].isin(layers)]
    for row, norm in zip(axes, norms, strict=True):
        for ax, layer in zip(row, layers, strict=True):
            ax.set_yscale("log")
            own = measured[
                (measured["layer"] == layer) & measured["norm"].isin([norm, "none"])
            ]
            for method, (name, colour, marker) in _METHODS.items():
                line = own[own["method"] == method].sort_values("T")
                look = {"color": colour, "marker": marker, "ms": 5, "label": name}
                ax.plot(line["T"], line["seconds"], **look)
            _slope_two(ax, measured)
            ax.set_title(f"{_LAYERS[layer]}, {_NORMS[norm]}", fontsize="medium")
            kit.open_frame(ax)
        row[0].set_ylabel("time of one call (s)")
    for ax in axes[-1]:
        kit.length_axis(ax, sorted(set(table["T"])), "window length T (time steps)")
    kit.log_axis(axes[0, 0].yaxis, digits=(1,))
    entries, there = kit.entries_of(axes.flat), set(measured["method"])
    names = [name for method, (name, *_) in _METHODS.items() if method in there]
    kit.legend_outside(figure, {name: entries[name] for name in names}, 1 + len(layers))
    size = ", ".join(["D = 64", *dict.fromkeys(table["dtype"])])
    kit.entitle(figure, f"Cost of every influence in a window of T steps ({size})")
    return figure


def _slope_two(ax: Axes, measured: pd.DataFrame) -> None:
    """A dotted reference line of slope T^2, where the data leave room, below them."""
    forward = measured[measured["method"] == "forward"]
    if forward.empty:
        return
    longest = forward["T"].max()
    lowest = forward.loc[forward["T"] == longest, "seconds"].min()
    T = np.array([max(longest / 16, forward["T"].min()), longest], dtype=float)
    seconds = 0.15 * lowest * (T / longest) ** 2
    ax.plot(T, seconds, **kit.REFERENCE, zorder=1)
    ax.annotate(
        r"slope $T^2$",
        (T.mean(), seconds[-1] * (T.mean() / T[-1]) ** 2),
        xytext=(4, -4),
        textcoords="offset points",
        va="top",
        fontsize="small",
    )
