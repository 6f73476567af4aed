"""What a diagnostic is: a function of a layer as it is seen, and what is said of it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from analysis.diagnostics.rows import mean
from analysis.diagnostics.seen import Seen

Values = np.ndarray | None  # of a layer: none where it lacks what is measured
PAPER = "arXiv 2602.10956"


@dataclasses.dataclass(frozen=True, slots=True)
class Panel:
    """What diagnostics share in a picture: an axis."""

    title: str
    axis: str = ""  # by default the title
    file: str = ""  # of its picture by variant, if it has one
    log: bool = False
    power_law: bool = True  # whether an exponent of T says something
    signed: bool = False  # whether values may be negative: no axis is logarithmic


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
        needs: What a value needs, "at least two steps": tables say so where there is
            none. Every NaN is explained by it.
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
    needs: str = "a row that counts"
    uniform: Callable[[int], float] | None = None
    version: int = 1
    compared: bool = True
    differs: bool = True
    column: int = 0
    short: str = ""
    panel: Panel | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A quantity that is a course over a lag or a step: ``curves.csv`` has it.

    Attributes:
        name: In ``curves.csv``.
        label: In the picture.
        meaning: In ``run.json``.
        source: Paper and equation.
        over: What it is a course over, on the axis of the picture.
        function: Of every head, shape (S, H, points).
        first: Its first point, such as a lag of 0 or 1.
        uniform: Its values where alpha = 1/T everywhere, if that decides them; of T.
        version: One more whenever its numbers change.
    """

    name: str
    label: str
    meaning: str
    source: str
    over: str
    function: Callable[[Seen], Any]
    first: int = 0
    uniform: Callable[[int], np.ndarray] | None = None
    version: int = 1
