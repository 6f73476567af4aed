"""A graph pickle is read exactly, and refused by name if it asks for anything else."""

import copyreg
import pickle
import struct

import numpy as np
import pytest

from data import _pickles, load_metr_la, read_adjacency
from tests.data_files import IDS, WEIGHTS, Touch, frame, write, write_graph

INDEX = {name: k for k, name in enumerate(IDS)}
NUMBERS = [int(name) for name in IDS]

# --- what must load -----------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [">f4", "<f8"])
def test_a_graph_of_any_protocol_loads_and_is_put_in_order(
    tmp_path, protocol, order, dtype
):
    write(tmp_path)
    places = [2, 0, 1]
    ids = [IDS[k] for k in places]
    index = {name: k for k, name in enumerate(ids)}
    weights = WEIGHTS[np.ix_(places, places)]
    weights = np.asarray(weights, dtype=dtype, order=order)
    write_graph(tmp_path, [ids, index, weights], protocol)
    loaded = load_metr_la(tmp_path)
    np.testing.assert_array_equal(loaded.adjacency, WEIGHTS)


def read_only(array):
    """The array, which protocol 5 then writes as bytes."""
    array = array.copy()
    array.flags.writeable = False
    return array


WHOLE = (4 * WEIGHTS).astype(np.int64)
GRAPHS = {
    "a bare array": (WEIGHTS, WEIGHTS),
    "a bare array that is read-only": (read_only(WEIGHTS), WEIGHTS),
    "every other entry of an array": (np.kron(WEIGHTS, np.eye(2))[::2, ::2], WEIGHTS),
    "a bare array of integers": (WHOLE, WHOLE),
    "integers": ([IDS, INDEX, WHOLE.astype(np.uint8)], WHOLE),
    "a tuple": ((IDS, INDEX, WEIGHTS), WEIGHTS),
    "integer ids": ([NUMBERS, dict(zip(NUMBERS, range(3), strict=True)), WHOLE], WHOLE),
    "integer ids of NumPy": (
        [list(np.array(NUMBERS)), dict(zip(np.array(NUMBERS), range(3), strict=True))]
        + [WEIGHTS],
        WEIGHTS,
    ),
    "places of NumPy": (
        [IDS, dict(zip(IDS, np.arange(3, dtype=np.int32), strict=True)), WEIGHTS],
        WEIGHTS,
    ),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("case", GRAPHS)
def test_arrays_and_ids_of_other_kinds_load(tmp_path, case, protocol):
    content, expected = GRAPHS[case]
    weights = read_adjacency(write_graph(tmp_path, content, protocol), IDS)
    np.testing.assert_array_equal(weights, expected)
    assert weights.dtype == np.float64


def test_a_python_2_pickle_with_latin1_bytes_loads(tmp_path):
    write(tmp_path, frame(["a"]))
    number = struct.pack("<d", 0.7)  # has bytes above 127
    write_graph(
        tmp_path,
        b"\x80\x02](]U\x01aa}U\x01aK\x00scnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x01K\x01\x86cnumpy\ndtype\n"
        b"U\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89U\x08" + number + b"tbe.",
    )
    adjacency = load_metr_la(tmp_path).adjacency
    assert adjacency is not None
    assert adjacency.tolist() == [[0.7]]


def test_without_a_graph_there_is_no_adjacency(tmp_path):
    assert load_metr_la(write(tmp_path)).adjacency is None


# --- hostile pickles ----------------------------------------------------------------

FROM_BUFFER = b"cnumpy.core.numeric\n_frombuffer\n("
DOUBLE = b"cnumpy\ndtype\n(S'f8'\ntR"
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
    "a read-only buffer": (b"\x80\x05C\x01a\x98.", "READONLY_BUFFER"),
    "a huge memo slot": (b"Np4000000000\n.", "memo slot 4000000000"),
    "a huge string": (b"\x80\x04\x8e" + struct.pack("<Q", 2**50) + b"x.", "expected"),
    "huge bytes": (b"\x80\x05\x96" + struct.pack("<Q", 2**50) + b"x.", "expected"),
    "a change to ndarray": (b"cnumpy\nndarray\n}S'x'\nI1\nsb.", "malformed"),
    "a change to encode": (b"c_codecs\nencode\n(N}S'x'\nI1\nstb.", "malformed"),
    "another class for a name": (
        b"c_codecs\nencode\n(N}S'__class__'\ncnumpy\ndtype\nstb.",
        "malformed",
    ),
    "another call of a name": (
        b"c_codecs\nencode\n(N}S'__call__'\ncnumpy\ndtype\nstb.",
        "malformed",
    ),
    "an object dtype": (b"cnumpy\ndtype\n(S'O8'\ntR.", "'O8'"),
    "a structured dtype": (b"cnumpy\ndtype\n((lS'f8'\natR.", "plain numbers"),
    "a huge array": (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        b"(I1\n(I99999999\nI99999999\nt" + DOUBLE + b"I00\nS'abc'\ntb.",
        "does not fit",
    ),
    "an array of no origin": (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I9999999999\ntS'b'\ntR.",
        "not an array",
    ),
    "a buffer of no type": (
        FROM_BUFFER + b"C\x08abcdefghS'f8'\n(I1\ntS'C'\ntR.",
        "not an array",
    ),
    "a buffer that is too short": (
        FROM_BUFFER + b"C\x07abcdefg" + DOUBLE + b"(I1\ntS'C'\ntR.",
        "needs 8 bytes, got 7",
    ),
    "a buffer that is too long": (
        FROM_BUFFER + b"C\x09abcdefghi" + DOUBLE + b"(I1\ntS'C'\ntR.",
        "needs 8 bytes, got 9",
    ),
    "a buffer of a huge shape": (
        FROM_BUFFER + b"C\x08abcdefgh" + DOUBLE + b"(I99999999\ntS'C'\ntR.",
        "does not fit",
    ),
    "a buffer of axes": (
        FROM_BUFFER + b"C\x08abcdefgh" + DOUBLE + b"(I1\ntS'K'\n(I0\nttR.",
        "not an array",
    ),
    "a buffer in no order": (
        FROM_BUFFER + b"C\x08abcdefgh" + DOUBLE + b"(I1\ntS'K'\ntR.",
        "in a known order",
    ),
    "a buffer of numbers": (
        FROM_BUFFER + b"I8\n" + DOUBLE + b"(I1\ntS'C'\ntR.",
        "not bytes",
    ),
    "a number of no type": (
        b"cnumpy.core.multiarray\nscalar\n(S'O8'\nS'x'\ntR.",
        "not a number",
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
    path = write_graph(tmp_path, content)
    with pytest.raises(ValueError, match=rf"adj_mx\.pkl.*({wanted})"):
        read_adjacency(path, IDS)
    assert not (tmp_path / "M").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_call_hidden_in_a_good_graph_is_refused_and_not_made(tmp_path, protocol):
    path = write_graph(
        tmp_path, [IDS, INDEX, WEIGHTS, Touch(tmp_path / "ran")], protocol
    )
    with pytest.raises(ValueError, match=r"adj_mx\.pkl.*mkdir"):
        read_adjacency(path, IDS)
    assert not (tmp_path / "ran").exists()


def test_an_extension_code_in_pythons_cache_is_refused(tmp_path):
    copyreg.add_extension("os", "mkdir", 240)
    try:
        raw = pickle.dumps(Touch(tmp_path / "ran"), 2)
        raw = raw.replace(b"cposix\nmkdir\n", b"\x82\xf0")
        with pytest.raises(ValueError, match="EXT1"):
            read_adjacency(write_graph(tmp_path, raw), IDS)
    finally:
        copyreg.remove_extension("os", "mkdir", 240)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", [2, 5])
def test_a_graph_pickle_cut_anywhere_is_refused(tmp_path, protocol):
    raw = write_graph(tmp_path, protocol=protocol).read_bytes()
    for length in range(0, len(raw), 7):
        path = write_graph(tmp_path, raw[:length])
        with pytest.raises(ValueError, match=r"adj_mx\.pkl is refused"):
            read_adjacency(path, IDS)


def test_small_numbers_that_are_large_as_float64_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_pickles, "MAX_BYTES", 800)
    path = write_graph(tmp_path, np.ones((10, 10), np.int8))
    assert read_adjacency(path, [str(k) for k in range(10)]).all()
    path = write_graph(tmp_path, np.ones((11, 11), np.int8))
    with pytest.raises(ValueError, match="takes 968 bytes .* at most 800 are read"):
        read_adjacency(path, IDS)


# --- graphs that are harmless but wrong ---------------------------------------------

DEEP = b"(]}" + b")" + b"\x85" * 900 + b"I0\ns" + pickle.dumps(WEIGHTS, 2)[2:-1] + b"l."
NOT_FINITE = np.where(WEIGHTS == 0.5, np.nan, WEIGHTS)
WRONG = {
    "another shape of list": ([IDS, INDEX], r"got a list of \['list', 'dict'\]"),
    "not a list": ({"a": 1}, "got a dict"),
    "no array": ([IDS, INDEX, [[1.0]]], "a dict and an array"),
    "an array that never came": (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR.",
        "got a PickledArray",
    ),
    "fractions as ids": ([[1.5, 2, 3], INDEX, WEIGHTS], "integers, got a float"),
    "truths as ids": ([[True, 2, 3], INDEX, WEIGHTS], "integers, got a bool"),
    "tuples as ids": (DEEP, "integers, got a tuple"),
    "other numbers as ids": (
        [[1, 2, 3], {1: 0, 2: 1, 3: 2}, WEIGHTS],
        "only the adjacency has '1', '2', '3', only the series has '717447', '767541'",
    ),
    "one id twice": (
        [["a", "a", "b"], {"a": 1, "b": 2}, WEIGHTS],
        "must differ|its place",
    ),
    "other ids": (
        [["773869", "767541", "1"], {"773869": 0, "767541": 1, "1": 2}, WEIGHTS],
        "only the adjacency has '1', only the series has '717447'",
    ),
    "a wrong index": ([IDS, {**INDEX, "773869": 2}, WEIGHTS], "its place"),
    "no index": ([IDS, {}, WEIGHTS], "its place"),
    "another size": (
        [IDS, INDEX, WEIGHTS[:2]],
        r"\(3, 3\), got float64 of shape \(2, 3\)",
    ),
    "a bare array of another size": (
        np.eye(4),
        r"\(3, 3\), got float64 of shape \(4, 4\)",
    ),
    "truths": (WEIGHTS > 0, "must be of numbers, got bool"),
    "complex numbers": (WEIGHTS + 1j, "plain numbers, got type 'c16'"),
    "a bare negative": (-WHOLE, "finite and not negative, got -4.0 from '773869'"),
    "not finite": ([IDS, INDEX, NOT_FINITE], "finite and not negative, got nan"),
    "negative": ([IDS, INDEX, -WEIGHTS], "finite and not negative, got -1.0"),
    "objects": ([IDS, INDEX, WEIGHTS.astype(object)], "plain numbers, got type 'O8'"),
}


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("case", WRONG)
def test_a_graph_that_does_not_fit_is_refused(tmp_path, case, protocol):
    content, rule = WRONG[case]
    path = write_graph(tmp_path, content, protocol)
    with pytest.raises(ValueError, match=rf"adj_mx\.pkl.*{rule}"):
        read_adjacency(path, IDS)
