"""Variants over their seeds and beside (b), and certificates: tables and pages."""

from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from analysis.diagnostics.registry import DIAGNOSTICS, SHOWN
from analysis.markdown import markdown_table
from analysis.statistics import Difference, paired_difference

MEAN = "mean"  # over layers
_COMPARED = [entry.name for entry in DIAGNOSTICS if entry.compared]
_SAME = {entry.name for entry in DIAGNOSTICS if not entry.differs}
_LABELS = {entry.name: entry.label for entry in SHOWN}


def compare(
    table: pd.DataFrame,
    references: Mapping[tuple[int, str], str],
    quantities: Collection[str] = _COMPARED,
) -> pd.DataFrame:
    """``variants.csv`` from ``diagnostics.csv`` and, by T and variant, its (b)."""
    # A row per T, variant, step (none for best weights: seeds differ in it), layer and
    # quantity: the mean with its 95 % t interval over seeds, and the difference to the
    # reference with its own over paired seeds; NaN what cannot be said.
    whole = table[(table["head"] == "layer") & table["quantity"].isin(quantities)]
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
        mean, gap = _over_seeds(own), paired_difference(own, other)
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


def _over_seeds(values: Mapping[int, float]) -> Difference:
    """Mean over seeds and its interval, as those of a difference to 0."""
    return paired_difference(values, dict.fromkeys(values, 0.0))


def comparison_page(rows: pd.DataFrame, norm: str, note: str) -> str:
    """``variants.md``: tables over all layers and of each; first and last step."""
    lines = ["# Attention of trained layers, by variant", "", note, ""]
    for layer in dict.fromkeys(rows["layer"]):
        own = rows[rows["layer"] == layer]
        title = "Mean over layers" if layer == MEAN else f"Layer {layer}"
        title = f"{title}, {norm.capitalize()} norm"
        lines += [f"## {title}", "", *seeds_table(own, _LABELS), ""]
    return "\n".join(lines)


def measures_page(rows: pd.DataFrame, norm: str, note: str) -> str:
    """``measures.md``: a row per measure, a column per variant, mean over layers."""
    lines = [f"# All measures, {norm.capitalize()} norm", "", note, ""]
    rows = rows[rows["layer"] == MEAN]
    if rows["step"].notna().any():
        last = rows.groupby(["T", "variant"])["step"].transform("max")
        rows = rows[rows["step"] == last]
    for T, own in rows.groupby("T", sort=False):
        variants = list(dict.fromkeys(own["variant"]))
        records = own.to_dict("records")
        by_key = {(row["quantity"], row["variant"]): row for row in records}
        body, notes = [], {}
        for entry in DIAGNOSTICS:
            of = [by_key.get((entry.name, name)) for name in variants]
            if any(of):
                cells = [_value(row, "") for row in of]
                if any(row and pd.isna(row["mean"]) for row in of):
                    notes[entry.needs] = [*notes.get(entry.needs, []), entry.label]
                body.append([entry.label, *cells])
        lines += [f"## T = {T}", "", *markdown_table(["measure", *variants], body), ""]
        for needs, labels in notes.items():
            lines += [f"Empty cells of {', '.join(labels)}: needs {needs}.", ""]
    lines += ["## What they are", ""]
    for entry in DIAGNOSTICS:
        if entry.name in set(rows["quantity"]):
            lines.append(f"- **{entry.label}**: {entry.meaning} ({entry.source})")
    return "\n".join([*lines, ""])


def seeds_table(rows: pd.DataFrame, labels: Mapping[str, str]) -> list[str]:
    """Rows of `compare`: quantities as columns, variants and their (b) in turn."""
    there = set(rows["quantity"])
    shown = [name for name in labels if name in there]
    kept = rows["step"].notna().any()
    head = ["T", "variant", *(["training step"] if kept else []), "seeds"]
    lines = []
    for (T, variant), own in rows.groupby(["T", "variant"], sort=False):
        steps = sorted(set(own["step"].dropna()))
        for step in dict.fromkeys([steps[0], steps[-1]]) if kept else [None]:
            here = own if step is None else own[own["step"] == step]
            by_name = {row["quantity"]: row for row in here.to_dict("records")}
            at = [str(step)] if kept else []
            for title, of, seeds in (
                (str(variant), "", "seeds"),
                ("minus (b), by seed", "difference", "paired_seeds"),
            ):
                if counts := max(row[seeds] for row in by_name.values()):
                    cells = [_value(by_name.get(name), of) for name in shown]
                    lines.append([str(T), title, *at, str(counts), *cells])
    return markdown_table([*head, *(labels[name] for name in shown)], lines)


def _value(row: dict[Any, Any] | None, of: str) -> str:
    """A mean, or the ``difference`` of two, with its interval."""
    if row is None or pd.isna(row[of or "mean"]):
        return ""
    if of and row["quantity"] in _SAME:
        return ""
    sign = "+" if of else ""
    low, high = (row["_".join(filter(None, (of, end)))] for end in ("low", "high"))
    text, *ends = (
        format(number, f"{sign}.0f" if abs(number) >= 1000 else f"{sign}.3g")
        for number in (row[of or "mean"], low, high)
    )
    return text if pd.isna(low) or low == high else f"{text} [{', '.join(ends)}]"


def certificate_page(table: pd.DataFrame, note: str) -> str:
    """``certificates.md``: a row per length, variant and certificate, all samples."""
    head = (
        *("T", "variant", "certificate", "applies", "samples", "holds"),
        *("exact, median", "bound, median", "exact / bound, median", "worst"),
    )
    rows = []
    names = ["T", "variant", "certificate", "applies"]
    for key, own in table.groupby(names, sort=False, dropna=False):
        inside, holding = own.dropna(subset=["bound"]), ""
        medians = [own["exact"].median()]
        if len(inside):
            holding = f"{int(inside['holds'].astype(bool).sum())} of {len(inside)}"
            medians += [inside["bound"].median(), inside["ratio"].median()]
            medians += [inside["ratio"].max()]
        numbers = [f"{value:.3g}" for value in medians] + [""] * (4 - len(medians))
        rows.append([*map(str, key), str(len(own)), holding, *numbers])
    title = (
        "# The whole Jacobian of trained layers: exact spectral norm and certificates"
    )
    return "\n".join([title, "", note, "", *markdown_table(head, rows), ""])
