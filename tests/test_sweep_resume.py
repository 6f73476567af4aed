"""What a sweep has finished stays, whatever happens, and the same command goes on."""

import json
import shutil
from pathlib import Path

import pytest

import analysis.sweep.command
import sensitivity.bounds
from tests.helpers import contents
from tests.sweep_runs import RESULTS, finished, points, same, sweep


@pytest.fixture
def done():
    """A complete sweep of six points: its folder. Leave it as it is."""
    return finished()


@pytest.fixture
def copied(done, tmp_path):
    """A complete sweep, to be changed."""
    return shutil.copytree(done, tmp_path / "out")


def part(out: Path, name: str) -> Path:
    """The file of a point."""
    (found,) = (out / "parts").glob(f"{name}-*.csv")
    return found


def left_parts(out: Path) -> None:
    """Killed while writing a point, and a result."""
    point = part(out, "T=8-seed=1")
    point.rename(point.with_name(f"{point.name}.x7abcdef.part")).write_text("T,sour")
    (out / "sweep.csv").unlink()
    (out / "bound-vs-T.pdf.x7abcdef.part").write_bytes(b"%P")


def only_record(out: Path) -> None:
    """Killed when only ``run.json`` was written."""
    for file in [*out.glob("*.*"), *out.glob("parts/*")]:
        if file.name != "run.json":
            file.unlink()


def a_gap(out: Path) -> None:
    """A point is gone."""
    part(out, "T=4-seed=0").unlink()


def no_results(out: Path) -> None:
    """Killed after the last point."""
    for name in (*RESULTS, "bound-vs-T.png", "bound-vs-T.pdf"):
        (out / name).unlink()


@pytest.mark.parametrize("damage", [left_parts, only_record, a_gap, no_results])
def test_a_sweep_goes_on_from_the_worst_moments(done, copied, damage):
    damage(copied)
    before = points(copied)
    assert sweep(copied) == 0
    assert same(copied, done)
    after = points(copied)
    assert len(after) == 6
    assert {name: after[name] for name in before} == before
    assert not list(copied.rglob("*.part"))


def test_an_edited_point_is_computed_again_and_said_so(done, copied, capsys):
    point = part(copied, "T=8-seed=1")
    point.write_bytes(point.read_bytes().replace(b",0.", b",1.", 1))
    before = points(copied)
    assert sweep(copied) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("finished before") == 5
    assert said.count("computed again: its file was damaged") == 1
    assert same(copied, done)
    changed = {name for name, time in points(copied).items() if time != before[name]}
    assert changed == {point.name}


@pytest.mark.parametrize("more", [("--max-memory", "2GiB"), ("--overwrite",)])
def test_the_same_command_again_computes_nothing_and_changes_no_byte(
    copied, monkeypatch, more
):
    before = contents(copied)
    monkeypatch.setattr(sensitivity.bounds, "measure", None)
    assert sweep(copied, *more) == 0
    assert contents(copied) == before


def test_parts_with_fewer_statements_are_measured_again(copied, monkeypatch, capsys):
    monkeypatch.setattr(analysis.sweep.command, "STATEMENTS", ("eq5",))
    assert sweep(copied) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("an earlier version judged fewer statements") == 6
    assert len(points(copied)) == 6


@pytest.mark.parametrize("shares", [[], {"T=4-seed=0": "much"}, 5])
def test_an_edited_record_is_no_traceback(copied, shares):
    record = json.loads((copied / "run.json").read_text())
    (copied / "run.json").write_text(json.dumps(record | {"filled_share": shares}))
    assert sweep(copied) == 0
