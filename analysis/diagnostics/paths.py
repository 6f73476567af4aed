"""Norms of the Jacobian by the path that influence takes, on the diagonal and off."""

from typing import Any, Literal

import numpy as np

from analysis.diagnostics.diagnostic import PAPER, Diagnostic, Panel
from analysis.diagnostics.diagonal import diagonal, off_diagonal

_NORMS = Panel("Norm (paths: on the diagonal)")


def _of_path(path: str, place: Literal["", "off_"], **more: Any) -> Diagnostic:
    """Norm of a path's Jacobian, on or off the diagonal."""

    def part(table: np.ndarray, sources: np.ndarray) -> np.ndarray:
        return off_diagonal(table, sources) if place else diagonal(table)

    total = "" if path == "total" else f" along the {path} path"
    off = "its mean over the steps j != i that are not padding"
    where = off if place else "at j = i"
    vanishes = path in ("key", "query")  # uniform attention asks nothing, minds no key
    return Diagnostic(
        name=f"{path}_{place}diagonal",
        label=f"{path} off the diagonal" if place else path,
        meaning=f"norm of J_ij{total}, {where}; mean over rows",
        source=f"{PAPER}, Eq. 4",
        function=lambda seen: part(getattr(seen.heads, path), seen.sources),
        whole=lambda seen: part(getattr(seen.layer, path), seen.sources_of_layer),
        uniform=(lambda _: 0.0) if vanishes else None,
        needs="at least two steps" if place else "a row that counts",
        **more,
    )


ENTRIES = (
    _of_path("value", "", column=3, panel=_NORMS),
    _of_path("value", "off_"),
    _of_path("key", "", column=3, panel=_NORMS),
    _of_path("key", "off_"),
    _of_path("query", "", column=3, short="query on diag.", panel=_NORMS),
    _of_path("query", "off_", compared=False),
    _of_path("total", "", column=3, short="total on diag."),
    _of_path("total", "off_", column=3, short="total off diag.", panel=_NORMS),
)
