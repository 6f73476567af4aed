"""An ``.h5`` file of unknown origin: checked with h5py, then read with PyTables."""

from contextlib import closing
from pathlib import Path

import h5py
import tables

from data.fixed_frame import FixedFrame, read_fixed_frame
from data.safe_hdf import check_hdf

_KEYS = ("df", "speed")  # of METR-LA and of PEMS-BAY, as they were published


def read_hdf_frame(path: Path) -> FixedFrame:
    """Read the one frame of speeds in an ``.h5`` file, believing nothing in it.

    Args:
        path: The file; its frame is in pandas' fixed format, under the key ``df`` or
            ``speed``.

    Returns:
        The frame.

    Raises:
        ValueError: If the file is truncated, could run code, or holds no such frame or
            two of them; the message names it.
    """
    try:
        with h5py.File(path, "r") as file:
            check_hdf(file)
        with closing(tables.open_file(str(path), "r")) as file:
            return read_fixed_frame(file, _key(file))
    except (ValueError, OSError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is refused as traffic data: {error}") from error


def _key(file: tables.File) -> str:
    """The key of the frame of speeds."""
    found = sorted(file.root._v_children)
    known = [key for key in _KEYS if key in found]
    if len(known) != 1:
        raise ValueError(
            f"it must hold one frame, under the key 'df' or 'speed', got {found}."
        )
    return known[0]
