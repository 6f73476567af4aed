"""What a run says beforehand of what may surprise whoever reads its numbers."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import models.train._printing
from data import TrafficSeries, prepare
from models.train._printing import remarks, time_gaps
from models.train.options import FitOptions, TrainOptions

STEPS = 200


def prepared(skipped: int = 0):
    """A series whose clock leaves out some steps in the middle."""
    rng = np.random.default_rng(0)
    steps = np.r_[0 : STEPS // 2, STEPS // 2 + skipped : STEPS + skipped]
    values = rng.uniform(20, 70, (STEPS, 2))
    series = TrafficSeries(
        values=values,
        missing=np.zeros_like(values, bool),
        time=pd.Timestamp("2024-01-01") + pd.to_timedelta(5 * steps, "min"),
        sensor_ids=("a", "b"),
        name="walk",
    )
    return prepare(series, window=4, horizon=3)


def options(**fit) -> TrainOptions:
    asked = TrainOptions()
    return dataclasses.replace(asked, fit=FitOptions(**({"epochs": 9} | fit)))


def test_a_usual_run_has_nothing_to_remark():
    assert remarks(options(), prepared()) == []


def test_gaps_are_counted_and_the_longest_is_told():
    ready = prepared(skipped=12)
    assert time_gaps(ready) == (1, pd.Timedelta("65min"))
    (said,) = remarks(options(), ready)
    assert said.startswith("the time axis has 1 gap(s), the longest of 0 days 01:05:00")


@pytest.mark.parametrize(("epochs", "rate"), [(3, "0.46"), (1, "0.1")])
def test_a_warm_up_that_is_not_over_is_told(epochs, rate):
    (said,) = remarks(options(epochs=epochs, warmup=5), prepared())
    assert f"the rate ends at {rate} of --learning-rate" in said
    assert remarks(options(epochs=6, warmup=5), prepared()) == []


def test_more_steps_than_there_are_batches_are_told():
    every = len(prepared().split.train) // 32
    (said,) = remarks(options(steps_per_epoch=every + 1), prepared())
    assert said == (
        f"--steps-per-epoch {every + 1} is more than the {every} batches there are."
    )
    assert remarks(options(steps_per_epoch=every), prepared()) == []


def test_a_ridge_that_is_left_out_is_told(monkeypatch):
    monkeypatch.setattr(models.train._printing, "baselines", lambda _: [])
    (said,) = remarks(options(), prepared())
    assert said.startswith("the ridge is left out of the test: it would take 0.0 GiB")
