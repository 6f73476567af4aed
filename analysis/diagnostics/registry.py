"""All that is measured of an attention layer, in the order of ``diagnostics.csv``.

Tables, console, pictures and ``run.json`` iterate `DIAGNOSTICS`: a new diagnostic is a
function on arrays, an entry here, and a line of the oracles in the tests.

A *row* is a query step i of one sample. Of a layer as a whole attention is the mean
over heads, and norms are those of the sum over heads, with the output projection.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from analysis.diagnostics.columns import largest_column_mean
from analysis.diagnostics.diagonal import diagonal, excess, off_diagonal
from analysis.diagnostics.entropy import (
    attention_entropy,
    effective_steps,
    relative_entropy,
)
from analysis.diagnostics.parroting import flat_mean, ratios, without_ratio
from analysis.diagnostics.rows import added, count, mean, median
from analysis.diagnostics.seen import Seen

Values = np.ndarray | None  # of a layer: none where it lacks what is measured
_PAPER = "arXiv 2602.10956"
_TWO_LINES = f"{_PAPER}, Eq. 8: its two lines, as one ratio"


@dataclasses.dataclass(frozen=True, slots=True)
class Panel:
    """What diagnostics share in a picture: an axis."""

    title: str
    axis: str = ""  # by default the title
    file: str = ""  # of its picture by variant, if it has one
    log: bool = False
    power_law: bool = True  # whether an exponent of T says something


_NORMS = Panel("Norm (paths: on the diagonal)")
_SHARE = Panel(
    "Diagonal share", "mean attention weight on the diagonal", "diagonal-share"
)
_PARROTING = Panel(
    "Parroting ratio",
    r"norm on the diagonal / mean of $\|J_{ij}\|$, $j \ne i$ (median over rows)",
    "parroting",
    log=True,
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """A quantity: what it is, how it is computed, and where it is shown.

    Attributes:
        name: In ``diagnostics.csv``.
        label: In tables and legends.
        meaning: In ``run.json``.
        source: Paper and equation.
        function: Of every head: of rows, shape (S, H, T), or of samples, (S, H). None
            where heads have none.
        whole: Of the layer, shape (S, T) or (S,), None where a layer has none; by
            default the mean over heads.
        reduce: From a head's rows or samples to its number.
        uniform: Its value where alpha = 1/T everywhere, if that decides it; of T.
        version: One more whenever its numbers change.
        compared: Whether variants are compared in it.
        differs: Whether variants can differ in it.
        column: Place among the columns of ``variants.md``, of equals in order; 0: none.
        short: Heading on the console; empty: not printed.
        panel: Where its course over training and length is drawn, if anywhere.
    """

    name: str
    label: str
    meaning: str
    source: str
    function: Callable[[Seen], Any] | None
    whole: Callable[[Seen], Values] | None = None
    reduce: Callable[[np.ndarray], float] = mean
    uniform: Callable[[int], float] | None = None
    version: int = 1
    compared: bool = True
    differs: bool = True
    column: int = 0
    short: str = ""
    panel: Panel | None = None


def _of_path(path: str, place: Literal["", "off_"], **more: Any) -> Diagnostic:
    """Norm of a path's Jacobian, on or off the diagonal."""
    part = off_diagonal if place else diagonal
    total = "" if path == "total" else f" along the {path} path"
    where = "its mean over the T - 1 steps j != i" if place else "at j = i"
    vanishes = path in ("key", "query")  # uniform attention asks nothing, minds no key
    return Diagnostic(
        name=f"{path}_{place}diagonal",
        label=f"{path} off the diagonal" if place else path,
        meaning=f"norm of J_ij{total}, {where}; mean over rows",
        source=f"{_PAPER}, Eq. 4",
        function=lambda seen: part(getattr(seen.heads, path)),
        whole=lambda seen: part(getattr(seen.layer, path)),
        uniform=(lambda _: 0.0) if vanishes else None,
        **more,
    )


def _of_ratio(name: str, residual: bool, reduce: Any, **more: Any) -> Diagnostic:
    """The parroting ratio, reduced somehow."""

    def whole(seen: Seen) -> Values:
        if not residual:
            return ratios(seen.layer.total)
        own = seen.with_residual
        return None if own is None else ratios(seen.layer.total, own)

    return Diagnostic(
        name=name,
        source=_TWO_LINES,
        function=None if residual else lambda seen: ratios(seen.heads.total),
        whole=whole,
        reduce=reduce,
        **more,
    )


_RATIO = "norm of J_ii over the mean norm of J_ij, j != i"
DIAGNOSTICS = (
    Diagnostic(
        name="diagonal_share",
        label="diagonal share",
        meaning="mean attention weight on the diagonal, tr A / T",
        source=f"{_PAPER}, Eq. 8: E[alpha_ii]",
        function=lambda seen: diagonal(seen.alpha),
        uniform=lambda T: 1 / T,
        column=1,
        short="diag. share",
        panel=_SHARE,
    ),
    Diagnostic(
        name="uniform_share",
        label="1/T",
        meaning="1/T",
        source="what diagonal_share is compared with",
        function=lambda seen: np.full(seen.alpha.shape[:2], 1 / seen.x.shape[-2]),
        whole=lambda seen: np.full(len(seen.x), 1 / seen.x.shape[-2]),
        reduce=lambda samples: float(samples[0]),  # they are all the same
        uniform=lambda T: 1 / T,
        differs=False,
        column=1,
        short="1/T",
    ),
    Diagnostic(
        name="diagonal_excess",
        label="diagonal excess",
        meaning="mean weight on the diagonal over the mean weight off it",
        source=f"{_PAPER}, Eq. 8: E[alpha_ii]",
        function=lambda seen: diagonal(seen.alpha),
        reduce=excess,
        uniform=lambda _: 1.0,
    ),
    Diagnostic(
        name="entropy",
        label="relative entropy",
        meaning="relative entropy: mean entropy of a row of attention over that of "
        "uniform attention, the log of the number of steps it may attend to",
        source="Zhai et al., arXiv 2303.06296, over its largest value",
        function=lambda seen: relative_entropy(seen.alpha, seen.allowed),
        uniform=lambda _: 1.0,
    ),
    Diagnostic(
        name="attention_entropy",
        label="attention entropy (nats)",
        meaning="mean entropy of a row of attention in nats, -sum_j alpha_ij log "
        "alpha_ij; `entropy` is the relative one",
        source="Zhai et al., arXiv 2303.06296",
        function=lambda seen: attention_entropy(seen.alpha),
        uniform=lambda T: float(np.log(T)),
        column=4,
        short="entropy (nats)",
        panel=Panel("Attention entropy (nats)", power_law=False),
    ),
    Diagnostic(
        name="effective_steps",
        label="attended steps",
        meaning="exp of the entropy of a row of attention in nats, mean over rows: as "
        "many steps, attended equally, have that entropy",
        source="Hill, Ecology 54, 1973: the number of order 1",
        function=lambda seen: effective_steps(seen.alpha),
        uniform=float,
        column=4,
        short="attend. steps",
        panel=Panel("Attended steps"),
    ),
    Diagnostic(
        name="largest_column_mean",
        label="largest column mean",
        meaning="share of all rows' attention that the most attended step of a sample "
        "gets, mean over samples",
        source="attention sinks: Xiao et al., arXiv 2309.17453",
        function=lambda seen: largest_column_mean(seen.alpha),
        uniform=lambda T: 1 / T,
    ),
    _of_path("value", "", column=3, panel=_NORMS),
    _of_path("value", "off_"),
    _of_path("key", "", column=3, panel=_NORMS),
    _of_path("key", "off_"),
    _of_path("query", "", column=3, short="query on diag.", panel=_NORMS),
    _of_path("query", "off_", compared=False),
    _of_path("total", "", column=3, short="total on diag."),
    _of_path("total", "off_", column=3, short="total off diag.", panel=_NORMS),
    _of_ratio(
        "parroting_median",
        False,
        median,
        label="parroting ratio",
        meaning=f"{_RATIO}, without the residual: median over rows",
        uniform=lambda _: 1.0,
        column=2,
        short="parrot. ratio",
        panel=_PARROTING,
    ),
    _of_ratio(
        "parroting_mean",
        False,
        flat_mean,
        label="mean parroting ratio",
        meaning=f"{_RATIO}, without the residual: mean over rows",
        uniform=lambda _: 1.0,
    ),
    Diagnostic(
        name="total_with_residual_diagonal",
        label="total with residual",
        meaning="norm of I + J_ii, mean over rows",
        source=f"{_PAPER}, Eq. 4, with the identity of the residual",
        function=None,
        whole=lambda seen: seen.with_residual,
    ),
    _of_ratio(
        "parroting_with_residual_median",
        True,
        median,
        label="with residual",
        meaning=f"{_RATIO}, with I + J_ii: median over rows",
        column=2,
        short="with resid.",
        panel=_PARROTING,
    ),
    _of_ratio(
        "parroting_with_residual_mean",
        True,
        flat_mean,
        label="mean parroting ratio with residual",
        meaning=f"{_RATIO}, with I + J_ii: mean over rows",
    ),
    Diagnostic(
        name="rows",
        label="rows",
        meaning="query steps x samples",
        source="a count",
        function=lambda seen: diagonal(seen.alpha),
        reduce=count,
        compared=False,
    ),
    Diagnostic(
        name="rows_without_ratio",
        label="rows without ratio",
        meaning="rows whose off-diagonal norms are all 0: left out of the ratio",
        source=_TWO_LINES,
        function=lambda seen: without_ratio(seen.heads.total),
        whole=lambda seen: without_ratio(seen.layer.total),
        reduce=added,
        uniform=lambda _: 0.0,
    ),
)
BY_NAME = {entry.name: entry for entry in DIAGNOSTICS}
SHOWN = tuple(sorted((e for e in DIAGNOSTICS if e.column), key=lambda e: e.column))
PANELS = tuple(dict.fromkeys(e.panel for e in DIAGNOSTICS if e.panel is not None))


def drawn_in(panel: Panel) -> list[Diagnostic]:
    """The diagnostics of a panel."""
    return [entry for entry in DIAGNOSTICS if entry.panel == panel]
