"""HDF5 files of unknown origin, walked before anything in them is believed.

PyTables unpickles every scalar string attribute that ends in a dot, of every node it
opens, and the elements of object arrays; ``pandas.read_hdf`` opens files with it. So a
hostile file would run code. ``check_hdf`` walks every object that hard links reach,
with h5py, which never unpickles, and refuses what pandas does not write for a frame of
numbers: links and storage that lead out of the file, object and variable-length data,
and attribute pickles that ask for more than pandas' own offsets (the ``freq`` of an
index is one). It is the only guard: what passes is opened with PyTables, which then
does run those. So a pickle with names is rehearsed, with a stand-in for each admitted
name that can be called and nothing else; one that is no whole pickle is refused.
"""

import math
from collections.abc import Iterator

import h5py
import numpy as np
import pandas as pd

from data.safe_pickle import MAX_BYTES, load_restricted, walk

_MAX_OBJECTS = 10_000
_MAX_ATTRIBUTE = 2**20
_ASKS_FOR_A_NAME = frozenset(
    "GLOBAL STACK_GLOBAL INST EXT1 EXT2 EXT4 PERSID BINPERSID".split()
)
_PLAIN_ATTRIBUTES = (
    h5py.h5t.INTEGER,
    h5py.h5t.FLOAT,
    h5py.h5t.STRING,
    h5py.h5t.BITFIELD,
    h5py.h5t.ENUM,
)
_KINDS = {
    h5py.h5t.VLEN: "variable-length or object",
    h5py.h5t.REFERENCE: "reference",
    h5py.h5t.COMPOUND: "compound (a frame must be written with format='fixed')",
    h5py.h5t.OPAQUE: "opaque",
    h5py.h5t.ENUM: "enumerated",
    h5py.h5t.BITFIELD: "boolean",
    h5py.h5t.ARRAY: "nested array",
}


class _Made:
    """Stands for what a call of an admitted name returns; can be given its state."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        pass


class _Name:
    """Stands for an admitted name: can be called, but not changed."""

    __slots__ = ()

    def __call__(self, *args: object) -> _Made:
        return _Made()


# pandas < 1.1 wrote an offset as copyreg._reconstructor(offset, object, None) and its
# attributes, a timedelta among them; pandas >= 2 writes the zone UTC as a timezone.
_ADMITTED = dict.fromkeys(
    [
        f"{module}.{name}"
        for module in ("pandas._libs.tslibs.offsets", "pandas.tseries.offsets")
        for name in vars(pd.tseries.offsets)["__all__"]
    ]
    + ["copyreg._reconstructor", "copy_reg._reconstructor", "builtins.object"]
    + ["__builtin__.object", "datetime.timedelta", "datetime.timezone"],
    _Name(),
)


def check_hdf(file: h5py.File) -> None:
    """Refuse an HDF5 file that holds anything but plain arrays and attributes.

    Args:
        file: The file, opened with h5py.

    Raises:
        ValueError: If it has a link that is not a hard one, a data set that is neither
            numbers nor fixed-length strings, stored elsewhere or, as float64, too
            large, or an attribute pickle that is not one of pandas' offsets.
    """
    total = 0
    for place, node in _nodes(file):
        _check_attributes(place, node)
        if isinstance(node, h5py.Dataset):
            _check_dataset(place, node)
            size = math.prod(node.shape) * max(8, node.dtype.itemsize)
            if (total := total + size) > MAX_BYTES:
                raise ValueError(
                    f"{place!r} of shape {node.shape} takes {size} bytes as float64, "
                    f"and the data sets so far {total}; at most {MAX_BYTES} are read."
                )
        elif not isinstance(node, h5py.Group):
            raise ValueError(f"{place!r} must be a group or a data set.")


def _nodes(file: h5py.File) -> Iterator[tuple[str, h5py.HLObject]]:
    """Every object once, with its path; not one link that leads elsewhere."""
    seen: set[h5py.HLObject] = set()
    pending: list[tuple[str, h5py.HLObject]] = [("/", file["/"])]
    while pending:
        place, node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        yield place, node
        if not isinstance(node, h5py.Group):
            continue
        if len(node) + len(seen) + len(pending) > _MAX_OBJECTS:
            raise ValueError(f"it must have at most {_MAX_OBJECTS} objects.")
        for name in node:
            child = f"{place.rstrip('/')}/{name}"
            link = node.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                kind = type(link).__name__
                raise ValueError(f"{child!r} must be a hard link, got a {kind}.")
            pending.append((child, node[name]))


def _check_dataset(place: str, node: h5py.Dataset) -> None:
    kind = node.id.get_type()
    variable = isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str()
    if variable or kind.get_class() in _KINDS:
        what = "variable-length string" if variable else _KINDS[kind.get_class()]
        raise ValueError(
            f"{place!r} must hold numbers or fixed strings, got {what} data."
        )
    layout = node.id.get_create_plist()
    if layout.get_layout() == h5py.h5d.VIRTUAL or layout.get_external_count():
        raise ValueError(f"{place!r} must be stored in the file itself.")
    if node.shape is None:
        raise ValueError(f"{place!r} must have a shape, got an empty data space.")
    if math.prod(node.shape) and not node.id.get_storage_size():
        raise ValueError(f"{place!r} has shape {node.shape}, but nothing is stored.")


def _check_attributes(place: str, node: h5py.HLObject) -> None:
    for index in range(h5py.h5a.get_num_attrs(node.id)):
        attribute = h5py.h5a.open(node.id, index=index)
        name = attribute.name.decode("utf-8", "replace")
        kind = attribute.get_type().get_class()
        try:
            if kind not in _PLAIN_ATTRIBUTES:
                raise ValueError("it must be a number or a string.")
            if name == "FILTERS" and kind == h5py.h5t.STRING:
                # PyTables 1 pickled these, and PyTables edits the pickle before use
                raise ValueError("it must not be a string.")
            for text in _texts(node, attribute):
                _check_text(text)
        except ValueError as error:
            raise ValueError(f"attribute {name!r} of {place!r}: {error}") from error


def _texts(node: h5py.HLObject, attribute: h5py.h5a.AttrID) -> Iterator[bytes]:
    """The bytes of a string attribute, as they lie in the file."""
    kind = attribute.get_type()
    if not isinstance(kind, h5py.h5t.TypeStringID):
        return
    if attribute.get_space().get_simple_extent_type() == h5py.h5s.NULL:
        return
    if attribute.get_storage_size() > _MAX_ATTRIBUTE:
        raise ValueError(f"it must have at most {_MAX_ATTRIBUTE} bytes.")
    if kind.is_variable_str():
        for text in np.ravel(np.asarray(node.attrs[attribute.name], dtype=object)):
            raw = (
                text.encode("utf-8", "surrogateescape")
                if isinstance(text, str)
                else text
            )
            yield bytes(raw).rstrip(b"\0")
        return
    array = np.empty(attribute.shape, dtype=f"S{kind.get_size()}")
    attribute.read(array, mtype=kind)  # unconverted: a NUL inside must hide nothing
    yield from (bytes(text) for text in array.flat)


def _check_text(text: bytes) -> None:
    """Refuse a text that PyTables would unpickle into more than an offset."""
    if not text.endswith(b"."):
        return
    try:
        opcodes = {name for name, _ in walk(text)}
    except ValueError as error:
        raise ValueError(
            "it ends in a dot, so PyTables would unpickle it, but it is no whole "
            f"pickle: {error}"
        ) from error
    if opcodes & _ASKS_FOR_A_NAME:
        load_restricted(text, _ADMITTED)
