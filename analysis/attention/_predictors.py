"""Which measure of a head predicts its influence: rank correlations over all heads."""

import itertools

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.diagnostics import parroting, paths
from analysis.diagnostics.diagnose import WHOLE
from analysis.diagnostics.registry import BY_NAME, DIAGNOSTICS
from analysis.markdown import markdown_table
from analysis.statistics import Correlations, rank_correlations

_EXACT = {entry.name for entry in (*paths.ENTRIES, *parroting.ENTRIES)}
_HEAD = ["run", "variant", "T", "seed", "step", "layer", "head"]
_OWN = ["value_diagonal", "key_diagonal", "query_diagonal"]
_FEWEST = 4  # heads
_ROUNDING = 1e-12  # what varies by no more of its size is the same in all heads


TARGETS = {
    "parroting": "parroting ratio",
    "query_share": "query path, share of the diagonal",
    "key_share": "key path, share off the diagonal",
    "off_diagonal": "influence off the diagonal",
}


def _targets(heads: pd.DataFrame) -> dict[str, Float[np.ndarray, " heads"]]:
    """What is to be predicted, of a row per head and a column per quantity."""
    off = heads["key_off_diagonal"] + heads["value_off_diagonal"]
    found = {
        "parroting": heads["parroting_median"],
        "query_share": heads["query_diagonal"] / heads[_OWN].sum(axis=1),
        "key_share": heads["key_off_diagonal"] / off,
        "off_diagonal": heads["total_off_diagonal"],
    }
    return {name: values.to_numpy(float) for name, values in found.items()}


def predict(table: pd.DataFrame) -> pd.DataFrame:
    """``predictors.csv`` from ``diagnostics.csv``: of one step of each forecaster."""
    # A row per T, measure and target: Spearman's correlation over the heads of all
    # layers, seeds and variants, with its interval over forecasters, whose heads are
    # not independent. Measures that are the same in all heads have none.
    rows = []
    table = table[table["head"] != WHOLE]
    for T, own in table.groupby("T", sort=True):
        heads = own.pivot_table(
            index=_HEAD, columns="quantity", values="value", sort=False
        ).reindex(columns=[e.name for e in DIAGNOSTICS])  # of no value: no column
        if len(heads) < _FEWEST:
            continue
        names = heads.index.to_frame(index=False)
        forecaster = names.groupby(["run", "seed"], sort=False).ngroup().to_numpy()
        spread = heads.max() - heads.min()
        varying = {*heads.columns[spread > _ROUNDING * heads.abs().max()]}
        names = [e.name for e in DIAGNOSTICS if e.name in varying - _EXACT]
        targets = _targets(heads)
        found = rank_correlations(
            heads[names].to_numpy(float), np.stack([*targets.values()], 1), forecaster
        )
        for (m, name), (t, target) in itertools.product(
            enumerate(names), enumerate(targets)
        ):
            ends = [part[m, t] for part in found[:3]]
            if found.rows[m, t] >= _FEWEST and not np.isnan(ends[0]):
                rows.append([T, name, target, *ends, found.rows[m, t]])
    columns = ["T", "measure", "target", *Correlations._fields]
    return pd.DataFrame(rows, columns=columns)


def predictors_page(table: pd.DataFrame, note: str) -> str:
    """``predictors.md``: a row per measure, best predictors of parroting first."""
    lines = ["# Which measure predicts the influence of a head?", "", note, ""]
    lines += [
        "Spearman's rank correlation over the heads of all layers, seeds and variants, "
        "with its 95 % interval by bootstrap over forecasters. In bold: intervals "
        "without 0. Heads: those in which the measure has a value; where they are not "
        "all, it is compared on others than its neighbours are.",
        "",
    ]
    for T, own in table.groupby("T", sort=True):
        cells = {(r["measure"], r["target"]): r for r in own.to_dict("records")}
        heads = own.groupby("measure")["rows"].max()
        body = [
            [
                BY_NAME[name].label,
                *(_cell(cells.get((name, t))) for t in TARGETS),
                str(heads[name]),
            ]
            for name in in_order(own)
        ]
        head = ["measure", *TARGETS.values(), "heads"]
        lines += [f"## T = {T}", "", *markdown_table(head, body), ""]
    return "\n".join(lines)


def in_order(own: pd.DataFrame) -> list[str]:
    """Measures, those that predict the parroting ratio best first."""
    first = own[own["target"] == next(iter(TARGETS))].set_index("measure")["value"]
    strongest = own["value"].abs().groupby(own["measure"]).max()
    size = first.abs().reindex(strongest.index).fillna(-1)
    return size.sort_values(ascending=False, kind="stable").index.tolist()


def _cell(row: dict | None) -> str:
    if row is None:
        return ""
    text = f"{row['value']:+.2f}"
    if np.isnan(row["low"]):
        return text
    text += f" [{row['low']:+.2f}, {row['high']:+.2f}]"
    return f"**{text}**" if row["low"] * row["high"] > 0 else text
