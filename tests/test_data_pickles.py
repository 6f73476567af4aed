"""A graph pickle that asks for anything but plain data is refused, by name."""

import copyreg
import pickle
import struct

import numpy as np
import pytest

from data import load_metr_la
from tests.data_files import (
    IDS,
    WEIGHTS,
    Touch,
    write,
    write_graph,
)

# --- hostile pickles ----------------------------------------------------------------

HOSTILE = {
    "a global": (b"cos\nsystem\n(S'touch M'\ntR.", "os.system"),
    "an instance": (b"(S'touch M'\nios\nsystem\n.", "os.system"),
    "an object": (b"(cos\nsystem\nS'touch M'\no.", "os.system|opcode OBJ"),
    "eval": (b"c__builtin__\neval\n(S'1'\ntR.", "__builtin__.eval"),
    "a new object": (b"\x80\x02cos\nsystem\n(S'touch M'\nt\x81.", "os.system|NEWOBJ"),
    "memoised names": (
        b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93\x8c\x07touch M\x85R.",
        "os.system",
    ),
    "a dotted name": (
        b"\x80\x04\x8c\x05numpy\x8c\x09os.system\x93.",
        "numpy.os.system",
    ),
    "an extension code": (b"\x82\x01.", "EXT1"),
    "a persistent id": (b"Pos\n.", "PERSID"),
    "a persistent object": (b"S'os'\nQ.", "BINPERSID"),
    "an out-of-band buffer": (b"\x80\x05\x97.", "NEXT_BUFFER"),
    "a huge memo slot": (b"Np4000000000\n.", "memo slot 4000000000"),
    "a huge string": (b"\x80\x04\x8e" + struct.pack("<Q", 2**50) + b"x.", "expected"),
    "a change to ndarray": (b"cnumpy\nndarray\n}S'x'\nI1\nsb.", "malformed"),
    "a change to encode": (b"c_codecs\nencode\n(N}S'x'\nI1\nstb.", "malformed"),
    "an object dtype": (b"cnumpy\ndtype\n(S'O8'\ntR.", "'O8'"),
    "a structured dtype": (b"cnumpy\ndtype\n((lS'f8'\natR.", "plain numbers"),
    "a huge array": (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        b"(I1\n(I99999999\nI99999999\ntcnumpy\ndtype\n(S'f8'\ntRI00\nS'abc'\ntb.",
        "does not fit",
    ),
    "an array of no origin": (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I9999999999\ntS'b'\ntR.",
        "not an array",
    ),
    "another codec": (b"c_codecs\nencode\n(S'x'\nS'zip'\ntR.", "not latin1"),
    "deep tuples": (b")" + b"\x85" * 5000 + b".", "more than 1000 tuples"),
    "nothing": (b"", "cut off"),
    "a text": (b"hello", "opcode"),
    "an empty stack": (b".", "malformed"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_graph_pickle_is_refused(tmp_path, monkeypatch, case):
    content, wanted = HOSTILE[case]
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    write_graph(tmp_path, content)
    with pytest.raises(ValueError, match=rf"adj_mx\.pkl.*({wanted})"):
        load_metr_la(tmp_path)
    assert not (tmp_path / "M").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_call_hidden_in_a_good_graph_is_refused_and_not_made(tmp_path, protocol):
    write(tmp_path)
    index = {name: k for k, name in enumerate(IDS)}
    content = [IDS, index, WEIGHTS, Touch(tmp_path / "ran")]
    write_graph(tmp_path, content, protocol)
    with pytest.raises(ValueError, match=r"adj_mx\.pkl.*(mkdir|opcode|_frombuffer)"):
        load_metr_la(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_an_extension_code_in_pythons_cache_is_refused(tmp_path):
    write(tmp_path)
    copyreg.add_extension("os", "mkdir", 240)
    try:
        raw = pickle.dumps(Touch(tmp_path / "ran"), 2).replace(
            b"cposix\nmkdir\n", b"\x82\xf0"
        )
        write_graph(tmp_path, raw)
        with pytest.raises(ValueError, match="EXT1"):
            load_metr_la(tmp_path)
    finally:
        copyreg.remove_extension("os", "mkdir", 240)
    assert not (tmp_path / "ran").exists()


def test_a_graph_pickle_cut_anywhere_is_refused(tmp_path):
    write(tmp_path)
    raw = write_graph(tmp_path).read_bytes()
    for length in range(0, len(raw), 7):
        write_graph(tmp_path, raw[:length])
        with pytest.raises(ValueError, match=r"adj_mx\.pkl is refused"):
            load_metr_la(tmp_path)


# --- graphs that are harmless but wrong ---------------------------------------------

INDEX = {name: k for k, name in enumerate(IDS)}
NOT_FINITE = np.where(WEIGHTS == 0.5, np.nan, WEIGHTS)
WRONG = {
    "another shape of list": ([IDS, INDEX], r"got a list of \['list', 'dict'\]"),
    "not a list": ({"a": 1}, "got a dict"),
    "no array": ([IDS, INDEX, [[1.0]]], "a dict and an array"),
    "numbers as ids": ([[1, 2, 3], INDEX, WEIGHTS], "must be strings, got a int"),
    "one id twice": ([["a", "a", "b"], INDEX, WEIGHTS], "must differ"),
    "other ids": (
        [["773869", "767541", "1"], {}, WEIGHTS],
        "only the adjacency has '1', only the series has '717447'",
    ),
    "a wrong index": ([IDS, {**INDEX, "773869": 2}, WEIGHTS], "its place"),
    "another size": (
        [IDS, INDEX, WEIGHTS[:2]],
        r"\(3, 3\), got float64 of shape \(2, 3\)",
    ),
    "integers": ([IDS, INDEX, WEIGHTS.astype(int)], "must be floats"),
    "not finite": ([IDS, INDEX, NOT_FINITE], "finite and not negative, got nan"),
    "negative": ([IDS, INDEX, -WEIGHTS], "finite and not negative, got -1.0"),
    "objects": ([IDS, INDEX, WEIGHTS.astype(object)], "plain numbers, got type 'O8'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_graph_that_does_not_fit_is_refused(tmp_path, case):
    content, rule = WRONG[case]
    write(tmp_path)
    write_graph(tmp_path, content)
    with pytest.raises(ValueError, match=rf"adj_mx\.pkl.*{rule}"):
        load_metr_la(tmp_path)
