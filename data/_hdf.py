"""The one frame of speeds in an ``.h5`` file of unknown origin, read with h5py alone.

PyTables, and so ``pandas.read_hdf``, unpickles attributes and objects of what it opens:
a hostile file runs code. h5py never unpickles. Besides, only what makes up the frame is
looked at: arrays of numbers or of strings of fixed length, behind hard links, stored in
the file itself, in a compression that pandas writes, their size known before they are
read; and a few attributes that are numbers or texts.

Layout of pandas' "fixed" format, for a frame under key ``df``: ``axis0`` holds the
column labels, ``axis1`` the index, and each of ``nblocks`` blocks its labels
(``block0_items``) and its values (``block0_values``), stored with one row per step when
``transposed`` is set. Time stamps are int64 counts since 1970 in the unit that ``kind``
names: ``datetime64[us]`` from pandas 3, ``datetime64[ns]`` before, a bare
``datetime64`` (also ns) long before.
"""

import datetime
import math
import re
import zoneinfo
from pathlib import Path
from typing import NamedTuple

import h5py
import h5py.h5l
import numpy as np
import pandas as pd
from jaxtyping import Float64

from data._pickles import MAX_BYTES, unpickle

_KEYS = ("df", "speed")  # of METR-LA and of PEMS-BAY, as they were published
_STAMPS = re.compile(r"datetime64(\[(?:s|ms|us|ns)\])?")
_NOT_A_TIME = np.iinfo(np.int64).min
_MAX_ATTRIBUTE = 2**13
_PLAIN_ATTRIBUTES = (
    h5py.h5t.INTEGER,
    h5py.h5t.FLOAT,
    h5py.h5t.STRING,
    h5py.h5t.BITFIELD,  # how PyTables stores booleans
    h5py.h5t.ENUM,  # how h5py does
)
_KINDS = {
    h5py.h5t.VLEN: "variable-length or object",
    h5py.h5t.REFERENCE: "reference",
    h5py.h5t.COMPOUND: "compound",
    h5py.h5t.OPAQUE: "opaque",
    h5py.h5t.ENUM: "enumerated",
    h5py.h5t.BITFIELD: "boolean",
    h5py.h5t.ARRAY: "nested array",
}
# Registered numbers of HDF5 filters: deflate, shuffle and fletcher32 are its own.
_OWN_FILTERS = (1, 2, 3)
_PLUGINS = {307: "bzip2", 32001: "blosc", 32026: "blosc2"}
# UTC and fixed offsets are pickled. Both types are C's: a pickle cannot change them.
_ZONES = {
    "datetime.timezone": datetime.timezone,
    "datetime.timedelta": datetime.timedelta,
}


class FixedFrame(NamedTuple):
    """A frame of numbers with a time index."""

    values: Float64[np.ndarray, "T N"]
    time: pd.DatetimeIndex
    columns: tuple[str, ...]


def read_hdf_frame(path: Path) -> FixedFrame:
    """The frame under the key ``df`` or ``speed``; a ValueError names the file."""
    try:
        with h5py.File(path, "r") as file:
            return _Frame(file).read()
    except (ValueError, OSError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is refused as traffic data: {error}") from error


class _Frame:
    """A group that holds a frame, each of its arrays checked before it is read."""

    def __init__(self, file: h5py.File):
        keys = [key for key in _KEYS if file.id.links.exists(key.encode())]
        if len(keys) != 1:
            raise ValueError(
                "it must hold one frame, under the key 'df' or 'speed', got "
                f"{sorted(file)[:5]}."
            )
        group = _behind_hard_link(file, keys[0])
        if not isinstance(group, h5py.Group):
            raise ValueError(f"{keys[0]!r} must be a frame.")
        if (found := _text(group, "pandas_type")) != "frame":
            raise ValueError(
                f"{keys[0]!r} must be a frame written with format='fixed' (pandas_type "
                f"'frame'), got {found!r}."
            )
        self._group, self._bytes = group, 0

    def read(self) -> FixedFrame:
        """The time, the columns, and all blocks, each column in its place."""
        time, columns = self._time(), self._labels("axis0")
        if not columns or not len(time):
            raise ValueError(f"it is empty: {len(time)} steps, {len(columns)} columns.")
        if len(set(columns)) < len(columns):
            twice = next(label for label in columns if columns.count(label) > 1)
            raise ValueError(f"column labels must differ, but {twice!r} occurs twice.")
        number = _number(self._group, "nblocks")
        blocks = [
            self._block(f"block{block}", len(time))
            for block in range(min(number, len(columns)))
        ]
        filled = [label for labels, _ in blocks for label in labels]
        if sorted(filled) != sorted(columns):
            raise ValueError(
                f"the {number} blocks must hold each of the {len(columns)} columns "
                f"once, got {len(filled)} columns."
            )
        values = np.empty((len(time), len(columns)))
        place = {label: position for position, label in enumerate(columns)}
        for labels, numbers in blocks:
            values[:, [place[label] for label in labels]] = numbers
        return FixedFrame(values, time, columns)

    def _block(self, name: str, steps: int) -> tuple[tuple[str, ...], np.ndarray]:
        """Labels and numbers of a block, one row per step."""
        labels, node = self._labels(f"{name}_items"), self._array(f"{name}_values")
        stored = _text(node, "value_type") or str(node.dtype)
        if node.dtype.kind not in "fiu" or stored.startswith(
            ("datetime", "time", "period")
        ):
            raise ValueError(f"{node.name!r} must hold numbers, got {stored}.")
        numbers = np.asarray(node[()])
        numbers = numbers if _number(node, "transposed") else numbers.T
        if numbers.shape != (steps, len(labels)):
            raise ValueError(
                f"{node.name!r} must hold {steps} steps of {len(labels)} columns, got "
                f"{numbers.shape}."
            )
        return labels, numbers

    def _labels(self, name: str) -> tuple[str, ...]:
        """Column labels as text, stored as strings or as integers."""
        node = self._array(name)
        kind = _text(node, "kind")
        if node.ndim != 1 or node.dtype.kind not in "Siu":
            raise ValueError(
                f"{node.name!r} must be a list of strings or integers, got "
                f"{node.dtype} of shape {node.shape} (kind {kind!r})."
            )
        if node.dtype.kind != "S" and kind != "integer":
            raise ValueError(f"{node.name!r} must hold sensor ids, got kind {kind!r}.")
        labels = np.asarray(node[()]).tolist()
        return tuple(
            label.decode("utf-8") if isinstance(label, bytes) else str(label)
            for label in labels
        )

    def _time(self) -> pd.DatetimeIndex:
        """The index, in the unit that it was stored in."""
        node = self._array("axis1")
        kind = _text(node, "kind")
        match = _STAMPS.fullmatch(kind)
        if match is None or node.dtype.str[1:] != "i8" or node.ndim != 1:
            raise ValueError(
                f"the index {node.name!r} must be time stamps (kind "
                f"'datetime64[...]'), got kind {kind!r} stored as {node.dtype}."
            )
        stamps = np.asarray(node[()]).astype(np.int64)
        if (stamps == _NOT_A_TIME).any():
            step = int(np.argmax(stamps == _NOT_A_TIME))
            raise ValueError(f"the index {node.name!r} has no time at step {step}.")
        time = pd.DatetimeIndex(stamps.view(f"datetime64{match[1] or '[ns]'}"))
        zone = _zone(node)
        return time if zone is None else time.tz_localize("UTC").tz_convert(zone)

    def _array(self, name: str) -> h5py.Dataset:
        """An array of the group, of which nothing has been read yet."""
        node = _behind_hard_link(self._group, name)
        if not isinstance(node, h5py.Dataset):
            raise ValueError(
                f"{self._group.name!r} must have a data set {name!r}: a plain index."
            )
        if h5py.h5a.exists(node.id, b"shape"):  # pandas' mark of a placeholder
            raise ValueError(f"{node.name!r} must not be empty.")
        _check_type(node)
        _check_storage(node)
        stored = max(math.prod(node.shape), math.prod(node.chunks or ()))
        size = stored * max(8, node.dtype.itemsize)
        self._bytes += size
        if self._bytes > MAX_BYTES:
            raise ValueError(
                f"{node.name!r} of shape {node.shape} takes {size} bytes as float64, "
                f"and the frame so far {self._bytes}; at most {MAX_BYTES} are read."
            )
        return node


def _behind_hard_link(group: h5py.Group, name: str) -> h5py.HLObject | None:
    """What a link leads to, or None; no other kind of link is followed."""
    links, key = group.id.links, name.encode()
    if not links.exists(key):
        return None
    if links.get_info(key).type != h5py.h5l.TYPE_HARD:
        place = f"{str(group.name).rstrip('/')}/{name}"
        raise ValueError(f"{place!r} must be a hard link.")
    return group[name]


def _check_type(node: h5py.Dataset) -> None:
    kind = node.id.get_type()
    what = _KINDS.get(kind.get_class())
    if isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str():
        what = "variable-length string"
    if what is not None:
        raise ValueError(
            f"{node.name!r} must hold numbers or fixed strings, got {what} data."
        )
    if node.shape is None:
        raise ValueError(f"{node.name!r} must have a shape, got an empty data space.")


def _check_storage(node: h5py.Dataset) -> None:
    """Refuse what is not in the file, and filters that pandas never uses."""
    layout = node.id.get_create_plist()
    if layout.get_layout() == h5py.h5d.VIRTUAL or layout.get_external_count():
        raise ValueError(f"{node.name!r} must be stored in the file itself.")
    if math.prod(node.shape) and not node.id.get_storage_size():
        raise ValueError(
            f"{node.name!r} has shape {node.shape}, but nothing is stored."
        )
    for index in range(layout.get_nfilters()):
        number, *_, name = layout.get_filter(index)
        if number in _PLUGINS:
            import hdf5plugin

            hdf5plugin.register(_PLUGINS[number], force=False)
        elif number not in _OWN_FILTERS:
            raise ValueError(
                f"{node.name!r} must be compressed with zlib, bzip2, blosc or blosc2, "
                f"got {name.decode('utf-8', 'replace')[:40]!r} (filter {number})."
            )


def _zone(node: h5py.Dataset) -> datetime.tzinfo | None:
    """The zone of an index: a name, or an offset that pandas pickles."""
    text = _text(node, "tz")
    if not h5py.h5a.exists(node.id, b"tz"):
        return None
    try:
        if not text.endswith("."):
            return zoneinfo.ZoneInfo(text)
        zone = unpickle(text.encode("utf-8"), _ZONES)
        if isinstance(zone, datetime.timezone):
            return zone
        raise ValueError("it is no zone.")
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
        raise ValueError(
            f"the index {node.name!r} has no known zone: {text[:40]!r} ({error})."
        ) from error


def _attribute(node: h5py.HLObject, name: str) -> object:
    """A number or a text; None if there is none."""
    key = name.encode()
    if not h5py.h5a.exists(node.id, key):
        return None
    attribute = h5py.h5a.open(node.id, key)
    plain = attribute.get_type().get_class() in _PLAIN_ATTRIBUTES
    if not plain or attribute.get_storage_size() > _MAX_ATTRIBUTE:
        raise ValueError(
            f"attribute {name!r} of {node.name!r} must be a number or a short text."
        )
    return node.attrs[name]


def _text(node: h5py.HLObject, name: str) -> str:
    """A text attribute; '' if there is none, or an empty one."""
    value = _attribute(node, name)
    if value is None or isinstance(value, h5py.Empty):
        return ""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _number(node: h5py.HLObject, name: str) -> int:
    """An integer or boolean attribute; 0 if there is none."""
    value = _attribute(node, name)
    if not isinstance(value, int | np.integer | np.bool_ | None):
        raise ValueError(f"attribute {name!r} of {node.name!r} must be an integer.")
    return int(value or 0)
