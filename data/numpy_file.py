"""NumPy's ``.npy`` and ``.npz`` of unknown origin: numbers only, all of them there."""

import io
import math
import zipfile
from pathlib import Path

import numpy as np

from data.safe_pickle import MAX_BYTES

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npy(path: Path) -> np.ndarray:
    """Read the array of numbers in an ``.npy`` file; nothing is unpickled.

    Args:
        path: The file.

    Returns:
        The array, in the type it was stored in.

    Raises:
        ValueError: If the file is too large, truncated, or holds anything but numbers;
            the message names it.
    """
    try:
        _check_size(path.stat().st_size)
        return _parse(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is refused as .npy: {error}") from error


def read_npz(path: Path, key: str) -> np.ndarray:
    """Read one array of numbers out of an ``.npz`` archive; nothing is unpickled.

    Args:
        path: The archive.
        key: Name of the array.

    Returns:
        The array, in the type it was stored in.

    Raises:
        ValueError: If the archive is damaged or has no such array, or the array is too
            large, truncated, or of anything but numbers; the message names the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if key not in names:
                shown = [name[:40] for name in sorted(names)[:5]]
                raise ValueError(f"it must hold an array {key!r}, got {shown}.")
            member = archive.infolist()[names.index(key)]
            _check_size(member.file_size)
            return _parse(archive.read(member))
    except Exception as error:  # a damaged archive can raise nearly anything
        raise ValueError(f"{path} is refused as .npz: {error}") from error


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise ValueError(f"its array must have at most {MAX_BYTES} bytes, got {size}.")


def _parse(raw: bytes) -> np.ndarray:
    """The array in these bytes; ``numpy.load`` would first believe the header."""
    stream = io.BytesIO(raw)
    try:
        version = np.lib.format.read_magic(stream)
        shape, fortran, dtype = _HEADERS[version](stream)
    except Exception as error:  # the header is evaluated, and may be any text
        raise ValueError(f"it has no header of a plain array: {error}.") from error
    if dtype.kind not in "fiu":
        raise ValueError(f"it must hold numbers, got {dtype}.")
    there = len(raw) - stream.tell()
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != there:
        raise ValueError(
            f"an array of shape {shape} and type {dtype} needs "
            f"{math.prod(shape) * dtype.itemsize} bytes, got {there}."
        )
    flat = np.frombuffer(raw[stream.tell() :], dtype)
    return flat.reshape(shape, order="F" if fortran else "C")
