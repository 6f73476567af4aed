"""From measured parts to the files of the folder: tables, maps and pictures."""

import io
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from analysis.attention._certificates import certificate_table
from analysis.attention._comparison import MEAN, PRINTED, compare, markdown
from analysis.attention._measure import MAPS, Part
from analysis.attention._sources import Source
from analysis.attention._store import AttentionFolder
from analysis.attention._summaries import DESCRIPTIONS
from analysis.attention.options import AttentionOptions

_OUTSIDE = ("run", "variant", "T", "seed", "weights", "step")


class Measured(NamedTuple):
    """All that was measured of a run.

    Attributes:
        parts: By seed and training step.
        certified: The certificates, likewise.
        nodes: Number of nodes that were looked at.
    """

    parts: dict[tuple[int, int], Part]
    certified: dict[tuple[int, int], pd.DataFrame]
    nodes: int


def write_results(
    options: AttentionOptions,
    folder: AttentionFolder,
    sources: list[Source],
    measured: list[Measured],
    console: Console,
) -> None:
    """Write everything, and say what came of it.

    Args:
        options: What was done.
        folder: Where to.
        sources: The runs.
        measured: What was measured of each.
        console: Where to print.
    """
    import matplotlib

    matplotlib.use("Agg")
    pairs = list(zip(sources, measured, strict=True))
    table = pd.concat(
        [_outside(options, s, k, p.table) for s, m in pairs for k, p in m.parts.items()]
    )
    folder.record["quantities"] = DESCRIPTIONS
    folder.write("diagnostics.csv", table.to_csv(index=False))
    rows = compare(
        table, {(source.T, source.label): source.reference for source in sources}
    )
    note = _note(options, measured)
    folder.write("variants.csv", rows.to_csv(index=False))
    folder.write("variants.md", markdown(rows, options.norm, note))
    folder.write("maps.npz", _maps(pairs))
    certified = [
        _outside(options, s, k, t) for s, m in pairs for k, t in m.certified.items()
    ]
    if certified:
        bounds = pd.concat(certified)
        folder.write("certificates.csv", bounds.to_csv(index=False))
        folder.write("certificates.md", certificate_table(bounds, note))
    for name, figure in _figures(options, table, rows, pairs, note).items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
        folder.write(name, buffer.getvalue())
    files = folder.finish()
    _show(console, rows, options.norm)
    if certified:
        _show_bounds(console, pd.concat(certified))
    names = ", ".join([*files, "run.json"])
    console.print(f"wrote {names} in {folder.path}", soft_wrap=True, markup=False)


def _outside(
    options: AttentionOptions,
    source: Source,
    key: tuple[int, int],
    table: pd.DataFrame,
) -> pd.DataFrame:
    """Rows with the columns that say whose they are in front."""
    seed, step = key
    whose = (str(source.run.folder), source.label, source.T, seed, options.weights)
    table = table.reset_index(drop=True)
    front = pd.DataFrame(
        dict(zip(_OUTSIDE, (*whose, step), strict=True)), index=table.index
    )
    return front.join(table)


def _note(options: AttentionOptions, measured: list[Measured]) -> str:
    nodes = sorted({m.nodes for m in measured})
    counted = " or ".join(map(str, nodes))
    which = "all" if options.nodes is None else "evenly spaced"
    return (
        f"{options.norm.capitalize()} norm, {options.weights} weights, "
        f"{options.windows} test windows, {counted} nodes ({which}), evaluation mode; "
        "off the diagonal: mean over j != i"
    )


def _maps(pairs: list[tuple[Source, Measured]]) -> bytes:
    """Mean maps: an array (heads and layer, maps, T, T) per seed, step and layer."""
    arrays: dict[str, Any] = {"maps": np.array(MAPS)}
    for source, measured in pairs:
        for (seed, step), part in measured.parts.items():
            for number, maps in enumerate(part.maps):
                words = (source.label, f"T={source.T}", f"seed={seed}", f"step={step}")
                arrays[", ".join([*words, f"layer={number}"])] = maps
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _figures(
    options: AttentionOptions,
    table: pd.DataFrame,
    rows: pd.DataFrame,
    pairs: list[tuple[Source, Measured]],
    note: str,
) -> dict[str, Figure]:
    from analysis.plots.attention import diagonal_share, parroting, path_maps
    from analysis.plots.attention_courses import by_length, by_training_step

    last = _last_step(table)
    compared = rows if options.weights == "best" else _last_step(rows)
    title, maps = _panels(pairs)
    course, which = note, "of the last kept step, "
    note = note if options.weights == "best" else note.replace("kept ", which, 1)
    found = {
        "path-maps.png": path_maps(maps, f"{title}\n{note}", options.norm),
        "diagonal-share.png": diagonal_share(last, compared, note),
        "parroting.png": parroting(last, compared, note),
    }
    if options.weights == "kept":
        found["by-training-step.png"] = by_training_step(table, course)
    if table["T"].nunique() > 1:
        found["by-length.png"] = by_length(last, note)
    return found


def _last_step(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the last training step of every variant (and seed)."""
    keys = [name for name in ("T", "variant", "seed") if name in table]
    return table[table["step"] == table.groupby(keys)["step"].transform("max")]


def _panels(
    pairs: list[tuple[Source, Measured]],
) -> tuple[str, dict[str, dict[str, np.ndarray]]]:
    """Maps of layers as a whole: a row per variant, or of one variant per layer.

    Returns:
        What they are, and the maps by row and by name.
    """
    by_variant: dict[str, list[np.ndarray]] = {}
    several = len({source.T for source, _ in pairs}) > 1
    for source, measured in pairs:
        name = f"{source.label}, T = {source.T}" if several else source.label
        last: dict[int, tuple[int, Part]] = {}
        for (seed, step), part in measured.parts.items():
            last[seed] = max(last.get(seed, (-1, part)), (step, part), key=_step)
        by_variant.setdefault(name, []).extend(p.maps[:, -1] for _, p in last.values())
    means = {name: np.mean(maps, 0) for name, maps in by_variant.items()}
    if len(means) == 1:
        ((name, (*layers,)),) = means.items()
        title = f"Attention and influence by path, {name}, mean over seeds"
        rows = {f"layer {n}": layer for n, layer in enumerate(layers)}
    else:
        title = "Attention and influence by path, last layer, mean over seeds"
        rows = {name: layers[-1] for name, layers in means.items()}
    return title, {
        name: dict(zip(MAPS, maps, strict=True)) for name, maps in rows.items()
    }


def _step(pair: tuple[int, Part]) -> int:
    return pair[0]


def _show(console: Console, rows: pd.DataFrame, norm: str) -> None:
    """Print some layers of every variant, of kept weights the first and last step."""
    from analysis.plots.attention import some_layers

    title = f"Means over seeds; {norm.capitalize()} norms"
    shown = Table(title=title, box=box.SIMPLE_HEAD)
    kept = rows["step"].notna().any()
    for name in ("T", "variant", *(["step"] if kept else []), "layer"):
        shown.add_column(name, no_wrap=True)
    for name in PRINTED.values():
        shown.add_column(name, justify="right")
    rows = rows[rows["layer"] != MEAN]
    layers = some_layers(rows)
    keys = ["T", "variant", "step", "layer"]
    for (T, variant), own in rows.groupby(["T", "variant"], sort=False):
        ends = {own["step"].min(), own["step"].max()} if kept else None
        for (*_, step, layer), here in own.groupby(keys, sort=False, dropna=False):
            if int(str(layer)) not in layers or (ends and step not in ends):
                continue
            mean = here.set_index("quantity")["mean"]
            cells = [format(mean[k], ".3g") if k in mean else "" for k in PRINTED]
            words = [str(T), str(variant), *([str(step)] if kept else []), str(layer)]
            shown.add_row(*words, *cells)
    console.print(shown)


def _show_bounds(console: Console, bounds: pd.DataFrame) -> None:
    """Print how the certificates did."""
    shown = Table(
        title="Certificates on the whole layer, exact / bound (spectral)",
        box=box.SIMPLE_HEAD,
    )
    for name in ("certificate", "holds in", "median ratio", "worst ratio"):
        shown.add_column(name)
    for name, own in bounds.groupby("certificate", sort=False):
        spoken = own[own["bound"].notna()]
        holds = int(spoken["holds"].astype(bool).sum())
        ratios = spoken["ratio"]
        shown.add_row(
            str(name),
            f"{holds} of {len(spoken)}",
            f"{ratios.median():.3g}",
            f"{ratios.max():.3g}",
        )
    console.print(shown)
