"""From the options of a run to its data and its model."""

import dataclasses
from typing import NamedTuple

from data import Prepared, TrafficSeries, prepare, read_adjacency
from models.train.options import TrainOptions
from models.training import Recipe, Trainer
from sensitivity.arguments import ArgumentError


class Setup(NamedTuple):
    """What a run is about."""

    series: TrafficSeries  # with the adjacency it is to use
    prepared: Prepared
    trainer: Trainer


def set_up(options: TrainOptions) -> Setup:
    """Load or simulate the series, cut windows, build the model."""
    series, given, fitting = load_series(options), options.series, options.fit
    try:
        prepared = prepare(
            series,
            window=given.window,
            horizon=given.horizon,
            split=given.split,
            scale=given.scale,
            fill=given.fill,
            time_of_week=given.time_of_week,
        )
    except ValueError as error:
        raise ValueError(f"--dataset {given.dataset}: {error}") from error
    _check_parts(options, prepared)
    trainer = Trainer(
        options.model.config(
            nodes=len(series.sensor_ids),
            window=given.window,
            horizon=given.horizon,
            time_of_week=given.time_of_week,
        ),
        Recipe(
            batch_size=fitting.batch_size,
            steps=fitting.steps_per_epoch,
            weight_decay=fitting.weight_decay,
            patience=fitting.patience,
        ),
        prepared.arrays,
        prepared.scaler,
        adjacency=series.adjacency,
        devices=fitting.devices,
        at_once=fitting.seeds_at_once,
    )
    return Setup(series, prepared, trainer)


def _check_parts(options: TrainOptions, prepared: Prepared) -> None:
    """Refuse parts that cannot be trained on, or in which nothing can be judged."""
    windows, size = len(prepared.split.train), options.fit.batch_size
    if options.fit.epochs > 0 and windows < size:
        raise ArgumentError(
            "batch_size", f"({size}) must not exceed the {windows} training windows."
        )
    for name in ("validation", "test"):
        starts = getattr(prepared.split, name)
        first = int(starts[0]) + prepared.window
        forecast = slice(first, int(starts[-1]) + prepared.window + prepared.horizon)
        if prepared.series.missing[forecast].all():
            raise ValueError(
                f"--dataset {options.series.dataset}: the {name} part needs an "
                f"observed reading, but all are missing from step {first} to "
                f"{forecast.stop - 1}."
            )


def load_series(options: TrainOptions) -> TrafficSeries:
    """Load or simulate the series of a run, with the adjacency it is to use."""
    try:
        series = _read_series(options)
    except (ValueError, OSError) as error:
        raise ValueError(_with_option(options, error)) from error
    if options.model.needs_adjacency and series.adjacency is None:
        raise ValueError(
            f"--graph {options.model.graph} needs a road graph, and {series.name} "
            "brings none; name one with --adjacency."
        )
    return series


def _read_series(options: TrainOptions) -> TrafficSeries:
    given = options.series
    if given.dataset != "payne-whitham":
        from data.files import load_dataset

        return load_dataset(given.dataset, given.data, given.adjacency, given.start)
    from data.freeway import FreewayOptions, simulate_traffic

    days = FreewayOptions().days if given.days is None else given.days
    series = simulate_traffic(FreewayOptions(days=days))
    if given.adjacency is None:
        return series
    weights = read_adjacency(str(given.adjacency), series.sensor_ids)
    return dataclasses.replace(series, adjacency=weights)


def _with_option(options: TrainOptions, error: Exception) -> str:
    """What is wrong with a file, and which option names the file."""
    # By what is said: `data` knows no options, and its errors carry nothing else.
    given, said = options.series, str(error)
    option = "--dataset" if given.data is None else "--data"
    if given.adjacency is not None and str(given.adjacency) in said:
        option = "--adjacency"
    if said.startswith("start must"):
        return f"--{said}"
    return f"{option}: {said}"
