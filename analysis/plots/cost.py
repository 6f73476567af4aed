"""What every influence in a window costs, by method, layer, norm and length."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator

# Okabe and Ito's colours, told apart by the colour-blind too; markers serve in grey.
_METHODS: dict[str, tuple[str, str, str]] = {
    "torch": ("torch.func.jacrev", "#CC79A7", "v"),
    "jacrev": ("jax.jacrev", "#D55E00", "s"),
    "autodiff": ("autodiff, by row (ours)", "#E69F00", "D"),
    "path_norms": ("closed form: path_norms", "#0072B2", "o"),
    "profile": ("closed form: profile", "#009E73", "^"),
    "forward": ("one forward pass", "#000000", "x"),
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
    size = (1.5 + 4.2 * len(layers), 1.6 + 2.7 * len(norms))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(
        len(norms), len(layers), sharex=True, sharey=True, squeeze=False
    )
    measured = table[table["seconds"].notna()]
    for row, norm in zip(axes, norms, strict=True):
        for ax, layer in zip(row, layers, strict=True):
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            own = measured[
                (measured["layer"] == layer) & measured["norm"].isin([norm, "none"])
            ]
            for method, (_, colour, marker) in _METHODS.items():
                line = own[own["method"] == method].sort_values("T")
                ax.plot(line["T"], line["seconds"], color=colour, marker=marker, ms=5)
            _slope_two(ax, measured)
            ax.set_title(f"{_LAYERS[layer]}, {_NORMS[norm]}", fontsize="medium")
            ax.grid(color="0.9", lw=0.6)
            ax.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel("time of one call (s)")
    lengths = sorted(set(table["T"]))
    for ax in axes[-1]:
        ax.set_xlabel("window length T (time steps)")
        ax.xaxis.set_major_locator(FixedLocator(lengths))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticks(lengths, [_short(T) for T in lengths])
    axes[0, 0].yaxis.set_major_locator(LogLocator(numticks=12))
    axes[0, 0].yaxis.set_minor_formatter(NullFormatter())
    lines = dict(zip(_METHODS, axes[0, 0].lines, strict=False))
    shown = {m: line for m, line in lines.items() if m in set(measured["method"])}
    names = [_METHODS[method][0] for method in shown]
    where, columns = "outside lower center", 1 + len(layers)
    figure.legend([*shown.values()], names, loc=where, ncols=columns, frameon=False)
    dtypes = ", ".join(dict.fromkeys(table["dtype"]))
    figure.suptitle(
        f"Cost of every influence in a window of T steps (D = 64, {dtypes})"
    )
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
    ax.plot(T, seconds, color="0.45", ls=":", lw=1.2, zorder=1)
    ax.annotate(
        r"slope $T^2$",
        (T.mean(), seconds[-1] * (T.mean() / T[-1]) ** 2),
        xytext=(4, -4),
        textcoords="offset points",
        va="top",
        fontsize="small",
        color="0.35",
    )


def _short(T: int) -> str:
    """1024 as 1k, as on every plot of window lengths."""
    return f"{T // 1024}k" if T >= 1024 and T % 1024 == 0 else str(T)
