"""What a sweep has finished stays, whatever happens, and the same command goes on."""

import json
import shutil
from pathlib import Path

import pytest

import sensitivity.bounds
from analysis.sweep._drawn import RandomLayers
from analysis.sweep._earlier import earlier_point
from tests.helpers import contents
from tests.sweep_runs import RESULTS, finished, options, points, same, sweep


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


# --- folders of version 0.1.0 -------------------------------------------------------

OLD = Path(__file__).parent / "fixtures" / "v0.1.0" / "sweep"
AS_OLD = ("--T", "4", "8", "16", "--seeds", "1", "--d-model", "8", "--heads", "2")


@pytest.fixture
def old(tmp_path):
    """What version 0.1.0 wrote, without its pictures."""
    return shutil.copytree(OLD, tmp_path / "old")


def test_points_of_0_1_0_become_parts_and_nothing_is_measured(old, monkeypatch):
    monkeypatch.setattr(sensitivity.bounds, "measure", None)
    for _ in range(2):
        assert sweep(old, *AS_OLD) == 0
        assert same(old, OLD)
        assert len(points(old)) == 3
        assert not (old / "points").exists()
        record = json.loads((old / "run.json").read_text())
        before = json.loads((OLD / "run.json").read_text())
        assert record["command"] == "sensitivity.sweep"
        for name in ("arguments", "complete", "seconds", "filled_share"):
            assert record[name] == before[name]


def test_overwrite_deletes_what_0_1_0_wrote_and_nothing_else(old):
    (old / "points" / "notes.txt").write_text("mine")
    assert sweep(old, *AS_OLD, "--T", "4", "--overwrite") == 0
    assert len(points(old)) == 1
    assert [file.name for file in (old / "points").iterdir()] == ["notes.txt"]
    assert not same(old, OLD)


def test_a_damaged_point_of_0_1_0_is_computed_again(old, capsys):
    file = old / "points" / "T=4-seed=0.csv"
    file.write_bytes(file.read_bytes()[:-1])
    assert sweep(old, *AS_OLD) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("finished before") == 2
    assert said.count("computed again: its file was damaged") == 1
    assert not (old / "points").exists()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda text: text[:-1], id="cut"),
        pytest.param(lambda text: text[: text.rindex(b"\n", 0, -1) + 1], id="a row"),
        pytest.param(lambda text: text.replace(b"exact", b"excat", 1), id="columns"),
        pytest.param(lambda text: text.replace(b"\n8,", b"\n4,"), id="other point"),
        pytest.param(lambda text: text.replace(b",0.", b",o.", 1), id="words"),
        pytest.param(lambda text: b"", id="emptied"),
        pytest.param(lambda text: bytes(len(text)), id="zeroed"),
        pytest.param(lambda text: b"\xff" + text[1:], id="garbled"),
    ],
)
def test_points_of_0_1_0_are_taken_over_if_they_are_whole(old, damage):
    asked = options(*AS_OLD)
    point = RandomLayers(asked).points[1]
    assert earlier_point(old, asked, point).state == "finished"
    file = old / "points" / f"{point.name}.csv"
    file.write_bytes(damage(file.read_bytes()))
    assert earlier_point(old, asked, point).state == "damaged"
    file.unlink()
    assert earlier_point(old, asked, point).state == "missing"


@pytest.mark.parametrize("shares", [[], {"T=4-seed=0": "much"}, 5])
def test_an_edited_record_is_no_traceback(copied, shares):
    record = json.loads((copied / "run.json").read_text())
    (copied / "run.json").write_text(json.dumps(record | {"filled_share": shares}))
    assert sweep(copied) == 0
