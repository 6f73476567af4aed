"""A call that takes long says that it goes on; a short one says nothing."""

import logging
import time

import numpy as np
import pytest

from models.runs.console import open_console, still_at
from sensitivity import _waiting, path_norms
from sensitivity._waiting import told_when_long
from tests.helpers import FOLDED, make_layer


@pytest.fixture
def soon(monkeypatch):
    """Seconds become hundredths."""
    monkeypatch.setattr(_waiting, "FIRST", 0.01)
    monkeypatch.setattr(_waiting, "EVERY", 0.02)


@pytest.mark.usefixtures("soon")
def test_a_long_call_says_what_it_is_and_for_how_long(caplog):
    with told_when_long("spectral norms"):
        time.sleep(0.2)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) > 1
    assert set(lines) == {"spectral norms: 0 s so far"}
    assert {(one.name, one.levelno) for one in caplog.records} == {
        ("sensitivity", logging.WARNING)
    }


@pytest.mark.usefixtures("soon")
def test_a_command_that_says_it_itself_does_not_say_it_twice(caplog):
    with still_at(open_console(), "T=8", every=60), told_when_long("norms"):
        time.sleep(0.1)
    assert caplog.records == []


def test_norms_tell_their_kind_and_size(monkeypatch):
    said = []

    def tells(words):
        said.append(words)
        return told_when_long(words)

    monkeypatch.setattr("sensitivity._inputs.told_when_long", tells)
    x, w = make_layer(0, FOLDED)
    path_norms(np.float32(x), w, norm="frobenius", residual=False)
    assert said == [
        "frobenius norms of the layer by closed_form of x (6, 6), 3 head(s), float64"
    ]


def test_waiting_costs_a_short_call_less_than_a_millisecond():
    def once() -> float:
        start = time.perf_counter()
        with told_when_long("nothing"):
            pass
        return time.perf_counter() - start

    assert min(once() for _ in range(200)) < 1e-3
