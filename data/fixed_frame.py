"""A pandas frame of numbers in HDF5's "fixed" format, read with PyTables.

Layout, for a frame under key ``df``: ``axis0`` holds the column labels, ``axis1`` the
index, and each of ``nblocks`` blocks its labels (``block0_items``) and its values
(``block0_values``), stored with one row per step when ``transposed`` is set. Time
stamps are int64 counts since 1970 in the unit that ``kind`` names: ``datetime64[us]``
from pandas 3, ``datetime64[ns]`` before, a bare ``datetime64`` (also ns) long before.

PyTables unpickles attributes of what it opens: only for files that
``data.safe_hdf.check_hdf`` let pass. It, not h5py, knows Blosc, in which pandas' users
compress; ``pandas.read_hdf`` would besides trust ``freq`` and the blocks' sizes.
"""

import datetime
import re
import zoneinfo
from typing import NamedTuple

import numpy as np
import pandas as pd
import tables
from jaxtyping import Float64

_STAMPS = re.compile(r"datetime64(\[(?:s|ms|us|ns)\])?")
_NOT_A_TIME = np.iinfo(np.int64).min


class FixedFrame(NamedTuple):
    """A frame of numbers with a time index.

    Attributes:
        values: The numbers, shape (T, N), columns in the order of ``columns``.
        time: The T time stamps.
        columns: Labels of the N columns, as text.
    """

    values: Float64[np.ndarray, "T N"]
    time: pd.DatetimeIndex
    columns: tuple[str, ...]


def read_fixed_frame(file: tables.File, key: str) -> FixedFrame:
    """Read a frame of numbers that pandas stored in the fixed format.

    Args:
        file: The open file, after ``data.safe_hdf.check_hdf`` let it pass.
        key: Name of the frame.

    Returns:
        The frame, its blocks joined.

    Raises:
        ValueError: If there is no such frame, its layout is another, its index is not
            of time stamps, its blocks are not numbers, or its columns repeat.
    """
    group = _child(file.root, key)
    if not isinstance(group, tables.Group):
        raise ValueError(
            f"key {key!r} must be a frame, but the file holds "
            f"{sorted(file.root._v_children)}."
        )
    if (found := _text(group, "pandas_type")) != "frame":
        raise ValueError(
            f"{key!r} must be a frame in pandas' fixed format (pandas_type 'frame'), "
            f"got {found!r}."
        )
    time = _read_time(_dataset(group, "axis1"))
    columns = _read_labels(_dataset(group, "axis0"))
    if not columns or not len(time):
        raise ValueError(
            f"{key!r} is empty: {len(time)} steps, {len(columns)} columns."
        )
    if len(set(columns)) < len(columns):
        twice = next(label for label in columns if columns.count(label) > 1)
        raise ValueError(f"column labels must differ, but {twice!r} occurs twice.")
    return FixedFrame(_read_blocks(group, time, columns), time, columns)


def _read_blocks(
    group: tables.Group, time: pd.DatetimeIndex, columns: tuple[str, ...]
) -> np.ndarray:
    """All blocks, each column in its place."""
    values = np.empty((len(time), len(columns)))
    place = {label: position for position, label in enumerate(columns)}
    blocks = int(_number(group, "nblocks"))
    filled: list[str] = []
    for block in range(min(blocks, len(columns))):
        items = _read_labels(_dataset(group, f"block{block}_items"))
        node = _dataset(group, f"block{block}_values")
        numbers = _read_numbers(node)
        if numbers.shape != (len(time), len(items)):
            raise ValueError(
                f"{node._v_pathname!r} must hold {len(time)} steps of {len(items)} "
                f"columns, got {numbers.shape}."
            )
        filled.extend(items)
        if not place.keys() >= set(items):
            raise ValueError(
                f"{node._v_pathname!r} has columns that 'axis0' does not name."
            )
        values[:, [place[label] for label in items]] = numbers
    if sorted(filled) != sorted(columns):
        raise ValueError(
            f"the {blocks} blocks must hold each of the {len(columns)} columns once, "
            f"got {len(filled)} columns."
        )
    return values


def _read_numbers(node: tables.Array) -> np.ndarray:
    """A block's values, one row per step."""
    stored = _text(node, "value_type") or str(node.dtype)
    if node.dtype.kind not in "fiu" or stored.startswith(
        ("datetime", "time", "period")
    ):
        raise ValueError(f"{node._v_pathname!r} must hold numbers, got {stored}.")
    numbers = np.asarray(node.read())
    return numbers if _number(node, "transposed") else numbers.T


def _read_labels(node: tables.Array) -> tuple[str, ...]:
    """Column labels as text, stored as strings or as integers."""
    if node.ndim != 1 or node.dtype.kind not in "Siu":
        raise ValueError(
            f"{node._v_pathname!r} must be a list of strings or integers, got "
            f"{node.dtype} of shape {node.shape} (kind {_text(node, 'kind')!r})."
        )
    labels = np.asarray(node.read())
    if node.dtype.kind == "S":
        return tuple(label.decode("utf-8") for label in labels.tolist())
    if (kind := _text(node, "kind")) != "integer":
        raise ValueError(
            f"{node._v_pathname!r} must hold sensor ids, got kind {kind!r}."
        )
    return tuple(str(label) for label in labels.tolist())


def _read_time(node: tables.Array) -> pd.DatetimeIndex:
    """The index, in the unit it was stored in."""
    kind = _text(node, "kind")
    match = _STAMPS.fullmatch(kind)
    if (
        match is None
        or node.dtype.kind != "i"
        or node.dtype.itemsize != 8
        or node.ndim != 1
    ):
        raise ValueError(
            f"the index {node._v_pathname!r} must be time stamps (kind "
            f"'datetime64[...]'), got kind {kind!r} stored as {node.dtype}."
        )
    stamps = np.asarray(node.read()).astype(np.int64)
    if (stamps == _NOT_A_TIME).any():
        step = int(np.argmax(stamps == _NOT_A_TIME))
        raise ValueError(f"the index {node._v_pathname!r} has no time at step {step}.")
    time = pd.DatetimeIndex(stamps.view(f"datetime64{match[1] or '[ns]'}"))
    zone = getattr(node._v_attrs, "tz", None)
    if not isinstance(zone, datetime.timezone) and zone is not None:
        name = _text(node, "tz")
        try:
            zone = zoneinfo.ZoneInfo(name)
        except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
            raise ValueError(
                f"the index {node._v_pathname!r} has no known zone: {name!r}."
            ) from error
    return time if zone is None else time.tz_localize("UTC").tz_convert(zone)


def _child(group: tables.Group, name: str) -> tables.Node | None:
    return group._v_children[name] if name in group._v_children else None


def _dataset(group: tables.Group, name: str) -> tables.Array:
    node = _child(group, name)
    if not isinstance(node, tables.Array):
        raise ValueError(
            f"{group._v_pathname!r} must have a data set {name!r}: a plain index."
        )
    if "shape" in node._v_attrs:  # pandas' mark that a placeholder is stored
        raise ValueError(f"{node._v_pathname!r} must not be empty.")
    return node


def _text(node: tables.Node, name: str) -> str:
    """A string attribute as text; '' if there is none."""
    value = getattr(node._v_attrs, name, "")
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _number(node: tables.Node, name: str) -> int:
    """An integer or boolean attribute; 0 if there is none."""
    value = getattr(node._v_attrs, name, 0)
    if not isinstance(value, int | np.integer | np.bool_):
        raise ValueError(
            f"attribute {name!r} of {node._v_pathname!r} must be an integer."
        )
    return int(value)
