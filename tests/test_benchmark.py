"""The benchmark's command, its measuring and judging, and its picture."""

import dataclasses
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.benchmark import _methods
from analysis.benchmark._measure import (
    CompileClock,
    Measurement,
    measure,
    measure_apart,
)
from analysis.benchmark._methods import (
    NARROW,
    Cell,
    LayerSize,
    cells,
    longest_windows,
    planned_bytes,
    prepare,
    unit_of,
)
from analysis.benchmark._results import duration, targets, tidy
from analysis.benchmark.command import BenchmarkOptions, main
from analysis.plots.cost import cost_against_length
from tests.commands import AS_TYPED

BOTH = ("frobenius", "spectral")
COLUMNS = [
    *("method", "layer", "norm", "T", "dtype", "seconds", "compile_seconds"),
    *("peak_mib", "above_start_mib", "planned_mib", "unit_seconds", "forward_passes"),
    *("repeats", "status"),
]


def measured(method, layer, norm, T, seconds, peak=300.0):
    cell = {"method": method, "layer": layer, "norm": norm, "T": T, "dtype": "float32"}
    cost = Measurement(seconds, 0.5, peak, peak - 200, repeats=3)
    return cell | cost._asdict()


def made_up(passes=5.0):
    """Rows that reach every target but the longest, which is not there."""
    rows = []
    for layer in NARROW:
        for T in (128, 1024, 2048, 16384):
            rows.append(measured("forward", layer, "none", T, 1e-8 * T**2))
            for norm in BOTH:
                seconds = passes * 1e-8 * T**2
                rows.append(measured("profile", layer, norm, T, seconds))
                rows.append(measured("path_norms", layer, norm, T, seconds))
                rows.append(measured("jacrev", layer, norm, T, seconds * 600))
                rows.append(measured("autodiff", layer, norm, T, 30.0, 900.0))
    return rows


@pytest.mark.slow
def test_a_quick_run_measures_every_method_and_leaves_four_files(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["--quick", "--out", str(out)]) == 0
    table = pd.read_csv(out / "benchmark.csv", keep_default_na=False)
    assert list(table.columns) == COLUMNS
    methods = {"forward", "path_norms", "profile", "autodiff", "jacrev"}
    assert methods <= set(table["method"])
    assert set(table["T"]) == {8, 16}
    assert set(table["status"]) == {"ok"}
    numbers = table[["seconds", "peak_mib", "forward_passes"]].astype(float)
    assert (numbers > 0).all(axis=None)
    assert (numbers["forward_passes"][table["method"] == "forward"] == 1).all()
    record = json.loads((out / "benchmark.json").read_text())
    assert {"jax", "jaxlib", "flax", "numpy", "torch"} <= set(record["versions"])
    assert (record["arguments"]["quick"], record["arguments"]["out"]) == (True, "run")
    assert record["cores"] >= 1
    assert {t["reached"] for t in record["targets"]} == {"not measured"}
    pictures = {f"cost-against-length.{suffix}" for suffix in ("png", "pdf")}
    files = {"benchmark.csv", "benchmark.json", *pictures}
    assert {path.name for path in out.iterdir()} == files
    printed = capsys.readouterr().out.strip().splitlines()
    assert "not measured" in "".join(printed)
    assert "wrote benchmark.csv, benchmark.json" in printed[-1]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--T"], "--T must name at least one, got none"),
        (["--T", "0"], "--T must be at least 1, got 0"),
        (["--T", "100000"], "--T: no method"),
        (["--layers"], "--layers must name at least one, got none"),
        (["--time-limit", "0"], "--time-limit must be positive"),
        (["--quick", "--long"], "--quick and --long"),
    ],
)
def test_bad_arguments_exit_with_2_and_are_named(arguments, named, capsys, tmp_path):
    assert main([*arguments, "--out", str(tmp_path / "never")]) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "never").exists()


def test_an_out_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert main(["--out", str(tmp_path / "file")]) == 2
    assert "file) must be a folder, but it is a file" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def processes_measuring(folder):
    """Processes that measure a cell on behalf of a command with this ``PATH``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            environment = (process / "environ").read_bytes()
        except OSError:  # gone, or another's
            continue
        if b"analysis.benchmark._measure" in words and folder in environment:
            found.append(process)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="processes are read from /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_the_process_of_a_cell_ends_with_the_command(tmp_path, how):
    mark = f"MARK={tmp_path}"
    command = subprocess.Popen(
        [sys.executable, "-c", AS_TYPED, "analysis.benchmark", "--T", "1024"]
        + ["--methods", "autodiff", "--norms", "frobenius", "--layers", "one head"]
        + ["--out", str(tmp_path)],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"MARK": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while not (begun := processes_measuring(mark.encode())):
        assert time.monotonic() < end
        time.sleep(0.1)
    command.send_signal(how)
    _, said = command.communicate(timeout=60)
    if how == signal.SIGINT:
        assert command.returncode == 130
        words = f"error: interrupted; what was measured stays in {tmp_path}.\n"
        assert said == words
    end = time.monotonic() + 10
    while any(process.exists() for process in begun):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_every_method_stops_at_its_longest_window():
    chosen = BenchmarkOptions(long=True).cells()
    assert len(chosen) == len(set(chosen))
    for row in longest_windows():
        for layer in NARROW:
            lengths = [
                cell.T
                for cell in chosen
                if (cell.method, cell.norm) == (row["method"], row["norm"])
                and cell.layer == layer
            ]
            assert max(lengths) <= row[layer]
    assert [cell.T for cell in chosen if cell.T > 16384] == [65536]
    assert BenchmarkOptions().cells()[-1].T == 16384


def test_the_forward_pass_comes_along_unasked():
    chosen = cells((8,), ("profile",), ("one head",), ("spectral",), "float32")
    assert [cell.method for cell in chosen] == ["forward", "profile"]


def test_at_the_size_of_bert_only_listed_rows_are_measured_one_in_both_precisions():
    chosen = BenchmarkOptions(layers=("bert",)).cells()
    rows = [(c.method, c.norm, c.T, c.dtype) for c in chosen if c.method != "forward"]
    assert ("profile", "frobenius", 128, "float64") in rows
    assert ("check_bounds", "frobenius", 128, "float32") in rows
    assert len(rows) == len(set(rows)) == 7
    assert not any(cell.layer == "bert" for cell in BenchmarkOptions().cells())
    one = BenchmarkOptions(layers=("bert",), methods=("path_norms",), T=(32,)).cells()
    assert [(c.method, c.norm) for c in one] == [
        ("forward", "none"),
        ("path_norms", "spectral"),
    ]


def test_verdicts_on_a_whole_model_are_made_at_both_levels(monkeypatch):
    monkeypatch.setitem(_methods.SIZES, "bert", LayerSize(8, 2))
    monkeypatch.setattr(_methods, "MODEL_LAYERS", 2)
    monkeypatch.setattr(_methods, "SEQUENCES", 3)
    cell = Cell(method="check_bounds", layer="bert", norm="frobenius", T=4)
    heads, layer, *others = prepare(cell)()
    assert len(others) == 2
    eq5 = [table.set_index("statement").loc["eq5", "rows"] for table in (heads, layer)]
    assert eq5 == [3 * 2 * 4, 3 * 4]
    assert planned_bytes(cell) > 0


def test_the_unit_of_a_cell_is_a_forward_pass_where_one_is_measured():
    cell = Cell(method="profile", layer="bert", norm="frobenius", T=128)
    assert unit_of(cell) == Cell(method="forward", layer="bert", norm="none", T=128)
    forward = Cell(method="forward", layer="one head", norm="none", T=8)
    long = Cell(method="profile", layer="eight heads", norm="frobenius", T=16384)
    torch = dataclasses.replace(forward, method="torch", norm="frobenius")
    assert [unit_of(cell) for cell in (forward, long, torch)] == [None] * 3
    assert math.isnan(planned_bytes(forward))


def test_passes_are_told_in_the_forward_pass_of_the_same_process_where_there_is_one():
    forward = measured("forward", "one head", "none", 8, 1.0)
    apart, beside = (measured("profile", "one head", "spectral", 8, 6.0) for _ in "ab")
    table = tidy([forward, apart, beside | {"unit_seconds": 2.0}])
    assert table["forward_passes"].tolist() == [1, 6, 3]


def test_what_is_not_done_in_time_or_fails_is_recorded_with_its_reason():
    cell = Cell(method="forward", layer="one head", norm="none", T=8)
    cost = measure_apart(cell, 0.01)
    assert cost.status == "not done after 0.01 s"
    assert math.isnan(cost.seconds)
    unknown = dataclasses.replace(cell, method="magic")
    assert "method must be one of" in measure_apart(unknown, 100).status


def test_compiling_counts_nested_and_repeated_events_once(monkeypatch):
    clock = CompileClock()
    for now, lasted in ((2.0, 1.0), (3.0, 2.5), (10.0, 1.0)):
        monkeypatch.setattr(time, "perf_counter", lambda now=now: now)
        clock.record("/jax/core/compile/some", lasted)
        clock.record("/jax/other", 100.0)
    assert clock.seconds() == 3.5


def test_a_fast_call_is_repeated_and_a_slow_one_is_not(monkeypatch):
    clock = {"now": 0.0, "calls": 0}
    monkeypatch.setattr(time, "perf_counter", lambda: clock["now"])

    def call(seconds):
        clock["now"] += seconds
        clock["calls"] += 1

    assert measure(lambda: call(30.0), lambda: 0.0).repeats == 1
    assert clock["calls"] == 1
    fast = measure(lambda: call(0.125), lambda: 0.0)
    assert (fast.repeats, fast.seconds) == (4, 0.125)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "norm"), [("eight heads", "frobenius"), ("one head", "spectral")]
)
def test_all_methods_measure_the_same_norms(layer, norm):
    def norms(method):
        cell = Cell(method=method, layer=layer, norm=norm, T=5, dtype="float64")
        return prepare(cell)()

    expected = norms("path_norms")
    query, key, value, total = np.asarray(norms("jacrev"))
    for name, table in zip(expected._fields, (value, key, query, total), strict=True):
        np.testing.assert_allclose(
            table, getattr(expected, name), rtol=1e-9, atol=1e-13
        )
    pytest.importorskip("torch")
    others = norms("torch").numpy()
    np.testing.assert_allclose(others, norms("jacrev"), rtol=1e-9, atol=1e-13)


def test_a_time_is_said_as_one_reads_it():
    assert [duration(t) for t in (0.0123, 2)] == ["12.3 ms", "2.00 s"]


def test_targets_are_judged_and_those_not_measured_say_so():
    judged = targets(tidy(made_up()))
    absent = [row for row in judged if "65536" in row.target or "bert" in row.target]
    assert {row.reached for row in absent} == {"not measured"}
    assert {row.reached for row in judged if row not in absent} == {"yes"}
    slow = targets(tidy(made_up(passes=50.0)))
    missed = [row.target for row in slow if row.reached == "no"]
    assert missed == [f"profile, eight heads, T=2048, {norm}" for norm in BOTH]
    exponent = next(row for row in judged if "exponent" in row.target)
    assert exponent.measured == pytest.approx(2)
    double = tidy(made_up()).assign(dtype="float64")
    assert {row.reached for row in targets(double)} == {"not measured"}
    killed = tidy(made_up())
    killed.loc[killed["method"] == "jacrev", "seconds"] = math.nan
    assert [row.reached for row in targets(killed)[:2]] == ["not measured"] * 2


def test_the_picture_has_a_panel_per_layer_and_norm_and_a_line_per_method():
    table = tidy(made_up())
    figure = cost_against_length(table)
    assert len(figure.axes) == 4
    titles = [ax.get_title() for ax in figure.axes]
    assert "Frobenius" in titles[0]
    assert "spectral" in titles[-1]
    for ax in figure.axes:
        assert ax.get_xscale() == ax.get_yscale() == "log"
        drawn = [line for line in ax.lines if np.size(line.get_xdata())]
        assert len(drawn) == 6  # five methods and the slope
    assert figure.axes[0].get_ylabel() == "time of one call (s)"
    assert figure.axes[-1].get_xlabel() == "window length T (time steps)"
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(words) == 5
    assert "one forward pass" in words
    assert "float32" in figure.get_suptitle()


def test_the_picture_leaves_out_what_was_not_measured():
    figure = cost_against_length(
        tidy([measured("forward", "one head", "none", 8, 1e-4)])
    )
    (words,) = figure.legends[0].get_texts()
    assert (len(figure.axes), words.get_text()) == (1, "one forward pass")


def test_a_legend_of_one_panel_is_not_cut():
    rows = [row for row in made_up() if row["layer"] == "one head"]
    figure = cost_against_length(tidy(rows))
    figure.savefig(io.BytesIO(), format="png")
    extent = figure.legends[0].get_window_extent()
    assert 0 <= extent.x0 < extent.x1 <= figure.bbox.x1
