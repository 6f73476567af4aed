"""From the options of a run to its data and its model."""

import dataclasses
from typing import NamedTuple

from data import Prepared, TrafficSeries, prepare, read_adjacency
from models.runs.flags import in_flags
from models.train.options import TrainOptions
from models.training import Recipe, Trainer


class Setup(NamedTuple):
    """What a run is about.

    Attributes:
        series: Its series, with the adjacency it is to use.
        prepared: The windows.
        trainer: The model.
    """

    series: TrafficSeries
    prepared: Prepared
    trainer: Trainer


def set_up(options: TrainOptions) -> Setup:
    """Load or simulate the series, cut windows, build the model.

    Args:
        options: The run.

    Returns:
        What it is about.

    Raises:
        ValueError: If the data cannot be read or do not fit, naming the option.
    """
    series, given = load_series(options), options.series
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
    try:
        return Setup(series, prepared, _trainer(options, series, prepared))
    except ValueError as error:  # its arguments have the options' names
        raise ValueError(in_flags(str(error))) from error


def _check_parts(options: TrainOptions, prepared: Prepared) -> None:
    """Refuse parts that cannot be trained on, or in which nothing can be judged."""
    windows, size = len(prepared.split.train), options.fit.batch_size
    if options.fit.epochs > 0 and windows < size:
        raise ValueError(
            f"--batch-size ({size}) must not exceed the {windows} training windows."
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


def _trainer(
    options: TrainOptions, series: TrafficSeries, prepared: Prepared
) -> Trainer:
    given, fitting = options.series, options.fit
    return Trainer(
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


def load_series(options: TrainOptions) -> TrafficSeries:
    """Load or simulate the series of a run.

    Args:
        options: The run.

    Returns:
        The series, with the adjacency it is to use.

    Raises:
        ValueError: If the data cannot be read or do not fit, naming the option.
    """
    given = options.series
    if given.dataset == "payne-whitham":
        from data.freeway import FreewayOptions, simulate_traffic

        days = FreewayOptions().days if given.days is None else given.days
        series = simulate_traffic(FreewayOptions(days=days))
        if given.adjacency is not None:
            series = _with_road_graph(series, options)
    else:
        from data.files import load_dataset

        try:
            series = load_dataset(
                given.dataset, given.data, given.adjacency, given.start
            )
        except (ValueError, OSError) as error:
            raise ValueError(_named(options, error)) from error
    if options.model.graph == "road" and series.adjacency is None:
        raise ValueError(
            f"--graph road needs a road graph, and {series.name} brings none; name one "
            "with --adjacency."
        )
    return series


def _with_road_graph(series: TrafficSeries, options: TrainOptions) -> TrafficSeries:
    """The series with the road graph of ``--adjacency``."""
    try:
        weights = read_adjacency(str(options.series.adjacency), series.sensor_ids)
    except (ValueError, OSError) as error:
        raise ValueError(_named(options, error)) from error
    return dataclasses.replace(series, adjacency=weights)


def _named(options: TrainOptions, error: Exception) -> str:
    """What is wrong with a file, and which option names the file."""
    given, said = options.series, str(error)
    option = "--dataset" if given.data is None else "--data"
    if given.adjacency is not None and str(given.adjacency) in said:
        option = "--adjacency"
    if said.startswith("start must"):
        return f"--{said}"
    return f"{option}: {said}"
