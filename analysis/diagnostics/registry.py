"""All that is measured of an attention layer, in the order of ``diagnostics.csv``.

Tables, console, pictures and ``run.json`` iterate `DIAGNOSTICS` and `CURVES`: a new
diagnostic is a function on arrays with its entry beside it, and a line of the oracles
in the tests. A file of this package is an idea, with its ``ENTRIES``.

A *row* is a query step i of one sample. Of a layer as a whole attention is the mean
over heads, and norms are those of the sum over heads, with the output projection.
"""

from analysis.diagnostics import (
    columns,
    diagonal,
    entropy,
    head_class,
    lags,
    parroting,
    paths,
    query_key_spectrum,
    query_similarity,
    signal_propagation,
    value_variance,
)
from analysis.diagnostics.diagnostic import Curve, Diagnostic, Panel

DIAGNOSTICS: tuple[Diagnostic, ...] = (
    *diagonal.ENTRIES,
    *entropy.ENTRIES,
    *columns.ENTRIES,
    *paths.ENTRIES,
    *parroting.ENTRIES,
    *lags.ENTRIES,
    *query_key_spectrum.ENTRIES,
    *signal_propagation.ENTRIES,
    *query_similarity.ENTRIES,
    *head_class.ENTRIES,
    *value_variance.ENTRIES,
)
CURVES: tuple[Curve, ...] = (*lags.CURVES, *query_similarity.CURVES)
BY_NAME = {entry.name: entry for entry in DIAGNOSTICS}
SHOWN = tuple(sorted((e for e in DIAGNOSTICS if e.column), key=lambda e: e.column))
PANELS = tuple(dict.fromkeys(e.panel for e in DIAGNOSTICS if e.panel is not None))


def drawn_in(panel: Panel) -> list[Diagnostic]:
    """The diagnostics of a panel."""
    return [entry for entry in DIAGNOSTICS if entry.panel == panel]
