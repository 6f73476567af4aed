"""NumPy's ``.npy`` and ``.npz`` of unknown origin: numbers only, all of them there."""

import io
import math
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data._pickles import MAX_BYTES

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_HEAD = 2**16  # bytes that hold any header that NumPy takes


def read_npy(path: Path) -> np.ndarray:
    """The array, in the type it was stored in; a ValueError names the file."""
    try:
        with path.open("rb") as file:
            header = _check_header(file.read(_HEAD), path.stat().st_size)
        return _parse(path.read_bytes(), header)
    except ValueError as error:
        raise ValueError(f"{path} is refused as .npy: {error}") from error


def read_npz(path: Path, key: str) -> np.ndarray:
    """One array of an archive, as it was stored; a ValueError names the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if key not in names:
                shown = [name[:40] for name in sorted(names)[:5]]
                raise ValueError(f"it must hold an array {key!r}, got {shown}.")
            member = archive.infolist()[names.index(key)]
            with archive.open(member) as file:
                header = _check_header(file.read(_HEAD), member.file_size)
            return _parse(archive.read(member), header)
    except Exception as error:  # a damaged archive can raise nearly anything
        raise ValueError(f"{path} is refused as .npz: {error}") from error


class _Header(NamedTuple):
    """What an array claims to be, and where its numbers begin."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    offset: int


def _check_header(head: bytes, size: int) -> _Header:
    """Refuse an array by its first bytes; ``numpy.load`` would first believe them."""
    if size > MAX_BYTES:
        raise ValueError(f"its array must have at most {MAX_BYTES} bytes, got {size}.")
    stream = io.BytesIO(head)
    try:
        version = np.lib.format.read_magic(stream)
        shape, fortran, dtype = _HEADERS[version](stream)
    except Exception as error:  # the header is evaluated, and may be any text
        raise ValueError(f"it has no header of a plain array: {error}.") from error
    if dtype.kind not in "fiu":
        raise ValueError(f"it must hold numbers, got {dtype}.")
    there = size - stream.tell()
    numbers = math.prod(shape)
    if min(shape, default=0) < 0 or numbers * dtype.itemsize != there:
        raise ValueError(
            f"an array of shape {shape} and type {dtype} needs "
            f"{numbers * dtype.itemsize} bytes, got {there}."
        )
    if 8 * numbers > MAX_BYTES:
        raise ValueError(
            f"an array of shape {shape} takes {8 * numbers} bytes as float64, "
            f"at most {MAX_BYTES} are read."
        )
    return _Header(shape, fortran, dtype, stream.tell())


def _parse(raw: bytes, header: _Header) -> np.ndarray:
    """The array in these bytes, without a copy."""
    flat = np.frombuffer(raw, header.dtype, offset=header.offset)
    return flat.reshape(header.shape, order="F" if header.fortran else "C")
