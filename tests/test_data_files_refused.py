"""A damaged or hostile file of readings is refused, naming the file and the place."""

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data import _numpy_file, load_file
from tests.data_files import Touch

# --- .csv ---------------------------------------------------------------------------

BAD_CSV = {
    "nothing": ("", "line 1 must name at least one sensor"),
    "no sensor": ("time\n2012-03-01\n", "line 1 must name at least one sensor"),
    "no readings": ("a,b\n", "a line of readings below the header"),
    "no header": ("64.37,12.5\n1,2\n", r"name the sensors, but sensor 0 is '64\.37'"),
    "no name": ("a,,c\n1,2,3\n", "name the sensors, but sensor 1 is ''"),
    "one name twice": ("a,a\n1,2\n", "'a' occurs twice"),
    "a word": ("a,b\n1,2\n3,fast\n", "line 3, column 'b': 'fast' is no number"),
    "an underscore": ("a,b\n1,1_0\n", "line 2, column 'b': '1_0' is no number"),
    "infinity": ("a,b\n1,2\n-inf,2\n", "finite, got -inf at step 1 of sensor 'a'"),
    "overflow": ("a,b\n1,1e999\n", "finite, got inf at step 0 of sensor 'b'"),
    "below 0": ("a,b\n1,-1\n", r"negative, got -1\.0 at step 0 of sensor 'b'"),
    "a short row": ("a,b\n1,2\n3\n", "line 3 must have the 2 cells .* got 1"),
    "a long row": ("a,b\n1,2\n3,4,5\n", "line 3 must have the 2 cells .* got 3"),
    "an empty row": ("a\n1\n\n3\n", "line 3 must have the 1 cells .* got 0"),
    "an open quote": ('a,b\n1,"2\n', "line 2: unexpected end of data"),
    "a huge cell": ("a,b\n1," + "2" * 200_000, "line 2: field larger"),
    "row numbers": (",a\n0,1\n1,2\n", "line 2 must begin with a time .* got '0'"),
    "no date": ("time,a\n2012-03-01,1\n,2\n", "line 3 must begin .* got ''"),
    "now": ("time,a\nnow,1\n", "line 2 must begin .* got 'now'"),
    "another order": ("time,a\n01/03/2012,1\n", "line 2 must begin .*01/03/2012"),
    "two offsets": (
        "time,a\n2012-03-01 00:00-08:00,1\n2012-03-01 00:05-07:00,1\n",
        "same offset from UTC",
    ),
    "time backwards": (
        "time,a\n2012-03-02,1\n2012-03-01,1\n",
        "strictly increasing, got 2012-03-01 00:00:00 at step 1",
    ),
    "another charset": (b"a,\xfc\n1,2\n", "can't decode byte 0xfc"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_a_csv_file_that_is_wrong_is_refused_with_the_place(tmp_path, case):
    content, rule = BAD_CSV[case]
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "city.csv").write_bytes(raw)
    with pytest.raises(ValueError, match=rf"city\.csv.*{rule}"):
        load_file(tmp_path / "city.csv")


# --- .npz ---------------------------------------------------------------------------


def npy(array, allow_pickle=False):
    """The bytes of an ``.npy`` file."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=allow_pickle)
    return stream.getvalue()


def claim(shape, descr="<f8"):
    """An ``.npy`` file of 32 bytes that claims to have another shape."""
    stream = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + bytes(32)


BAD_ARRAYS = {
    "objects": (
        npy(np.array([[Touch(Path("ran"))]]), allow_pickle=True),
        "numbers, got object",
    ),
    "text": (npy(np.array([["a"]])), "numbers, got <U1"),
    "complex numbers": (npy(np.array([[1j]])), "numbers, got complex128"),
    "a record": (npy(np.zeros((2, 2), "f8,f8")), "must hold numbers"),
    "one axis": (npy(np.ones(3)), r"\(T, N\) or \(T, N, F\), .* got \(3,\)"),
    "four axes": (npy(np.ones((1, 1, 1, 1))), r"got \(1, 1, 1, 1\)"),
    "no steps": (npy(np.ones((0, 3))), r"at least 1 of each, got \(0, 3\)"),
    "no features": (npy(np.ones((2, 3, 0))), r"got \(2, 3, 0\)"),
    "infinity": (npy(np.array([[1.0, np.inf]])), "got inf at step 0 of sensor '1'"),
    "below 0": (npy(np.array([[1.0, -9.0]])), r"got -9\.0 at step 0 of sensor '1'"),
    "too few bytes": (npy(np.ones((4, 4)))[:-1], "needs 128 bytes, got 127"),
    "too many bytes": (npy(np.ones((4, 4))) + b"x", "needs 128 bytes, got 129"),
    "a huge shape": (claim((4, 10**9)), "needs 32000000000 bytes, got 32"),
    "a negative shape": (claim((-2, -2)), r"shape \(-2, -2\) .* got 32"),
    "a shape of text": (claim(("a",)), "no header of a plain array"),
    "code as a header": (
        claim((2, 2)).replace(b"(2, 2), }  ", b"id(1), }   "),
        "no header of a plain array",
    ),
    "no header": (b"hello", "no header of a plain array"),
    "a later version": (b"\x93NUMPY\x03\x00\x00\x00\x00\x00", "no header of a plain"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_an_archive_of_something_else_is_refused(tmp_path, monkeypatch, case):
    content, rule = BAD_ARRAYS[case]
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("city.npz", "w") as archive:
        archive.writestr("data.npy", content)
    with pytest.raises(ValueError, match=rf"city\.npz.*{rule}"):
        load_file(tmp_path / "city.npz")
    assert not (tmp_path / "ran").exists()


def test_an_archive_without_data_says_what_it_has(tmp_path):
    np.savez(tmp_path / "city.npz", x=np.eye(2), adjacency=np.eye(2))
    rule = r"city\.npz .* must hold an array 'data', got \['adjacency', 'x'\]"
    with pytest.raises(ValueError, match=rule):
        load_file(tmp_path / "city.npz")


def test_an_archive_cut_anywhere_or_with_a_flipped_byte_is_refused(tmp_path):
    path = tmp_path / "city.npz"
    np.savez_compressed(path, data=np.random.default_rng(0).uniform(1, 70, (30, 4)))
    raw = path.read_bytes()
    for length in range(0, len(raw), 41):
        path.write_bytes(raw[:length])
        with pytest.raises(ValueError, match=r"city\.npz is refused"):
            load_file(path)
    path.write_bytes(raw[:200] + bytes([raw[200] ^ 0xFF]) + raw[201:])
    with pytest.raises(ValueError, match=r"city\.npz is refused"):
        load_file(path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "city.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("data.npy", "w") as member:
            for _ in range(65):
                member.write(bytes(2**20))
    raw = path.read_bytes()
    size = (65 * 2**20).to_bytes(4, "little")
    path.write_bytes(raw.replace(size, (2**30 + 1).to_bytes(4, "little")))
    with pytest.raises(ValueError, match="at most 1073741824 bytes, got 1073741825"):
        load_file(path)


def test_small_numbers_that_are_large_as_float64_are_refused_unread(tmp_path):
    path = tmp_path / "city.npz"
    shape = (2**20, 2**7 + 1)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("data.npy", "w") as member:
            member.write(claim(shape, "|i1")[:-32])
            for _ in range(shape[1]):
                member.write(bytes(2**20))
    assert path.stat().st_size < 150_000
    tracemalloc.start()
    try:
        with pytest.raises(
            ValueError,
            match=r"city\.npz .* shape \(1048576, 129\) takes 1082130432 bytes as "
            "float64, at most 1073741824 are read",
        ):
            load_file(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["i1", "f4"])
def test_the_limit_is_on_the_numbers_as_float64(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(_numpy_file, "MAX_BYTES", 8 * 1024)
    fits, large = np.ones((8, 128), dtype), np.ones((1, 1025), dtype)
    path = tmp_path / "city.npz"
    np.savez(path, fits=fits, large=large)
    np.testing.assert_array_equal(_numpy_file.read_npz(path, "fits"), fits)
    rule = r"shape \(1, 1025\) takes 8200 bytes as float64, at most 8192 are read"
    with pytest.raises(ValueError, match=rf"city\.npz .*{rule}"):
        _numpy_file.read_npz(path, "large")
    np.save(tmp_path / "fits.npy", fits)
    np.save(tmp_path / "large.npy", large)
    np.testing.assert_array_equal(_numpy_file.read_npy(tmp_path / "fits.npy"), fits)
    with pytest.raises(ValueError, match=rf"large\.npy .*{rule}"):
        _numpy_file.read_npy(tmp_path / "large.npy")


def test_a_file_of_no_known_kind_or_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"city\.xlsx must be .* '\.npz', '\.csv'"):
        load_file(tmp_path / "city.xlsx")
    with pytest.raises(FileNotFoundError, match=r"city\.csv does not exist"):
        load_file(tmp_path / "city.csv")
    (tmp_path / "city.csv").mkdir()
    with pytest.raises(FileNotFoundError, match="path must name a file"):
        load_file(tmp_path / "city.csv")
