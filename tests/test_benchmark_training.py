"""The benchmark of training: its command, what it times and how it judges."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from analysis.benchmark.training import _cases, command
from analysis.benchmark.training._cases import CURES_MEASURED, MEANINGS, devices_for
from analysis.benchmark.training._epochs import Batches, Epochs, random_data, size_of
from analysis.benchmark.training._results import COLUMNS, targets, tidy
from analysis.benchmark.training._timing import (
    Event,
    in_turns,
    matmul_share,
    operations,
    own_times,
)
from data import gather
from tests.helpers import compiles_fast

STEPS = {  # seconds of a step, made up so that every target is reached
    ("step", "ours"): 0.6,
    ("step", "ours, a device per core"): 0.5,
    ("step", "PyTorch"): 1.0,
    ("seeds", "1 seed"): 0.1,
    ("seeds", "4 seeds, default"): 0.4,
    ("seeds", "4 seeds in turn"): 0.4,
    ("seeds", "4 seeds side by side"): 0.9,
    ("input", "whole epoch"): 0.1,
    ("input", "its batches only"): 0.001,
    ("cures", "no cure"): 0.1,
    **{("cures", method): 0.11 for method in CURES_MEASURED},
}


def made_up(size="reference", changed=None):
    """Rows as a run writes them; other seconds of a step by method."""
    rows = []
    for (part, method), seconds in STEPS.items():
        seconds = (changed or {}).get(method, seconds)
        row = dict.fromkeys(COLUMNS, 1) | {"part": part, "method": method}
        row |= {"size": size, "seconds_per_step": seconds, "seconds": 7 * seconds}
        rows.append(row)
    return tidy(rows)


def reached(table, accelerator=False):
    return [target.reached for target in targets(table, accelerator=accelerator)]


@pytest.mark.slow
@compiles_fast()
def test_a_quick_run_without_pytorch_says_so_and_writes_the_rest(
    tmp_path, capsys, monkeypatch
):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "torch" else find(name),
    )
    monkeypatch.setattr(os, "getloadavg", lambda: (3.5, 0, 0), raising=False)
    arguments = ["--quick", "--parts", "step", "--rounds", "2", "--steps", "3"]
    assert command.main([*arguments, "--out", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "training.csv",
        "training.json",
    }
    table = pd.read_csv(tmp_path / "training.csv")
    assert list(table.columns) == list(COLUMNS)
    (row,) = table.to_dict("records")
    assert row["method"] == "ours"
    assert row["seconds"] == pytest.approx(3 * row["seconds_per_step"])
    assert 0 < row["seconds"] <= row["slowest_seconds"]
    assert (row["rounds"], row["steps"], row["steps_per_epoch"]) == (2, 3, 38)
    assert 0 < row["matmul_share"] < 1
    assert min(row["compile_seconds"], row["planned_mib"]) > 0
    record = json.loads((tmp_path / "training.json").read_text())
    assert {"jax", "jaxlib", "flax", "numpy", "torch"} <= set(record["versions"])
    assert record["arguments"]["steps"] == 3
    assert (record["matmul_precision"], record["torch_threads"]) == ("default", None)
    assert record["load_average_before"] == 3.5
    assert "torch is not installed" in record["left_out"][-1]
    assert {t["reached"] for t in record["targets"]} == {"not measured"}
    printed = capsys.readouterr().out
    assert "torch is not installed: 'PyTorch' is left out" in printed
    assert "load average 3.5: others slow down" in printed
    assert "wrote training.csv and training.json" in printed.splitlines()[-1]


@pytest.mark.slow
def test_a_quick_run_of_its_own_has_a_device_per_core_and_measures_every_part(tmp_path):
    environment = {n: v for n, v in os.environ.items() if n != "XLA_FLAGS"}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # compiles in half the time
    done = subprocess.run(
        [sys.executable, "-m", "analysis.benchmark.training", "--quick"]
        + ["--rounds", "1", "--steps", "2", "--out", str(tmp_path)],
        cwd=Path(__file__).parents[1],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "training.csv")
    assert set(table["part"]) == {"step", "seeds", "input", "cures", "large"}
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["devices"] == record["cores"]
    expected = set(MEANINGS)
    if record["versions"]["torch"] is None:
        expected -= {"PyTorch"}
    if devices_for(4, record["cores"]) == 1:
        expected -= {"ours, a device per core"}
    assert set(table["method"]) == expected
    assert (table["seconds"] > 0).all()
    whole = table[table["part"] == "input"]
    assert (whole["steps"] == whole["steps_per_epoch"]).all()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--parts"], "--parts must name at least one, got none"),
        (["--rounds", "0"], "--rounds must be at least 1, got 0"),
        (["--steps", "-1"], "--steps must be at least 1, got -1"),
    ],
)
def test_bad_arguments_exit_with_2_and_are_named(arguments, named, capsys, tmp_path):
    assert command.main([*arguments, "--out", str(tmp_path / "never")]) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 27 GiB\nat ..."), 0, ""),
        (KeyboardInterrupt(), 130, "interrupted; what was measured stays in"),
        (OSError(28, "No space left on device"), 1, "error: No space left on device ("),
    ],
)
def test_parts_that_are_done_stay_whatever_ends_the_next(
    tmp_path, monkeypatch, capsys, error, status, said
):
    def measure(part, **_):
        if part == "large":
            raise error
        return made_up().to_dict("records")

    monkeypatch.setattr(_cases, "measure_part", measure)
    arguments = ["--parts", "step", "large", "--out", str(tmp_path)]
    assert command.main(arguments) == status
    assert said in capsys.readouterr().err
    assert len(pd.read_csv(tmp_path / "training.csv")) == len(STEPS)
    left_out = json.loads((tmp_path / "training.json").read_text())["left_out"]
    what = ["large is left out: RESOURCE_EXHAUSTED: 27 GiB"]
    assert left_out == (what if status == 0 else [])


def test_a_cpu_shows_a_device_per_core_unless_the_user_or_jax_has_decided(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=x")
    command.device_per_core()  # jax is loaded: too late
    assert os.environ["XLA_FLAGS"] == "--xla_dump_to=x"
    monkeypatch.delitem(sys.modules, "jax")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    command.device_per_core()
    chosen = "--xla_dump_to=x --xla_force_host_platform_device_count=3"
    assert os.environ["XLA_FLAGS"] == chosen
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    command.device_per_core()
    assert os.environ["XLA_FLAGS"] == chosen


def test_sizes_are_those_of_the_issue():
    step, large = size_of("step", quick=False), size_of("large", quick=False)
    for size in (step, large):
        config = size.config
        assert (config.layers, config.width, config.temporal.heads) == (12, 72, 8)
        assert (config.window, config.horizon, config.dropout) == (12, 12, 0.1)
        assert size.batch == 32
    assert (step.config.nodes, step.series) == (29, 34272)
    assert (large.config.nodes, large.series) == (207, 2016)
    assert size_of("seeds", quick=False) == size_of("input", quick=False)


def test_methods_take_turns_after_one_call_to_warm_up(monkeypatch):
    clock, order = {"now": 0.0}, []
    monkeypatch.setattr("time.perf_counter", lambda: clock["now"])

    def call(name, seconds):
        order.append(name)
        clock["now"] += seconds * len(order)  # slower and slower

    calls = {"a": lambda: call("a", 1.0), "b": lambda: call("b", 2.0)}
    assert in_turns(calls, 2) == {"a": [3.0, 5.0], "b": [8.0, 12.0]}
    assert order == ["a", "b"] * 3


def test_targets_are_ratios_of_the_methods_they_name():
    judged = targets(made_up(), accelerator=False)
    assert [target.measured for target in judged] == pytest.approx(
        [0.6, 0.5, 4, 1, 1.1, 1.1]
    )
    assert {target.reached for target in judged} == {"yes"}
    assert reached(made_up(changed={"ours": 0.71})) == ["no", *["yes"] * 5]
    assert reached(made_up(changed={"regularizer query": 0.17}))[4:] == ["no", "yes"]
    assert reached(made_up(changed={"head_norm rms": 0.13}))[4:] == ["yes", "no"]
    assert reached(made_up(changed={"4 seeds, default": 0.46}))[2] == "no"
    assert reached(made_up(changed={"its batches only": 0.005}))[3] == "no"
    # On an accelerator seeds side by side must be cheaper.
    assert reached(made_up(), accelerator=True)[2] == "no"
    fast = made_up(changed={"4 seeds, default": 0.24})
    assert reached(fast, accelerator=True)[2] == "yes"


def test_what_was_not_measured_or_is_a_trial_reaches_nothing():
    assert set(reached(made_up("trial"))) == {"not measured"}
    assert set(reached(tidy([]))) == {"not measured"}
    table = made_up()
    without = table[table["method"] != "PyTorch"]
    assert reached(without) == [*["not measured"] * 2, *["yes"] * 4]


@pytest.mark.slow
@compiles_fast()
def test_an_epoch_goes_on_from_the_last_and_its_program_is_known():
    size = size_of("step", quick=True)
    epochs = Epochs(random_data(size), size, steps=2, seeds=2)
    losses = []
    for _ in range(2):
        epochs()
        losses.append(np.asarray(epochs.losses))
    assert losses[0].shape == (2, 2)
    assert np.isfinite(losses).all()
    assert (losses[0] != losses[1]).all()
    assert set(operations(epochs.program()).values()) == {True, False}


def test_the_input_pipeline_alone_cuts_every_batch_of_an_epoch():
    size = size_of("input", quick=True)
    prepared = random_data(size)
    batches = Batches(prepared, size)
    batches()
    shuffled = jax.random.permutation(jax.random.key(0), prepared.split.train)
    starts = np.asarray(shuffled)[: batches.steps * size.batch]
    everything = gather(prepared.arrays, starts, 12, 12)
    expected = sum(
        np.asarray(part, np.float64).sum() for part in jax.tree.leaves(everything)
    )
    assert float(batches.total) == pytest.approx(expected, rel=1e-4)


def test_devices_divide_the_batch():
    assert [devices_for(32, cores) for cores in (1, 2, 3, 12, 64)] == [1, 2, 2, 8, 32]


# --- the share of matrix products ---------------------------------------------------


def test_the_share_of_products_is_high_where_there_is_little_else_and_0_without():
    x = jnp.ones((400, 400))

    def share(function):
        compiled = jax.jit(function).lower(x).compile()
        text = compiled.as_text() or ""
        return matmul_share(lambda: jax.block_until_ready(compiled(x)), text)

    assert share(lambda x: jnp.tanh(x @ x @ x) @ x) > 0.5
    assert share(lambda x: jnp.sort(jnp.tanh(x), axis=0)) == 0


def test_a_trace_without_the_program_is_an_error():
    with pytest.raises(ValueError, match="the trace has none of it"):
        matmul_share(lambda: None, "")


def test_products_are_dots_library_calls_and_fusions_that_hold_one():
    found = operations("""
%fused_one (p: f32[2]) -> f32[] {
  ROOT %d = f32[] dot(%p, %p), lhs_contracting_dims={1}
}
fused_two (p: f32[2]) -> f32[2] {
  a = f32[2] add(p, p)
}
ENTRY main (x: f32[2]) -> (f32[], f32[2]) {
  f.1 = f32[] fusion(x), kind=kLoop, calls=%fused_one
  f.2 = f32[2] fusion(x), kind=kLoop, calls=fused_two
  gemm.1 = (f32[2], s8[4]) custom-call(a), custom_call_target="__cublas$gemm"
  topk.2 = f32[2] custom-call(a), custom_call_target="TopK"
  ROOT %t.3 = (f32[], f32[2]) tuple(f.1, f.2)
}""")
    products = {name for name, product in found.items() if product}
    assert products == {"d", "f.1", "gemm.1"}
    assert found.keys() - products == {"a", "f.2", "topk.2", "t.3"}


def test_time_inside_a_nested_operation_counts_once_and_threads_do_not_mix():
    loop = [Event("loop", 0, 100), Event("dot", 10, 40), Event("inner", 50, 90)]
    nested = [*loop, Event("dot", 60, 70)]
    assert own_times(reversed(nested)) == {"loop": 30, "dot": 40, "inner": 30}
    assert sum(own_times(nested).values()) == 100
    apart = [Event("dot", 0, 5), Event("dot", 5, 9)]
    assert own_times(apart) == {"dot": 9}
