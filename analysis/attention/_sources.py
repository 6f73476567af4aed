"""The runs that are measured: read, checked and named, before anything is computed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from analysis.attention.options import AttentionOptions
from analysis.variants import (
    check_each_folder_once,
    check_each_seed_once,
    group_runs,
    labels,
    partner,
    settings_in_words,
    shared_settings,
    telling_settings,
    variant_of,
)
from models.train.options import TrainOptions
from models.train.record import Run, is_file, read_run
from models.train.restore import kept_epochs


class Source(NamedTuple):
    """A run with attention layers."""

    run: Run
    options: TrainOptions
    label: str  # its variant, and what else tells it from runs of its window
    reference: str  # label of the (b) it is compared with, or nothing

    @property
    def T(self) -> int:
        """Its window."""
        return self.run.arguments["window"]

    def record(self) -> dict[str, Any]:
        """What ``run.json`` says of it."""
        whose = {"folder": str(self.run.folder), "variant": self.label, "T": self.T}
        precision = self.options.model.precision
        return whose | {"seeds": list(self.run.seeds), "precision": precision}


def read_sources(options: AttentionOptions) -> list[Source]:
    """Read, check and name the runs: short windows first, then as tables order them."""
    check_each_folder_once(options.runs)
    runs = [read_run(folder) for folder in options.runs]
    asked = {run.folder: run.options(options.data) for run in runs}
    for folder, own in asked.items():
        if own.model.model != "attention":
            raise ValueError(
                f"{folder} has no attention layer: its temporal layers are of --model "
                f"{own.model.model}."
            )
        if options.weights == "kept" and not kept_epochs(folder):
            raise ValueError(
                f"--weights kept needs weights that were kept, but {folder} has none; "
                "train with --keep-epochs."
            )
        _check_data(own)
    sources = _sources(runs, asked)
    check_each_seed_once(
        ((source.T, source.label), source.label, source.run.seeds, source.run.folder)
        for source in sources
    )
    return sources


def _check_data(options: TrainOptions) -> None:
    """Refuse a run whose data are not there, before others are measured."""
    series = options.series
    places = [series.data, series.adjacency]
    if is_file(series.dataset):
        places.append(Path(series.dataset))
    for place in places:
        if place is not None and not place.exists():
            raise ValueError(
                f"{options.out} needs its data, but {place} does not exist; say with "
                "--data where the folder is, or start where it was trained."
            )


def _sources(runs: Sequence[Run], asked: dict[Path, TrainOptions]) -> list[Source]:
    """The runs with the names of their variants, and of those they are beside."""
    groups = group_runs(runs)
    variants = list(dict.fromkeys(variant_of(run) for run in runs))
    names = labels(variants)
    order = list(names)
    found = []
    for group, telling in zip(groups, telling_settings(groups), strict=True):
        shared = shared_settings(group[0])
        same_T = [g for g in groups if g[0].arguments["window"] == shared["window"]]
        if len({g[0].arguments["horizon"] for g in same_T}) > 1:
            telling = ["horizon", *telling]
        words = settings_in_words({name: shared.get(name) for name in telling})
        inside = list(dict.fromkeys(variant_of(run) for run in group))
        for run in sorted(group, key=lambda run: order.index(variant_of(run))):
            variant = variant_of(run)
            other = partner(variant, inside)
            label, reference = (
                "" if v is None else ", ".join(filter(None, [names[v], words]))
                for v in (variant, other)
            )
            found.append(Source(run, asked[run.folder], label, reference))
    return sorted(found, key=lambda source: source.T)
