"""Samples, heads or rows are shared out over devices: the same numbers as on one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sensitivity import _devices
from tests.many_devices import CASES

ROOT = Path(__file__).parents[1]
FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"


def case(name: str) -> str:
    """Run a case where a CPU shows eight devices; what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.many_devices", name],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": FLAGS, "JAX_PLATFORMS": "cpu", "NPROC": "2"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_heads_are_shared_out():
    # Eight batched LAPACK calls on eight threads would wait for ever.
    assert case("heads") == "8 devices, 7 at work\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CASES.keys() - {"heads"}))
def test_all_is_shared_out(name):
    assert case(name) == "8 devices, 7 at work\n"


@pytest.mark.parametrize(("cores", "threads"), [("2", 8), ("64", 64)])
def test_a_pool_has_a_thread_for_every_core_and_device(monkeypatch, cores, threads):
    monkeypatch.setenv("NPROC", cores)
    assert _devices._threads(8) == threads
