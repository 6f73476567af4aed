"""From measured parts to the files of the folder: tables, maps and pictures."""

import io
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console

from analysis.attention._comparison import (
    MEAN,
    certificate_page,
    compare,
    comparison_page,
    measures_page,
)
from analysis.attention._measure import MAPS
from analysis.attention._parts import Measured
from analysis.attention._predictors import (
    TARGETS,
    in_order,
    predict,
    predictors_page,
)
from analysis.attention._significance import MAPS as SURVIVAL
from analysis.attention._significance import (
    significance_note,
    significance_page,
    significance_table,
)
from analysis.attention._sources import Source
from analysis.attention.options import AttentionOptions
from analysis.diagnostics.registry import DIAGNOSTICS, PANELS
from analysis.plots.attention import dots, path_maps
from analysis.plots.attention_courses import by_length, by_training_step
from analysis.plots.attention_curves import draw_curves
from analysis.plots.predictors import draw_predictors
from analysis.plots.significance import survival_maps
from analysis.variants import seeds_in_words, some_layers
from models.runs.console import empty_table
from models.runs.folder import RunFolder

Pairs = list[tuple[Source, Measured]]


def write_results(
    options: AttentionOptions,
    folder: RunFolder,
    sources: list[Source],
    measured: list[Measured],
    console: Console,
) -> None:
    """Write everything, and say what came of it."""
    pairs = list(zip(sources, measured, strict=True))
    table = _joined(options, ((s, m.parts, lambda part: part.table) for s, m in pairs))
    references = {(source.T, source.label): source.reference for source in sources}
    rows = compare(table, references)
    note = _note(options, measured, f"{options.weights} weights")
    curves = _joined(
        options, ((s, m.parts, lambda part: part.curves) for s, m in pairs)
    )
    folder.write("diagnostics.csv", table.to_csv(index=False))
    folder.write("curves.csv", curves.to_csv(index=False))
    folder.write("variants.csv", rows.to_csv(index=False))
    folder.write("variants.md", comparison_page(rows, options.norm, note))
    folder.write("measures.md", measures_page(rows, options.norm, note))
    folder.write("maps.npz", _maps(pairs))
    bounds = None
    if options.samples:
        bounds = _joined(options, ((s, m.certified, lambda own: own) for s, m in pairs))
        folder.write("certificates.csv", bounds.to_csv(index=False))
        folder.write("certificates.md", certificate_page(bounds, note))
    kept = options.weights == "kept"
    last = "weights of the last kept step" if kept else "best weights"
    of_last = _note(options, measured, last)
    for name, own in _by_length("curves", _last_step(curves)):
        folder.write_figure(name, draw_curves(own, of_last))
    for name, figure in _figures(options, table, rows, pairs, note, of_last):
        folder.write_figure(name, figure)
    predictors = predict(_last_step(table))
    if len(predictors):
        folder.write("predictors.csv", predictors.to_csv(index=False))
        folder.write("predictors.md", predictors_page(predictors, of_last))
        for name, own in _by_length("predictors", predictors):
            head = f"T = {own['T'].iloc[0]}, {own['rows'].max()} heads; {of_last}"
            figure = draw_predictors(own, in_order(own), TARGETS, head)
            folder.write_figure(name, figure)
    if options.resamples:
        where = _where(options, measured, last)
        _write_significance(options, folder, pairs, references, where)
    files = folder.finish()
    _show(console, rows, options.norm)
    if bounds is not None:
        _show_bounds(console, bounds)
    console.print(f"wrote {', '.join([*files, 'run.json'])} in {folder.path}")


def _write_significance(
    options: AttentionOptions,
    folder: RunFolder,
    pairs: Pairs,
    references: dict[tuple[int, str], str],
    where: str,
) -> None:
    """What stands out from resampled windows: all rows, their page and maps."""
    table = _joined(
        options, ((s, m.significance, significance_table) for s, m in pairs)
    )
    note = significance_note(options, sorted({source.T for source, _ in pairs}))
    folder.write("significance.csv", table.to_csv(index=False))
    note = f"{where[0].upper()}{where[1:]}. {note}"
    page = significance_page(_last_step(table), references, note)
    folder.write("significance.md", page)
    title, rows = _panels(
        pairs,
        "Attention, and where it stands out from resampled windows",
        SURVIVAL,
        lambda m: {key: own.maps for key, own in m.significance.items()},
    )
    words = f"{options.null_model}, at most {options.false_discovery:g}"
    folder.write_figure("significance", survival_maps(rows, f"{title}\n{words}"))


def _joined(options: AttentionOptions, found: Iterable[tuple]) -> pd.DataFrame:
    """Tables by source, seed and step as one, with whose they are in front."""
    tables = []
    for source, by_key, table_of in found:
        for (seed, step), part in by_key.items():
            whose = {"run": str(source.run.folder), "variant": source.label}
            whose |= {"T": source.T, "seed": seed, "weights": options.weights}
            table = table_of(part)
            front = pd.DataFrame(whose | {"step": step}, index=table.index)
            tables.append(front.join(table))
    return pd.concat(tables)


def _note(options: AttentionOptions, measured: list[Measured], weights: str) -> str:
    where = _where(options, measured, weights)
    return (
        f"{options.norm.capitalize()} norm, {where}; off the diagonal: mean over j != i"
    )


def _where(options: AttentionOptions, measured: list[Measured], weights: str) -> str:
    nodes = " or ".join(map(str, sorted({m.nodes for m in measured})))
    which = "all" if options.nodes is None else "evenly spaced"
    return (
        f"{weights}, {options.windows} test windows, {nodes} nodes ({which}), "
        "evaluation mode"
    )


def _maps(pairs: Pairs) -> bytes:
    """Mean maps: an array (heads and layer, maps, T, T) per seed, step and layer."""
    arrays: dict[str, Any] = {"maps": np.array(MAPS)}
    for source, measured in pairs:
        for (seed, step), part in measured.parts.items():
            whose = f"{source.label}, T={source.T}, seed={seed}, step={step}"
            for number, maps in enumerate(part.maps):
                arrays[f"{whose}, layer={number}"] = maps
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _figures(
    options: AttentionOptions,
    table: pd.DataFrame,
    rows: pd.DataFrame,
    pairs: Pairs,
    note: str,
    of_last: str,
) -> Iterator[tuple[str, Figure]]:
    last = _last_step(table)
    if options.weights == "kept":
        rows = _last_step(rows)
    title, maps = _panels(pairs)
    yield "path-maps", path_maps(maps, f"{title}\n{of_last}", options.norm)
    for panel in PANELS:
        if panel.file:
            yield panel.file, dots(panel, last, rows, of_last)
    if options.weights == "kept":
        yield "by-training-step", by_training_step(table, note)
    if table["T"].nunique() > 1:
        yield "by-length", by_length(last, of_last)


def _by_length(name: str, table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of every T, and what their picture is called."""
    several = table["T"].nunique() > 1
    for T, own in table.groupby("T"):
        yield f"{name}-{T}" if several else name, own


def _last_step(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the last training step of every variant (and seed)."""
    keys = [name for name in ("T", "variant", "seed") if name in table]
    return table[table["step"] == table.groupby(keys)["step"].transform("max")]


def _of_whole_layers(measured: Measured) -> dict[tuple[int, int], np.ndarray]:
    return {key: part.maps[:, -1] for key, part in measured.parts.items()}


def _panels(
    pairs: Pairs,
    what: str = "Attention and influence by path",
    names: Sequence[str] = MAPS,
    maps_of: Callable[[Measured], dict[tuple[int, int], np.ndarray]] = _of_whole_layers,
) -> tuple[str, dict[str, dict[str, np.ndarray]]]:
    """Maps of whole layers: a row per variant, or of one variant per layer; a title."""
    by_variant: dict[str, dict[int, np.ndarray]] = {}
    several = len({source.T for source, _ in pairs}) > 1
    for source, measured in pairs:
        name = f"{source.label}, T = {source.T}" if several else source.label
        own = by_variant.setdefault(name, {})
        for (seed, _), maps in sorted(maps_of(measured).items(), key=lambda i: i[0]):
            own[seed] = maps  # of the last step
    means = {name: np.mean([*maps.values()], 0) for name, maps in by_variant.items()}
    seeds = seeds_in_words(max(map(len, by_variant.values())))
    if len(means) == 1:
        ((name, (*layers,)),) = means.items()
        title = f"{what}, {name}, {seeds}"
        rows = {f"layer {n}": layer for n, layer in enumerate(layers)}
    else:
        title = f"{what}, last layer, {seeds}"
        rows = {name: layers[-1] for name, layers in means.items()}
    return title, {
        name: dict(zip(names, maps, strict=True)) for name, maps in rows.items()
    }


def _show(console: Console, rows: pd.DataFrame, norm: str) -> None:
    """Print some layers of every variant, of kept weights the first and last step."""
    title = f"Means over seeds; {norm.capitalize()} norms"
    printed = [entry for entry in DIAGNOSTICS if entry.short]
    kept = rows["step"].notna().any()
    names = ("T", "variant", *(["step"] if kept else []), "layer")
    numbers = [textwrap.fill(entry.short, 9) for entry in printed]
    # A narrow terminal folds variants, and cuts no number.
    shown = empty_table(title, names, numbers, ["variant"], collapse_padding=True)
    rows = rows[rows["layer"] != MEAN]
    layers = some_layers(rows["layer"])
    keys = ["T", "variant", "step", "layer"]
    for (T, variant), own in rows.groupby(["T", "variant"], sort=False):
        ends = {own["step"].min(), own["step"].max()} if kept else None
        for (*_, step, layer), here in own.groupby(keys, sort=False, dropna=False):
            if int(str(layer)) not in layers or (ends and step not in ends):
                continue
            means = here.set_index("quantity")["mean"]
            cells = [format(means.get(e.name, np.nan), ".3g") for e in printed]
            cells = ["" if cell == "nan" else cell for cell in cells]
            words = [str(T), str(variant), *([str(step)] if kept else []), str(layer)]
            shown.add_row(*words, *cells)
    console.print(shown)


def _show_bounds(console: Console, bounds: pd.DataFrame) -> None:
    """Print how the certificates did."""
    title = "Certificates on the whole layer, exact / bound (spectral)"
    names = ("certificate", "holds in", "median ratio", "worst ratio")
    shown = empty_table(title, names, wraps=names)
    for name, own in bounds.groupby("certificate", sort=False):
        spoken = own[own["bound"].notna()]
        holds = int(spoken["holds"].astype(bool).sum())
        ratios = spoken["ratio"]
        numbers = (f"{ratios.median():.3g}", f"{ratios.max():.3g}")
        shown.add_row(str(name), f"{holds} of {len(spoken)}", *numbers)
    console.print(shown)
