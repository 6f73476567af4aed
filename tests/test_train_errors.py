"""What the command refuses of data: in a sentence that names the option."""

import numpy as np
import pytest

from models.train._setup import load_series
from tests import train_runs
from tests.data_files import IDS, write, write_graph
from tests.data_files import frame as readings
from tests.helpers import refusal
from tests.train_runs import options, train, walk, write_values

pytestmark = pytest.mark.slow  # seconds of compiling each

command_line = train_runs.command_line


def changed(**what):
    """Readings of a walk, some of them set."""
    values = walk().values.copy()
    for rows, column, value in what.values():
        values[rows, column] = value
    return values


ALL = slice(None)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (walk().values[:8], "need a series of 12 steps for a window in each part"),
        (
            changed(silent=(ALL, 1, 0.0)),
            "each sensor needs an observed reading, but 'b' is missing at all",
        ),
        (
            changed(silent=(slice(0, 150), 1, 0.0)),
            "training part of 'city': each sensor needs an observed reading, but 'b'",
        ),
        (np.full((200, 3), 60.0), "must vary to be standardised, but"),
        (changed(endless=(3, 2, np.inf)), "values must be finite, got inf at step 3"),
        (changed(huge=(3, 2, 1e39)), "speeds must fit into float32, got 1e+39 mph"),
        (changed(backwards=(3, 2, -4.0)), "speeds must not be negative, got -4.0"),
        (
            changed(end=(slice(150, 200), ALL, np.nan)),
            "the test part needs an observed reading, but all are missing from step",
        ),
        (
            changed(middle=(slice(135, 170), ALL, 0.0)),
            "the validation part needs an observed reading, but all are missing from",
        ),
    ],
)
def test_data_that_cannot_be_trained_on_are_refused_by_name(
    tmp_path, capsys, values, said
):
    file = write_values(tmp_path / "city.csv", values)
    answer = refusal(capsys, train, tmp_path / "out", "--dataset", file)
    assert answer.startswith(f"error: --dataset {file}: ") or answer.startswith(
        f"error: --dataset: {file}"
    )
    assert said in answer
    assert not (tmp_path / "out").exists()


def test_a_sensor_that_never_varies_is_refused_where_each_is_scaled(tmp_path, capsys):
    file = write_values(tmp_path / "city.csv", changed(flat=(ALL, 1, 60.0)))
    asked = ("--dataset", file, "--scale", "sensor")
    said = refusal(capsys, train, tmp_path / "out", *asked)
    assert "each sensor must vary to be standardised, but 'b' always reads 60.0" in said


def test_a_missing_reading_may_be_nan_in_the_file(tmp_path):
    values = walk().values
    values[values == 0] = np.nan
    file = write_values(tmp_path / "city.csv", values)
    asked = ("--dataset", file, "--epochs", 0, "--seeds", 2)
    assert train(tmp_path / "out", *asked) == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [("city.npz", b"PK\x03\x04 half"), ("city.csv", b"a,b\n1,fast\n")],
)
def test_a_file_that_is_damaged_is_refused(tmp_path, capsys, name, content):
    (tmp_path / name).write_bytes(content)
    asked = ("--dataset", tmp_path / name)
    said = refusal(capsys, train, tmp_path / "out", *asked)
    assert f"--dataset: {tmp_path / name}" in said


def test_a_file_or_a_folder_that_is_not_there_is_refused(tmp_path, capsys):
    gone = tmp_path / "gone.csv"
    said = refusal(capsys, train, tmp_path / "out", "--dataset", gone)
    assert f"--dataset: {gone}" in said
    asked = ("--dataset", "metr-la", "--data", tmp_path / "nowhere")
    said = refusal(capsys, train, tmp_path / "out", *asked)
    assert f"--data: {tmp_path / 'nowhere'} does not exist" in said


def test_a_road_graph_is_needed_where_it_is_asked_for(tmp_path, capsys):
    said = refusal(capsys, train, tmp_path / "out", "--graph", "road")
    assert "--graph road needs a road graph, and walk brings none" in said


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (np.ones((2, 2)), "2"),
        (np.ones((3, 2)), "(3, 2)"),
        (-np.ones((3, 3)), "not negative"),
        (np.full((3, 3), np.nan), "finite"),
        (None, "does not exist"),
    ],
)
def test_a_road_graph_that_does_not_fit_is_refused(tmp_path, capsys, weights, said):
    file = tmp_path / "roads.npy"
    if weights is not None:
        np.save(file, weights)
    asked = ("--graph", "road", "--adjacency", file)
    answer = refusal(capsys, train, tmp_path / "out", *asked)
    assert f"--adjacency: {file}" in answer
    assert said in answer
    assert not (tmp_path / "out").exists()


def test_the_simulator_s_road_graph_can_be_replaced(tmp_path, capsys):
    file = tmp_path / "roads.npy"
    np.save(file, np.ones((3, 3)))
    simulated = ("--dataset", "payne-whitham", "--days", 2, "--graph", "road")
    asked = (*simulated, "--adjacency", file)
    answer = refusal(capsys, train, tmp_path / "out", *asked)
    assert f"--adjacency: {file}: adjacency must be of shape (18, 18)" in answer
    np.save(file, weights := np.ones((18, 18)))
    series = load_series(options(*asked))
    assert series.adjacency is not None
    assert (series.adjacency == weights).all()
    assert (load_series(options(*simulated)).adjacency != weights).any()


def test_a_road_graph_of_other_sensors_is_refused(tmp_path, capsys):
    write(tmp_path, readings(steps=200))
    write_graph(tmp_path, ids=["1", *IDS[1:]])
    asked = ("--dataset", "metr-la", "--data", tmp_path)
    said = refusal(capsys, train, tmp_path / "out", *asked)
    assert f"--data: {tmp_path / 'adj_mx.pkl'}" in said
    assert repr(IDS[0]) in said


def test_a_batch_must_fit_the_windows_and_the_devices(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")  # which the command sets for others to come
    out = tmp_path / "out"
    said = refusal(capsys, train, out, "--batch-size", 137)
    assert "--batch-size (137) must not exceed the 136 training windows" in said
    said = refusal(capsys, train, out, "--devices", 3)
    assert "--devices must lie in [1, 1], got 3" in said
    assert not out.exists()


def test_other_readings_under_the_same_name_are_noticed(tmp_path, capsys):
    file = write_values(tmp_path / "city.npz", walk().values)
    out, asked = tmp_path / "out", ("--dataset", file, "--epochs", 0, "--seeds", 2)
    assert train(out, *asked) == 0
    write_values(file, walk(seed=1).values)
    said = refusal(capsys, train, out, *asked, "--resume")
    assert "(the data or the weights are others)" in said
