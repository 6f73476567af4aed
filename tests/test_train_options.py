"""Options of a run: presets, what makes two runs the same, and what is refused."""

import dataclasses
import os
import subprocess
import sys
import time
from typing import get_args

import pytest

import data.dataset
import data.splits
from models.runs.flags import flag
from models.train import command
from models.train import options as choices
from models.train.options import PRESETS, TrainOptions
from tests.helpers import refusal
from tests.train_runs import ROOT, options, parsed, train

# --- presets ------------------------------------------------------------------------


def test_the_paper_s_preset_is_the_paper_s_text():
    asked = parsed("--preset", "paper")
    model, fit = asked.model, asked.fit
    assert (model.width, model.heads, model.layers) == (72, 8, 12)
    assert (fit.batch_size, fit.learning_rate, fit.epochs, fit.warmup) == (
        *(128, 0.001, 150),
        5,
    )
    assert parsed("--preset", "paper", "--regularizer", "penalty").model.penalty == -0.1
    dropped = parsed("--preset", "paper", "--regularizer", "dropout").model
    assert dropped.diagonal_dropout == 0.2


def test_options_beat_the_preset_in_whatever_order():
    words = ["--width", "40", "--epochs", "3"]
    first = parsed("--preset", "paper", *words)
    assert (
        first == parsed(*words, "--preset", "paper") == parsed(*words, "--preset=paper")
    )
    assert (first.model.width, first.fit.epochs, first.model.layers) == (40, 3, 12)
    assert parsed() == parsed("--preset", "small") == PRESETS["small"]


def test_a_convolution_has_no_heads_in_any_preset():
    for preset in ("small", "paper"):
        model = parsed("--preset", preset, "--model", "convolution").model
        assert (model.heads, model.taps) == (None, 2)


# --- what makes two runs the same ---------------------------------------------------

OTHER = {
    **{"dataset": "city.csv", "window": 6, "horizon": 6},
    **{"split": "time", "scale": "global", "fill": "zero"},
    **{"time_of_week": True, "days": 3},
    **{"model": "convolution", "regularizer": "mask", "residual": False},
    **{"attention": "softmax-1", "head_norm": "rms"},
    **{"graph": "diagonal", "stack": "time-then-space", "layers": 3, "width": 16},
    **{"heads": 2, "position": "none", "dropout": 0.25, "precision": "bfloat16"},
    **{"epochs": 4, "steps_per_epoch": 9, "batch_size": 8, "learning_rate": 0.1},
    **{"warmup": 0, "weight_decay": 0.0, "patience": 3, "seeds": 3, "first_seed": 1},
}
WITH = {
    **{"penalty": -0.3, "diagonal_dropout": 0.4, "taps": 3, "start": "2024-02-02"},
    **{"query_weight": 3.0, "spectrum_weight": 0.1, "trace_weight": 0.1},
    **{
        "spectrum_size": "norm",
        "trace_target": 0.0,
        "mask_weight": 0.1,
        "structure_weight": 0.1,
    },
}
NEEDS = {
    "penalty": ("--regularizer", "penalty"),
    "diagonal_dropout": ("--regularizer", "dropout"),
    "query_weight": ("--regularizer", "query"),
    "spectrum_weight": ("--regularizer", "spectrum"),
    "spectrum_size": ("--regularizer", "spectrum"),
    "trace_weight": ("--regularizer", "spectrum"),
    "trace_target": ("--regularizer", "spectrum"),
    "mask_weight": ("--regularizer", "learned-mask"),
    "structure_weight": ("--graph", "conjoint"),
    "taps": ("--model", "convolution"),
    "start": ("--dataset", "city.csv"),
}
NO_MATTER = {
    "keep_epochs": 1,
    **{"preset": None, "data": None, "adjacency": None, "seeds_at_once": 2},
    **{"devices": 2, "out": "x", "resume": True, "overwrite": True},
    **{"predictions": True},
}


def words_of(name, value):
    """An option as it is typed."""
    typed = flag(name)
    if value is False:
        return [f"--no-{typed[2:]}"]
    return [typed] if value is True else [typed, value]


def test_every_option_counts_or_is_known_not_to():
    asked = TrainOptions()
    fields = {
        field.name
        for part in (asked, asked.series, asked.model, asked.fit)
        for field in dataclasses.fields(part)
    } - {"series", "fit"}
    same = parsed().identity()
    others = OTHER
    assert fields == others.keys() | WITH.keys() | NO_MATTER.keys()
    for name, value in others.items():
        assert parsed(*words_of(name, value)).identity() != same, name
    for name, value in WITH.items():
        like = parsed(*NEEDS[name]).identity()
        assert parsed(*NEEDS[name], *words_of(name, value)).identity() != like, name
    for name, value in NO_MATTER.items():
        if value is not None:
            assert parsed(*words_of(name, value)).identity() == same, name
    assert options("--preset", "paper", "--heads", "2").identity().keys() == same.keys()


def test_the_choices_are_those_of_the_data():
    assert get_args(choices.Convention) == get_args(data.splits.Convention)
    assert get_args(choices.Scale) == get_args(data.dataset.Scale)
    assert get_args(choices.Fill) == get_args(data.dataset.Fill)


# --- the command line ---------------------------------------------------------------


def test_help_is_quick_and_loads_no_jax():
    code = (
        "import sys; from models.train import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit('jax' in sys.modules or 'pandas' in sys.modules)"
    )
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True
    )
    assert time.perf_counter() - start < 3
    said = b" ".join(done.stdout.replace("│".encode(), b" ").split()).decode()
    for field in (*OTHER, *WITH, *NO_MATTER):
        assert f"{flag(field)}" in said.replace(",", " "), field
    assert "learning rate 0.0002, penalty -0.05" in said


@pytest.mark.parametrize(
    ("before", "devices", "after"),
    [
        ("", 4, "--xla_force_host_platform_device_count=4"),
        ("--xla_x=1", 2, "--xla_x=1 --xla_force_host_platform_device_count=2"),
        (
            "--xla_force_host_platform_device_count=8",
            *(2, "--xla_force_host_platform_device_count=8"),
        ),
        ("", 1, ""),
    ],
)
def test_the_cores_of_a_cpu_become_devices_unless_the_user_said_how(
    monkeypatch, before, devices, after
):
    monkeypatch.setenv("XLA_FLAGS", before)
    monkeypatch.setattr(command, "_train", lambda options: 0)
    assert command.main(["--devices", str(devices)]) == 0
    assert os.environ["XLA_FLAGS"] == after


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--dataset", "moon"),
            "--dataset must be payne-whitham, metr-la, pems-bay or",
        ),
        (("--dataset", "metr-la"), "--data must name the folder of the files of"),
        (("--dataset", "pems-bay"), "--data must name the folder of the files of"),
        (("--dataset", "city.csv", "--data", "."), "--data needs --dataset metr-la or"),
        (
            ("--dataset", "city.csv", "--days", 3),
            "--days needs --dataset payne-whitham",
        ),
        (
            ("--dataset", "payne-whitham", "--start", "2024-01-01"),
            "--start needs a --dataset that is a file, got 'payne-whitham'",
        ),
        (
            ("--adjacency", "a.npy"),
            "--adjacency needs --graph road or conjoint, got 'full'",
        ),
        (("--window", 0), "--window must be at least 1, got 0"),
        (("--horizon", -1), "--horizon must be at least 1, got -1"),
        (("--penalty", -0.2), "--penalty needs --regularizer penalty, got 'none'"),
        (
            ("--regularizer", "mask", "--diagonal-dropout", 0.3),
            "--diagonal-dropout needs --regularizer dropout, got 'mask'",
        ),
        (
            ("--regularizer", "dropout", "--diagonal-dropout", 1.0),
            "--diagonal-dropout must lie in [0, 1), got 1.0",
        ),
        (
            ("--regularizer", "penalty", "--penalty", "-inf"),
            "--penalty must be finite (the mask is -inf), got -inf",
        ),
        (("--taps", 3), "--taps needs --model convolution, got 'attention'"),
        (("--model", "convolution"), "--heads needs --model attention, got 'convol"),
        (
            ("--regularizer", "mask", "--window", 1),
            "--window must be at least 2 with regularizer 'mask'",
        ),
        (("--width", 10, "--heads", 4), "--width (10) must be a multiple of heads (4)"),
        (("--layers", 0), "--layers must be at least 1, got 0"),
        (("--dropout", 1), "--dropout must lie in [0, 1), got 1.0"),
        (("--epochs", -1), "--epochs must be at least 0, got -1"),
        (("--steps-per-epoch", 0), "--steps-per-epoch must be at least 1, got 0"),
        (("--batch-size", 0), "--batch-size must be at least 1, got 0"),
        (("--learning-rate", 0), "--learning-rate must be positive and finite, got 0"),
        (("--learning-rate", "nan"), "--learning-rate must be positive and finite"),
        (("--weight-decay", "inf"), "--weight-decay must be finite, got inf"),
        (("--weight-decay", "nan"), "--weight-decay must be at least 0, got nan"),
        (("--patience", 0), "--patience must be at least 1, got 0"),
        (("--seeds", 0), "--seeds must be at least 1, got 0"),
        (("--first-seed", -1), "--first-seed must be at least 0, got -1"),
        (("--first-seed", 2**32), "--first-seed and --seeds must stay below 2**32"),
        (("--seeds-at-once", 0), "--seeds-at-once must be at least 1, got 0"),
        (("--devices", 0), "--devices must be at least 1, got 0"),
        (("--resume", "--overwrite"), "--resume and --overwrite exclude each other"),
    ],
)
def test_options_that_cannot_be_or_would_do_nothing_are_refused(
    tmp_path, capsys, words, said
):
    answer = refusal(capsys, train, tmp_path / "out", *words)
    assert answer.startswith("error: --")
    assert said in answer
    assert not (tmp_path / "out").exists()


def test_the_help_of_the_paper_s_preset_shows_its_defaults(capsys):
    with pytest.raises(SystemExit):
        parsed("--preset", "paper", "--help")
    assert "(default: 72)" in capsys.readouterr().out
