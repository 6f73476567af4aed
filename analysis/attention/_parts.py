"""What is measured of a run, forecaster by forecaster; what is finished is kept."""

import io
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
import pandas as pd

from analysis.attention._measure import Part, certify, measure
from analysis.attention._significance import Significance, measure_significance
from analysis.attention._sources import Source
from analysis.attention.options import AttentionOptions
from analysis.diagnostics.registry import CURVES, DIAGNOSTICS
from data import Batch
from models.layer_inputs import layer_inputs
from models.runs.command import words_of
from models.runs.folder import RunFolder, digest
from models.train.restore import (
    Restored,
    Snapshot,
    best_models,
    kept_epochs,
    kept_models,
    restore,
    spread_nodes,
    spread_windows,
    weights_sha256,
)

_FORMAT = 4  # one more whenever certificates, maps or samples change
_COLUMNS = ("layer", "head", "quantity", "value", "note")
_POINTS = ("layer", "head", "quantity", "at", "value")
_OF_0_1_0 = "[0-9a-f]" * 32  # names end in one digest
Kept = TypeVar("Kept")


class Measured(NamedTuple):
    """All that was measured of a run, by seed and training step."""

    parts: dict[tuple[int, int], Part]
    certified: dict[tuple[int, int], pd.DataFrame]
    significance: dict[tuple[int, int], Significance]
    nodes: int  # that were looked at


def count_parts(options: AttentionOptions, source: Source) -> int:
    """How many forecasters of a run are measured."""
    best = options.weights == "best"
    epochs = 1 if best else len(kept_epochs(source.run.folder))
    return epochs * len(source.run.seeds)


def measure_source(
    options: AttentionOptions,
    source: Source,
    folder: RunFolder,
    done: Callable[[str], None],
) -> Measured:
    """Measure every forecaster of a run, or read it where that is finished."""
    restored = restore(source.options)
    try:
        batch = spread_windows(restored.prepared, options.windows)
        total = len(restored.prepared.series.sensor_ids)
        nodes = spread_nodes(total, options.nodes)
    except ValueError as error:
        raise ValueError(f"{words_of(error)} ({source.run.folder})") from error
    found = Measured({}, {}, {}, len(nodes))
    for snapshot in _snapshots(options, restored):
        start = time.perf_counter()
        part, certified, significance, how = _part(
            options, snapshot, batch, nodes, folder
        )
        key = (snapshot.seed, snapshot.step)
        found.parts[key] = part
        if certified is not None:
            found.certified[key] = certified
        if significance is not None:
            found.significance[key] = significance
        seconds = time.perf_counter() - start
        folder.record["seconds"] += seconds
        name = f"T={source.T} {source.label} seed={key[0]} step={key[1]}"
        done(f"{name}: {how or f'{seconds:.1f} s'}")
    return found


def _snapshots(options: AttentionOptions, restored: Restored) -> Iterator[Snapshot]:
    if options.weights == "best":
        yield from best_models(restored)
        return
    for epoch in kept_epochs(restored.options.out):
        yield from kept_models(restored, epoch)


def _part(
    options: AttentionOptions,
    snapshot: Snapshot,
    batch: Batch,
    nodes: list[int],
    folder: RunFolder,
) -> tuple[Part, pd.DataFrame | None, Significance | None, str]:
    """One forecaster: all that is asked of it, and "finished before" if all was."""
    model, wanted = snapshot.model, options.samples
    given = [(str(path), leaf) for path, leaf in jax.tree.leaves_with_path(batch)]
    whose = digest(repr(model.config), weights_sha256(model), *sum(given, ()))
    layers = []
    before = True

    def kept(
        kind: str,
        suffix: str,
        asked: dict,
        make: Callable[[], str | bytes],
        read: Callable[[bytes], Kept],
    ) -> Kept:
        nonlocal before
        label = f"{kind}-{whose[:16]}"
        key = digest(whose, {"format": _FORMAT, "nodes": nodes} | asked)
        found = folder.part(label, key)
        if found.state == "finished":
            return read(found.content)
        before = False
        layers[:] = layers or layer_inputs(model, batch, nodes)
        content = make()
        folder.keep(label, key, content, suffix)
        return read(content if isinstance(content, bytes) else content.encode())

    versions = {entry.name: entry.version for entry in (*DIAGNOSTICS, *CURVES)}
    part = kept(
        *("measured", ".npz", {"norm": options.norm, "diagnostics": versions}),
        lambda: _as_bytes(measure(layers, options.norm)),
        _read_part,
    )
    certified = None
    if wanted:
        certified = kept(
            *("certificates", ".csv", {"certificates": wanted}),
            lambda: certify(layers, nodes, wanted).to_csv(index=False),
            lambda content: pd.read_csv(io.BytesIO(content)),
        )
    significance = None
    if options.resamples:
        significance = kept(
            *("significance", ".npz", options.resampling()),
            lambda: _arrays(**measure_significance(layers, options)._asdict()),
            _read_significance,
        )
    return part, certified, significance, "finished before" if before else ""


def _as_bytes(part: Part) -> bytes:
    arrays = {"maps": part.maps}
    for kind, table in (("rows", part.table), ("curves", part.curves)):
        for name, column in table.items():
            words = not pd.api.types.is_numeric_dtype(column)
            arrays[f"{kind}-{name}"] = column.to_numpy(str if words else None)
    return _arrays(**arrays)


def _arrays(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _read_significance(content: bytes) -> Significance:
    with np.load(io.BytesIO(content), allow_pickle=False) as held:
        return Significance(**held)


def _read_part(content: bytes) -> Part:
    with np.load(io.BytesIO(content), allow_pickle=False) as held:
        table, curves = (
            pd.DataFrame({name: held[f"{kind}-{name}"] for name in names})
            for kind, names in (("rows", _COLUMNS), ("curves", _POINTS))
        )
        return Part(table, curves, held["maps"])


def delete_old_parts(folder: RunFolder) -> int:
    """For folders of 0.1.0: delete its parts, which held other things; how many."""
    old = list((folder.path / "parts").glob(f"*-{_OF_0_1_0}.*"))
    for file in old:
        file.unlink()
    return len(old)
