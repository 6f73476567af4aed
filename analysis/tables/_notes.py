"""What must be said with a table: its title, data, seeds, sizes and limits."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from analysis.tables._results import Results
from analysis.variants import (
    main_architecture,
    settings_in_words,
    shared_settings,
    variant_of,
)
from models.errors import MEAN
from models.train.record import Run

_IN_TITLE = ("dataset", "data", "window", "horizon", "split")


def title_of(run: Run, telling: Sequence[str] = ()) -> str:
    """The title of a table of such runs, with what tells it from tables of its size."""
    settings = shared_settings(run)
    data = f" ({settings['data']})" if settings.get("data") else ""
    parts = [
        f"Test errors, {settings['window']} steps in",
        f"{settings['horizon']} out",
        f"{settings['dataset']}{data}",
    ]
    if "split" in settings:
        parts.append(f"split {settings['split']}")
    if extra := {k: settings.get(k) for k in telling if k not in _IN_TITLE}:
        parts.append(settings_in_words(extra))
    return ", ".join(parts)


def notes_of(
    results: Results, horizons: Sequence[str], left_out: Sequence[str] = ()
) -> list[str]:
    """All that is said below a table, as sentences."""
    H, rows = results.runs[0].arguments["horizon"], results.rows
    mean = f"; mean 1-{H} is the mean of the errors at steps 1 to {H}"
    notes = [
        "MAE and RMSE in mph, MAPE in percent, missing readings left out, on the test "
        f"split, each at the single step named{mean * (MEAN in horizons)}.",
        *_seed_notes(results),
        *_difference_notes(results, len(horizons)),
    ]
    if "ridge" in set(rows["variant"]):
        notes.append(
            "The ridge reads the average by time of week besides the window, whether "
            "or not the trained rows do."
        )
    devices = dict.fromkeys(run.device for run in results.runs)
    notes += [
        f"Epochs: {_epochs(results.runs)}. Parameters: {_sizes(results)}.",
        f"Device: {', '.join(devices)}.",
        *_settings(results),
    ]
    if gaps := dict.fromkeys(rows.loc[rows["mean"].isna(), "horizon"]):
        notes.append(
            "n/a: no mean can be given, for no reading of the test split counts at "
            f"that step, or a seed forecast no number (steps: {', '.join(gaps)})."
        )
    if left_out:
        notes.append(f"Left out, not complete: {', '.join(left_out)}.")
    return notes


def _seed_notes(results: Results) -> list[str]:
    counts = {len(seeds) for seeds in results.seeds.values()}
    said = _by_row(results, lambda label: _listed(results.seeds[label]))
    notes = [f"Seeds: {said}."]
    if max(counts) > 1:
        notes.append(
            "Each number is the mean over the seeds ± their sample standard deviation."
        )
    if min(counts) == 1:
        notes.append(
            "A row of one seed is one run: it has no spread, and what tells it from "
            "another row may be chance."
        )
    if len(results.seeds) > 1:
        notes.append("Bold: the lowest mean of the trained variants in a column.")
    return notes


def _difference_notes(results: Results, horizons: int) -> list[str]:
    """What the differences are, and why a row has none."""
    rows = results.rows.drop_duplicates("variant").set_index("variant")
    trained = rows.loc[[*results.seeds]]
    notes = []
    if (trained["paired_seeds"] > 1).any():
        notes.append(
            "minus (b): the difference to that row, seed by seed, over the seeds both "
            "have; below 0 the variant is better."
        )
    intervals = int((trained["paired_seeds"] > 2).sum()) * 3 * horizons
    if intervals:
        notes.append(
            "In brackets its 95 % t interval, from 3 seeds up; one that holds 0 shows "
            f"no gain. {intervals} intervals stand here, not corrected for their "
            f"number: where nothing differs, about {0.05 * intervals:.1f} miss 0 by "
            "chance."
        )
    paired = trained["reference"] != ""
    alone = [v for v in trained.index[~paired] if not results.variants[v].is_b]
    apart = trained.index[paired & (trained["paired_seeds"] == 0)]
    reasons = {
        "there is no (b) of the same settings to pair with": alone,
        "no seed in common with (b)": apart,
    }
    notes += [
        f"No difference for {'; '.join(names)}: {reason}."
        for reason, names in reasons.items()
        if len(names)
    ]
    return notes


def _epochs(runs: Sequence[Run]) -> str:
    """How many were asked for, and how many each seed was trained."""
    asked = runs[0].arguments.get("epochs")
    trained: list[int] = []
    for run in runs:
        counts = run.epochs().groupby("seed")["epoch"].nunique()
        trained += [int(counts.get(seed, 0)) for seed in run.seeds]
    low, high = min(trained), max(trained)
    said = f"{low}" if low == high else f"{low} to {high}"
    if asked is not None:
        said += f" of {asked}"
    steps = {run.steps_per_epoch for run in runs} - {None}
    return said + (f", {_listed(sorted(steps, key=str))} steps each" if steps else "")


def _sizes(results: Results) -> str:
    sizes = {
        label: {r.parameters for r in results.runs if variant_of(r) == variant}
        for label, variant in results.variants.items()
    }
    return _by_row(results, lambda label: _listed(sorted(sizes[label]), ","))


def _settings(results: Results) -> list[str]:
    """Every setting: what all rows share, and what most do."""
    shared = shared_settings(results.runs[0])
    rest = {k: v for k, v in shared.items() if k not in _IN_TITLE and v is not None}
    usual = dict(main_architecture([*results.variants.values()]))
    usual |= dict(pair for v in results.variants.values() for pair in v.strength)
    said = {"All trained rows": rest, "Unless a row says otherwise": usual}
    return [f"{whose}: {settings_in_words(s)}." for whose, s in said.items() if s]


def _by_row(results: Results, say: Callable[[str], str]) -> str:
    """What is said of most rows, then the rows of which something else is."""
    said = {label: say(label) for label in results.seeds}
    words = [*said.values()]
    most = max(words, key=words.count)
    others = [f"{label}: {w}" for label, w in said.items() if w != most]
    return "; ".join([most, *others])


def _listed(values: Sequence[Any], form: str = "") -> str:
    return ", ".join(
        format(int(x) if isinstance(x, np.integer) else x, form) for x in values
    )
