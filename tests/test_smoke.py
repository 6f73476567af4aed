"""Every command, as it is typed, from the first to the last file: small, in a row."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STUDY = "--dataset payne-whitham --windows 3 --variants b --seeds 1"
SMALL = "--epochs 1 --steps-per-epoch 2 --batch-size 4"
MODEL = "--days 4 --width 8 --layers 1 --heads 2 --keep-epochs 0"
COMMANDS = [  # those further down read what the first ones leave
    ("sensitivity.sweep --T 2 4 --seeds 1 --samples 1 --d-model 4", "verdicts.csv"),
    (f"models.train {MODEL} {SMALL}", "test.csv"),
    ("sensitivity.sweep --checkpoint TRAIN --samples 1 --nodes 2", "sweep.csv"),
    ("analysis.attention TRAIN --windows 1 --nodes 2", "diagnostics.csv"),
    ("analysis.network TRAIN --windows 1 --nodes 1", "influence.csv"),
    ("analysis.tables TRAIN", "table-12-12.csv"),
    (f"analysis.study {STUDY} {SMALL}", "training-curves.png"),
    ("analysis.benchmark --quick --methods path_norms", "benchmark.csv"),
    ("analysis.benchmark.training --quick --parts input --rounds 1", "training.csv"),
]


@pytest.mark.slow
def test_every_command_leaves_its_files_without_a_warning(tmp_path):
    for number, (line, file) in enumerate(COMMANDS):
        out = tmp_path / str(number)
        words = line.replace("TRAIN", str(tmp_path / "1")).split()
        command = [sys.executable, "-W", "error", "-m", *words, "--out", str(out)]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | {"MPLBACKEND": "Agg"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert (out / file).stat().st_size > 0
        assert "Warning" not in done.stderr
