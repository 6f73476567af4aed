"""What a run says: what may surprise beforehand, and how far it is."""

import dataclasses
import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import models.train._printing
from data import TrafficSeries, prepare
from models.train._loop import Progress
from models.train._printing import epoch_line, epoch_report, remarks, time_gaps
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


# --- progress -----------------------------------------------------------------------


def progress(epoch, seconds, stopped=(False, False)):
    """An epoch of two seeds."""
    return Progress(
        epoch=epoch,
        epochs=5,
        loss=np.array([3.0, np.nan if stopped[1] else 4.0]),
        mae=np.array([2.0, 3.0]),
        stopped=np.array(stopped),
        seconds=seconds,
    )


def said_by(terminal, *reports) -> str:
    """What is printed on a terminal, or elsewhere."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=160, highlight=False)
    with epoch_report(console, 5) as report:
        for each in reports:
            report(each)
    return file.getvalue()


def test_elsewhere_than_on_a_terminal_an_epoch_is_a_line():
    reports = [progress(1, 60.0), progress(2, 2.0), progress(3, 4.0, (False, True))]
    lines = said_by(False, *reports).splitlines()
    assert lines[0] == (
        "epoch 1/5: loss 3.500, validation MAE 2.500 (2.000 to 3.000) mph, 60.0 s, "
        "0:04:00 left"
    )
    assert "2.0 s, 0:00:06 left" in lines[1]  # the first one compiled
    assert "loss 3.000" in lines[2]  # of the seed that goes on
    assert lines[2].endswith("4.0 s, 0:00:06 left, 1 seed(s) stopped")
    assert lines[3].startswith("trained for 0:00:0")
    assert len(lines) == 4


def test_on_a_terminal_a_bar_says_how_much_is_left():
    text = said_by(True, progress(1, 60.0), progress(2, 2.0))
    assert "2/5" in text
    assert "0:00:06 left" in text
    assert "epoch 2/5: loss" in text


def test_nothing_is_left_when_all_seeds_have_stopped():
    last = progress(2, 2.0, (True, True))
    assert "0:00:00 left, 2 seed(s) stopped" in said_by(False, last)
    assert said_by(False) == ""


def test_one_seed_has_no_spread():
    alone = Progress(1, 1, np.ones(1), np.ones(1), np.zeros(1, bool), 1.0)
    assert "MAE 1.000 mph" in epoch_line(alone, 0.0)
