"""Variants over their seeds, with intervals, and beside (b)."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.statistics import Difference, paired_difference

COMPARED = (
    *("diagonal_share", "uniform_share", "diagonal_excess", "entropy"),
    *("largest_column_mean", "value_diagonal", "key_diagonal", "query_diagonal"),
    *("total_diagonal", "total_with_residual_diagonal", "value_off_diagonal"),
    *("key_off_diagonal", "total_off_diagonal", "parroting_median"),
    *("parroting_with_residual_median", "parroting_mean"),
    *("parroting_with_residual_mean", "rows_without_ratio"),
)
MEAN = "mean"
SHOWN = {
    "diagonal_share": "diagonal share",
    "uniform_share": "1/T",
    "parroting_median": "parroting ratio",
    "parroting_with_residual_median": "with residual",
    "value_diagonal": "value",
    "key_diagonal": "key",
    "query_diagonal": "query",
    "total_diagonal": "total",
    "total_off_diagonal": "total off the diagonal",
}

PRINTED = {
    "diagonal_share": "diag. share",
    "uniform_share": "1/T",
    "query_diagonal": "query on diag.",
    "total_diagonal": "total on diag.",
    "total_off_diagonal": "total off diag.",
    "parroting_median": "parrot. ratio",
    "parroting_with_residual_median": "with resid.",
}


def compare(
    table: pd.DataFrame, references: Mapping[tuple[int, str], str]
) -> pd.DataFrame:
    """Mean over seeds of every variant, and its paired difference to (b).

    Args:
        table: The rows of ``diagnostics.csv``; with best weights their ``step`` is left
            out of account, as seeds differ in it.
        references: By T and variant the label of its (b), or nothing.

    Returns:
        A row per T, variant, step (missing for best weights), layer (``"mean"`` is over
        layers) and quantity: ``mean``, with its 95 % t interval ``low`` to ``high``
        over ``seeds``; and ``difference`` to ``reference`` over ``paired_seeds``, with
        ``difference_low`` and ``difference_high``. NaN what cannot be said.
    """
    whole = table[(table["head"] == "layer") & table["quantity"].isin(COMPARED)]
    keys = ["T", "variant", "step", "layer", "quantity"]
    over_layers = whole.groupby([*keys[:3], "quantity", "seed"], sort=False)["value"]
    over = over_layers.mean().reset_index().assign(layer=MEAN)
    whole = pd.concat([over, whole.astype({"layer": str})], ignore_index=True)
    best = bool((table["weights"] == "best").all())
    if best:
        whole["step"] = -1
    by_seed: dict[Any, dict[int, float]] = {}
    columns = [whole[name] for name in (*keys, "seed", "value")]
    for *key, seed, value in zip(*columns, strict=True):
        by_seed.setdefault(tuple(key), {})[seed] = value
    found: list[dict[str, Any]] = []
    for (T, variant, *rest), own in by_seed.items():
        reference = references.get((T, variant), "")
        other = by_seed.get((T, reference, *rest), {})
        mean, gap = over_seeds(own), paired_difference(own, other)
        found.append(
            {"T": T, "variant": variant}
            | dict(zip(keys[2:], rest, strict=True))
            | {"mean": mean.mean, "low": mean.low, "high": mean.high}
            | {"seeds": mean.seeds, "reference": reference if other else ""}
            | {"difference": gap.mean, "difference_low": gap.low}
            | {"difference_high": gap.high, "paired_seeds": gap.seeds}
        )
    result = pd.DataFrame(found).astype({"step": "Int64"})
    if best:
        result.loc[:, "step"] = pd.NA
    return result


def over_seeds(values: Mapping[int, float]) -> Difference:
    """Mean over seeds and its 95 % t interval.

    Args:
        values: By seed.

    Returns:
        As of a difference to 0; the interval is NaN below 3 seeds.
    """
    return paired_difference(values, dict.fromkeys(values, 0.0))


def markdown(rows: pd.DataFrame, norm: str, note: str) -> str:
    """Variants as a Markdown page: a table over all layers, and one for each layer.

    Args:
        rows: The result of `compare`.
        norm: Norm of the Jacobians.
        note: What was measured.

    Returns:
        The page; of kept weights the first and the last step.
    """
    lines = ["# Attention of trained layers, by variant", "", note, ""]
    for layer in dict.fromkeys(rows["layer"]):
        own = rows[rows["layer"] == layer]
        title = "Mean over layers" if layer == MEAN else f"Layer {layer}"
        lines += [f"## {title}, {norm.capitalize()} norm", "", *_table(own), ""]
    return "\n".join(lines)


def _table(rows: pd.DataFrame) -> list[str]:
    names = [name for name in SHOWN if name in set(rows["quantity"])]
    kept = rows["step"].notna().any()
    head = ["T", "variant", *(["training step"] if kept else []), "seeds"]
    head += [SHOWN[name] for name in names]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for (T, variant), own in rows.groupby(["T", "variant"], sort=False):
        steps = sorted(set(own["step"].dropna()))
        for step in dict.fromkeys([steps[0], steps[-1]]) if kept else [None]:
            here = own if step is None else own[own["step"] == step]
            by_name = {row["quantity"]: row for row in here.to_dict("records")}
            start = [str(T), str(variant), *([str(step)] if kept else [])]
            seeds = [str(max(row["seeds"] for row in by_name.values()))]
            cells = [_value(by_name.get(name), "mean", "low", "high") for name in names]
            lines.append(f"| {' | '.join(start + seeds + cells)} |")
            if any(row["paired_seeds"] for row in by_name.values()):
                which = ("difference", "difference_low", "difference_high")
                cells = [
                    "" if name == "uniform_share" else _value(by_name.get(name), *which)
                    for name in names
                ]
                start[1] = "minus (b), by seed"
                seeds = [str(max(row["paired_seeds"] for row in by_name.values()))]
                lines.append(f"| {' | '.join(start + seeds + cells)} |")
    return lines


def _value(row: dict[Any, Any] | None, mean: str, low: str, high: str) -> str:
    if row is None or pd.isna(row[mean]):
        return ""
    sign = "+" if mean == "difference" else ""
    text = format(row[mean], f"{sign}.3g")
    if pd.isna(row[low]) or row[low] == row[high]:
        return text
    return f"{text} [{row[low]:{sign}.3g}, {row[high]:{sign}.3g}]"
