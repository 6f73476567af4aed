"""The folder of a command: whose it is, what is finished in it, who works there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from models.runs.folder import RunFolder, differing, digest, in_words, read_record
from models.runs.whole_files import write_whole
from tests.train_runs import contents

ROOT = Path(__file__).parents[1]
COMMAND = "tests.folder"
KEY = digest("all that it depends on")


def opened(path: Path, *, scale=1.0, command=COMMAND, **how) -> RunFolder:
    """The folder of a call."""
    return RunFolder(path, command, {"scale": scale, "out_of": None}, **how)


@pytest.fixture
def out(tmp_path):
    """Where results shall be."""
    return tmp_path / "out"


@pytest.fixture
def done(out):
    """A finished call with two parts and two results."""
    with opened(out) as folder:
        folder.keep("one", KEY, "1,2\n", ".csv")
        folder.keep("two-a", KEY, b"\x00", ".bin")
        folder.write("table.csv", "1,2\n")
        folder.write("figures/map.svg", "<svg/>")
        assert folder.finish() == ["table.csv", "figures/map.svg"]
    return out


# --- whose it is ----------------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, {"overwrite": True}, {"resume": False}])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("thesis.tex", "mine"),
        ("movie.mkv.part", "half of mine"),
        ("parts/notes.txt", "mine"),
        ("kept/3/weights", "of which call?"),
        ("run.json", '{"loss": 0.5}'),
        ("run.json", '{"command": "other", "arguments": {}}'),
        ("run.json", '{"command": "tests.folder", "arguments": [8]}'),
        ("run.json", '{"command": "tests.folder"}'),
        ("run.json", "[1, 2]"),
        ("run.json", "half a fi"),
        ("run.json", b"\xff\xfe\x00"),
    ],
)
def test_folders_of_others_are_refused_and_stay(out, how, name, content):
    (out / name).parent.mkdir(parents=True)
    content = content if isinstance(content, bytes) else content.encode()
    (out / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"must be empty or hold results of") as error:
        opened(out, keeps=["kept"], **how)
    assert name.split("/")[0] in str(error.value)
    assert contents(out) == {name: content}


def test_whose_a_folder_of_0_1_0_is_tells_its_record(tmp_path):
    records = {
        "models.train": {"arguments": {"dataset": "walk"}, "complete": True},
        "sensitivity.sweep": {"arguments": {"T": [8]}, "filled_share": {}},
        "analysis.attention": {"command": "analysis.attention", "settings": {"a": 1}},
    }
    for command, record in records.items():
        out = tmp_path / command
        out.mkdir()
        (out / "run.json").write_text(json.dumps(record))
        read = read_record(out, command)
        assert read is not None
        assert read["arguments"] == record.get("arguments", record.get("settings"))
        assert (read["files"], read["seconds"]) == ([], 0.0)
        with pytest.raises(ValueError, match=f"its run.json is of {command};"):
            read_record(out, COMMAND)
        with RunFolder(out, command, read["arguments"]) as folder:
            assert folder.was_complete is record.get("complete", False)
    assert read_record(tmp_path / "nowhere", COMMAND) is None


def test_what_may_lie_beside_results_is_never_deleted(out):
    (out / "8-8").mkdir(parents=True)
    (out / "8-8" / "run.json").write_text("of another call")
    with opened(out, allows=["[0-9]*-[0-9]*"]) as folder:
        folder.write("table.csv", "1\n")
    with opened(out, overwrite=True, allows=["[0-9]*-[0-9]*"]):
        assert contents(out / "8-8") == {"run.json": b"of another call"}
        assert not (out / "table.csv").exists()


# --- going on, or anew ----------------------------------------------------------------


def test_the_same_call_finds_what_is_finished(done):
    with opened(done) as folder:
        assert folder.was_complete
        assert folder.record["complete"] is False
        assert folder.part("one", KEY) == ("finished", b"1,2\n")
        assert folder.part("two-a", KEY) == ("finished", b"\x00")
        assert folder.part("three", KEY).state == "missing"
        assert folder.part("one", digest("other")).state == "of other settings"


def test_a_part_that_was_edited_or_torn_is_computed_again(done):
    (file,) = (done / "parts").glob("one-*")
    file.write_text("1,3\n")
    torn = file.with_name(f"{file.name}.abcd1234.part")
    torn.write_text("1,")
    (done / "run.json.part").write_text("{")
    with opened(done) as folder:
        assert folder.part("one", KEY) == ("damaged", b"")
        folder.keep("one", KEY, "1,2\n", ".csv")
        assert folder.part("one", KEY).state == "finished"
    assert len(list((done / "parts").iterdir())) == 2
    assert not list(done.rglob("*.part"))


def test_results_that_are_not_made_again_go(done):
    (done / "summary.csv").write_text("of 0.1.0, which listed no files")
    with opened(done, results=["summary.csv"]) as folder:
        folder.write("table.csv", "2\n")
        assert folder.finish() == ["table.csv"]
    left = {name for name in contents(done) if not name.startswith("parts/")}
    assert left - {".lock"} == {"run.json", "table.csv"}


def test_other_settings_are_refused_by_the_options_that_set_them(done):
    before = contents(done)
    with pytest.raises(ValueError, match=r"\(--scale 1.0 there, 2.0 asked for\)"):
        opened(done, scale=2.0)
    with pytest.raises(ValueError, match="holds a run; add --resume to go on with it"):
        opened(done, resume=False)
    assert contents(done) == before
    with opened(done, scale=2.0, same=lambda old, new: []) as folder:
        assert folder.record["arguments"]["scale"] == 1.0


def test_what_differs_is_said_in_options_and_fingerprints_are_none():
    old = {"scale": 1.0, "penalty": None, "T": [8], "data_sha256": "a", "heads": 2}
    new = {"scale": 1.0, "penalty": -0.1, "road_sha256": ["b"], "heads": 1}
    names = differing(old, new)
    assert in_words(names, old, new) == (
        "--penalty not there, -0.1 asked for, --T [8] there, not asked for, "
        "--heads 2 there, 1 asked for, the data or the weights are others"
    )


def test_settings_may_change_before_anything_is_finished(out):
    opened(out).close()
    with opened(out, scale=2.0) as folder:
        assert folder.record["arguments"] == {"scale": 2.0, "out_of": None}


def test_overwrite_deletes_what_the_command_wrote_and_nothing_else(done):
    mine = ["notes.txt", "notes.part", "parts/notes.txt", "figures/notes.txt"]
    mine += ["kept/notes.txt", "kept/2024-notes/notes.txt", "kept/5.mine/notes.txt"]
    for name in [*mine, "kept/3/weights"]:
        (done / name).parent.mkdir(parents=True, exist_ok=True)
        (done / name).write_text("mine")
    with opened(done, overwrite=True, keeps=["kept"]):
        left = {*contents(done)} - {".lock", ".lock-owner", "run.json"}
        assert left == {*mine}


def test_overwrite_of_a_link_leaves_what_it_leads_to(done, tmp_path):
    (tmp_path / "scratch").mkdir()
    (done / "kept").mkdir()
    (done / "kept" / "3").symlink_to(tmp_path / "scratch")
    with opened(done, overwrite=True, keeps=["kept"]):
        assert not (done / "kept" / "3").is_symlink()
    assert (tmp_path / "scratch").is_dir()


def test_parts_that_are_no_folder_are_named(out):
    out.mkdir(parents=True)
    (out / "parts").write_text("mine")
    with pytest.raises(ValueError, match=r"parts\) must be a folder, but it is a file"):
        opened(out)


@pytest.mark.parametrize("files", [["."], [""], ["../mine.txt"], ["figures"], 5, [5]])
def test_an_edited_list_of_files_deletes_nothing_else(done, files):
    (done.parent / "mine.txt").write_text("mine")
    record = json.loads((done / "run.json").read_text())
    (done / "run.json").write_text(json.dumps(record | {"files": files}))
    with opened(done, overwrite=True) as folder:
        folder.finish()
    assert (done.parent / "mine.txt").read_text() == "mine"
    assert (done / "figures" / "map.svg").exists()


@pytest.mark.parametrize("stop", ["table.csv", "weights"])
def test_a_kill_while_a_call_is_replaced_never_mixes_the_two(done, monkeypatch, stop):
    (done / "kept" / "3").mkdir(parents=True)
    (done / "kept" / "3" / "weights").write_text("of the first call")
    whole = Path.unlink

    def killed(path, *arguments, **options):
        if path.name in (stop, "3"):
            raise KeyboardInterrupt
        whole(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("models.runs.folder.Path.unlink", killed)
        patch.setattr("models.runs.folder.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            opened(done, scale=2.0, overwrite=True, keeps=["kept"])
    with pytest.raises(ValueError, match="--scale 1.0 there, 2.0 asked for"):
        opened(done, scale=2.0, keeps=["kept"])
    with opened(done, keeps=["kept"]) as folder:
        assert not folder.was_complete


# --- who works there ------------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, {"overwrite": True}, {"scale": 2.0}])
def test_a_folder_is_in_use_until_it_is_closed(out, how):
    with opened(out):
        words = f"is in use: process {os.getpid()} works there"
        with pytest.raises(ValueError, match=words):
            opened(out, **how)
    assert not (out / ".lock-owner").exists()
    opened(out, **how).close()


def test_a_refusal_or_a_fault_leaves_no_lock(done, monkeypatch):
    with pytest.raises(ValueError, match="--scale"):
        opened(done, scale=2.0)
    with monkeypatch.context() as patch:
        patch.setattr("models.runs.folder.write_whole", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            opened(done)
    opened(done).close()


def test_a_killed_process_leaves_no_lock(out):
    code = (
        "import os, sys; from pathlib import Path\n"
        "from models.runs.folder import RunFolder\n"
        f"RunFolder(Path(sys.argv[1]), {COMMAND!r}, {{'scale': 1.0, 'out_of': None}})\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(out)], cwd=ROOT)
    assert done.returncode == -9
    assert (out / ".lock-owner").exists()
    opened(out).close()


# --- files ----------------------------------------------------------------------------


def test_a_picture_has_the_same_bytes_whenever_it_is_made(done):
    names = ("map.png", "map.pdf")
    seen = []
    for _ in range(2):
        with opened(done) as folder:
            figure = Figure()
            figure.subplots().plot([1, 2])
            folder.write_figure("map", figure, "png", "pdf")
        seen.append([(done / name).read_bytes() for name in names])
    assert seen[0] == seen[1]


def test_an_error_names_the_file_that_cannot_be_written(tmp_path):
    gone = tmp_path / "gone" / "table.csv"
    with pytest.raises(FileNotFoundError) as error:
        write_whole(gone, "1\n")
    assert error.value.filename == str(gone)
