"""The sweep command on windows of traffic: what it says of them, and its verdicts."""

import json

import pytest

from tests.data_files import real
from tests.sweep_runs import STATEMENTS, sweep, verdict_table, write_traffic


def test_without_a_position_encoding_it_says_what_the_tokens_are(tmp_path, capsys):
    traffic = write_traffic(tmp_path)
    note = "every token is a scalar, the speed, times one vector"
    for position, noted in (("none", True), ("tape", False)):
        asked = ("--T", "4", "--seeds", "1", "--source", "metr-la", "--data", traffic)
        out = tmp_path / position
        assert sweep(out, *map(str, asked), "--position", position) == 0
        assert (note in " ".join(capsys.readouterr().out.split())) == noted
        notes = json.loads((out / "run.json").read_text())["notes"]
        assert any(note in one for one in notes) == noted


def test_simulated_traffic_needs_no_file_and_shows_every_verdict(tmp_path, capsys):
    asked = ("--source", "payne-whitham", "--T", "4", "6", "--position", "tape")
    assert sweep(tmp_path / "out", *asked) == 0
    assert "missing readings filled" in capsys.readouterr().out
    verdicts = verdict_table(tmp_path / "out").set_index("statement")
    assert set(verdicts.index) == set(STATEMENTS)
    assert (verdicts.loc["eq8_off_diagonal", "holds_share"] == 1).all()
    assert sweep(tmp_path / "out", *asked, "--T", "20000") == 2
    assert "must not exceed the 10080 steps of payne-whitham" in capsys.readouterr().err


@pytest.mark.slow
def test_real_traffic_windows_show_every_verdict(tmp_path, capsys):
    data = str(real("metr-la-29"))
    asked = ("--source", "metr-la", "--data", data, "--T", "8", "16")
    assert sweep(tmp_path / "out", *asked) == 0
    said = capsys.readouterr().out
    assert all(statement in said for statement in STATEMENTS)
    assert "missing readings filled" in said
    verdicts = verdict_table(tmp_path / "out").set_index("statement")
    assert (verdicts.loc["eq8_off_diagonal", "holds_share"] == 1).all()
    assert (verdicts.loc["eq8_diagonal_corrected", "holds_share"] == 1).all()
    shares = json.loads((tmp_path / "out" / "run.json").read_text())["filled_share"]
    assert len(shares) == 4
    assert all(0 <= share <= 1 for share in shares.values())
