"""Pickles of unknown origin, read without running anything they ask for.

``pickle.Unpickler`` calls whatever a pickle names. Here ``find_class`` knows a fixed
table of names and gives, for each, a stand-in of this module: none has a ``__dict__``
or a writable slot (a pickle can set attributes on what it is given), and each checks
its arguments before NumPy sees a number. An array is built only if its bytes are all
there, so a pickle cannot ask for more memory than it is long. Before that, ``_walk``
reads the opcodes: those that lists, dicts, strings, numbers and arrays never use
(persistent ids, extension codes, instances, buffers that come apart) and memo slots
far beyond the pickle's length (which Python's unpickler would allocate) are refused
unread.
"""

import io
import math
import pickle
import pickletools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

MAX_BYTES = 2**30  # of a file, and of what it holds as float64

_PLAIN_OPCODES = frozenset(
    """PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1
    LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES
    BINBYTES8 BYTEARRAY8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_LIST LIST
    APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2
    TUPLE3 PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET MEMOIZE GLOBAL STACK_GLOBAL
    REDUCE BUILD""".split()
)
_MAX_TUPLES = 1000  # deep nests of tuples overflow the C stack when hashed
_OPCODES = {opcode.code.encode("latin1"): opcode for opcode in pickletools.opcodes}
_NUMBERS = re.compile(r"[<>=|]?[fiub]\d{1,2}")


def read_pickle(path: Path) -> object:
    """Lists, dicts, strings, numbers, ``PickledArray``; a ValueError names the file."""
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{path} must have at most {MAX_BYTES} bytes, got {size}.")
    try:
        return unpickle(path.read_bytes(), _ARRAY_NAMES)
    except ValueError as error:
        raise ValueError(f"{path} is refused as a pickle: {error}") from error


def unpickle(data: bytes, admitted: Mapping[str, object]) -> object:
    """Unpickle plain data; each ``"module.name"`` admitted becomes its stand-in."""
    tuples = 0
    for name, argument in _walk(data):
        if name == "INST":
            raise ValueError(_unwanted(str(argument).replace(" ", ".")))
        if name not in _PLAIN_OPCODES:
            raise ValueError(f"its opcode {name} is not one of plain data.")
        tuples += name.startswith("TUPLE")
        if tuples > _MAX_TUPLES:
            raise ValueError(f"it makes more than {_MAX_TUPLES} tuples.")
    try:
        return _Unpickler(data, admitted).load()
    except ValueError:
        raise
    except Exception as error:  # a malformed pickle can raise nearly anything
        raise ValueError(f"it is malformed: {error}.") from error


def _walk(data: bytes) -> Iterator[tuple[str, object]]:
    """The opcodes of a pickle and their arguments, nothing executed."""
    stream = io.BytesIO(data)
    while (code := stream.read(1)) in _OPCODES:
        opcode = _OPCODES[code]
        argument = None
        if opcode.name == "STRING":  # Python 2's need not be ASCII, as genops wants
            argument = stream.readline()
        elif opcode.arg is not None:
            argument = opcode.arg.reader(stream)
        if "PUT" in opcode.name and int(argument or 0) > len(data):
            raise ValueError(f"memo slot {argument} in a pickle of {len(data)} bytes.")
        yield opcode.name, argument
        if opcode.name == "STOP":
            return
    where = stream.tell() - len(code)
    if code:
        raise ValueError(f"byte {where} is {code!r}, which is no pickle opcode.")
    raise ValueError(f"it is cut off: no end within its {len(data)} bytes.")


class _Unpickler(pickle.Unpickler):
    """Finds no class but the stand-ins it was given."""

    def __init__(self, data: bytes, admitted: Mapping[str, object]):
        super().__init__(io.BytesIO(data), encoding="latin1")
        self._admitted = admitted

    def find_class(self, module: str, name: str, /) -> object:
        if (wanted := f"{module}.{name}") not in self._admitted:
            raise ValueError(_unwanted(wanted))
        return self._admitted[wanted]


def _unwanted(wanted: str) -> str:
    return f"it asks for {wanted[:200]!r}, which is not admitted."


class PickledArray:
    """A numeric array out of a pickle; its values are None if its bytes never came."""

    __slots__ = ("values",)

    def __init__(self, values: np.ndarray | None = None):
        self.values = values

    def __setstate__(self, state: object) -> None:
        match state:
            case (int(), tuple(shape), _DType() as kind, fortran, raw):
                self.values = _array(raw, kind, shape, "F" if fortran else "C")
            case _:
                raise ValueError("an array's state is not (version, shape, type, ...).")


class _DType:
    """Stands for a ``numpy.dtype`` of numbers."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: np.dtype):
        self.dtype = dtype

    def __setstate__(self, state: object) -> None:
        match state:
            case (int(), "<" | ">" | "|" | "=" as order, None, None, None, *_):
                self.dtype = self.dtype.newbyteorder(order)
            case _:
                raise ValueError("an array's type is not one of plain numbers.")


class _NDArray:
    """Stands for ``numpy.ndarray``, which is only ever handed on."""

    __slots__ = ()


def _array(raw: object, kind: _DType, shape: tuple, order: str) -> np.ndarray:
    """The numbers, after checking that they are all there."""
    if isinstance(raw, str):
        raw = raw.encode("latin1")
    if not isinstance(raw, bytes | bytearray) or order not in ("C", "F"):
        raise ValueError("an array's numbers are not bytes in a known order.")
    if not all(isinstance(size, int) and 0 <= size <= len(raw) for size in shape):
        raise ValueError("an array's shape does not fit its bytes.")
    numbers = math.prod(shape[:8])
    if len(shape) > 8 or numbers * kind.dtype.itemsize != len(raw):
        raise ValueError(
            f"an array of shape {shape[:8]} and type {kind.dtype} needs "
            f"{numbers * kind.dtype.itemsize} bytes, got {len(raw)}."
        )
    if 8 * numbers > MAX_BYTES:
        raise ValueError(
            f"an array of shape {shape} takes {8 * numbers} bytes as float64, at most "
            f"{MAX_BYTES} are read."
        )
    flat = np.frombuffer(bytes(raw), kind.dtype)  # a copy: a pickle can edit bytearrays
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _stand_in(function: Callable[..., object]) -> object:
    """The function as an object that can be called, but not changed."""
    methods = {"__slots__": (), "__call__": staticmethod(function)}
    return type(function.__name__, (), methods)()


@_stand_in
def _make_dtype(spec: object, align: object = 0, copy: object = 0) -> _DType:
    if not isinstance(spec, str) or not _NUMBERS.fullmatch(spec):
        what = spec[:40] if isinstance(spec, str) else type(spec).__name__
        raise ValueError(f"arrays must hold plain numbers, got type {what!r}.")
    return _DType(np.dtype(spec))


@_stand_in
def _reconstruct(subtype: object, shape: object, kind: object) -> PickledArray:
    """An array whose state follows: what protocols below 5 write."""
    if not isinstance(subtype, _NDArray) or shape != (0,):
        raise ValueError("_reconstruct is called for something not an array.")
    return PickledArray()


@_stand_in
def _from_buffer(
    raw: object, kind: object, shape: object, order: object, axes: object = None
) -> PickledArray:
    """An array whose numbers come along: what protocol 5 writes."""
    if not isinstance(kind, _DType) or not isinstance(shape, tuple) or axes is not None:
        raise ValueError("_frombuffer is called for something not an array.")
    return PickledArray(_array(raw, kind, shape, str(order)))


@_stand_in
def _scalar(kind: object, raw: object) -> object:
    """A number of NumPy's, as which ids are often kept."""
    if not isinstance(kind, _DType):
        raise ValueError("scalar is called for something not a number.")
    return _array(raw, kind, (), "C").item()


@_stand_in
def _encode(text: object, encoding: object) -> bytes:
    """How protocol 2 spells bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("_codecs.encode is called for something not latin1 text.")
    return text.encode("latin1")


_ARRAY_NAMES: Mapping[str, object] = {
    "_codecs.encode": _encode,
    "numpy.dtype": _make_dtype,
    "numpy.ndarray": _NDArray(),
} | {
    f"numpy.{core}.{name}": stand_in  # numpy._core since NumPy 2
    for core in ("core", "_core")
    for name, stand_in in {
        "multiarray._reconstruct": _reconstruct,
        "multiarray.scalar": _scalar,
        "numeric._frombuffer": _from_buffer,
    }.items()
}
