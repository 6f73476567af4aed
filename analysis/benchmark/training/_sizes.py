"""What is trained in each part of the benchmark: the model, and random data's shape."""

import dataclasses

import numpy as np
import pandas as pd

from analysis.benchmark.training.options import Part
from data import Prepared, TrafficSeries, prepare
from models.config import ForecasterConfig, TemporalConfig
from models.train.options import PRESETS

SEED = 0
MISSING_SHARE = 0.0775  # METR-LA's
_METR_LA_STEPS, _WEEK_STEPS = 34_272, 2_016
_LARGE_BATCH = 32  # the paper's 128 windows of 207 nodes need some 27 GiB in a step


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A model, and the shape of the data that it is trained on.

    Attributes:
        name: How a table calls it; what is a ``"trial"`` reaches no target.
        config: The model.
        batch: Windows B in a training step.
        series: Time steps S of the series.
    """

    name: str
    config: ForecasterConfig
    batch: int
    series: int


def size_of(part: Part, quick: bool) -> Size:
    """What a part of the benchmark trains.

    Args:
        part: Which part.
        quick: Whether it is a trial.

    Returns:
        The reference's sizes on 29 nodes or (``"large"``) on 207; the small preset for
        seeds and input pipeline.
    """
    if quick:
        config = ForecasterConfig(
            nodes=5, width=8, layers=1, temporal=TemporalConfig(heads=2)
        )
        return Size(name="trial", config=config, batch=4, series=240)
    small = part in ("seeds", "input")
    preset = PRESETS["small" if small else "paper"]
    nodes, steps = (207, _WEEK_STEPS) if part == "large" else (29, _METR_LA_STEPS)
    data = preset.series
    config = preset.model.config(
        nodes=nodes, window=data.window, horizon=data.horizon, time_of_week=False
    )
    return Size(
        name="small preset" if small else "reference",
        config=config,
        batch=preset.fit.batch_size if small else _LARGE_BATCH,
        series=steps,
    )


def random_data(size: Size) -> Prepared:
    """Speeds that are noise, with as many missing as in METR-LA, ready to train on.

    Args:
        size: Their shape.

    Returns:
        The data, on the device.
    """
    random = np.random.default_rng(SEED)
    shape = (size.series, size.config.nodes)
    missing = random.random(shape) < MISSING_SHARE
    speeds = np.where(missing, 0.0, random.uniform(5.0, 70.0, shape))
    series = TrafficSeries(
        values=speeds,
        missing=missing,
        time=pd.date_range("2012-03-01", periods=size.series, freq="5min"),
        sensor_ids=tuple(str(node) for node in range(size.config.nodes)),
        name="random",
    )
    return prepare(series, window=size.config.window, horizon=size.config.horizon)
