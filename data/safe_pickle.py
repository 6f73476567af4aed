"""Pickles of unknown origin, read without running anything they ask for.

``pickle.Unpickler`` calls whatever a pickle names. Here ``find_class`` admits a fixed
table of names and gives, for each, a stand-in of this module: none has a ``__dict__``
or a writable slot (a pickle can set attributes on what it is given), and each checks
its arguments before NumPy sees a number. An array is built only if its bytes are all
there, so a pickle cannot ask for more memory than it is long. Before that, ``walk``
reads the opcodes: those that lists, dicts, strings, numbers and arrays never use
(persistent ids, extension codes, instances) and memo slots far beyond the pickle's
length (which Python's unpickler would allocate) are refused unread.
"""

import io
import math
import pickle
import pickletools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

MAX_BYTES = 2**30

PLAIN_OPCODES = frozenset(
    """PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1
    LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES
    BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_LIST LIST APPEND
    APPENDS EMPTY_DICT DICT SETITEM SETITEMS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 PUT
    BINPUT LONG_BINPUT GET BINGET LONG_BINGET MEMOIZE GLOBAL STACK_GLOBAL REDUCE
    BUILD""".split()
)
_MAX_TUPLES = 1000  # deep nests of tuples overflow the C stack when hashed
_OPCODES = {opcode.code.encode("latin1"): opcode for opcode in pickletools.opcodes}
_NUMBERS = re.compile(r"[<>=|]?[fiub]\d{1,2}")


def walk(data: bytes) -> Iterator[tuple[str, object]]:
    r"""The opcodes of a pickle and their arguments, nothing executed.

    Unlike ``pickletools.genops`` it takes Python 2 strings that are not ASCII.

    Args:
        data: The pickle.

    Yields:
        Name and argument of each opcode, up to the final ``STOP``.

    Raises:
        ValueError: If an opcode is unknown or truncated, or a memo slot lies beyond the
            length of the pickle.

    Example:
        >>> [name for name, _ in walk(b"(lp0\n.")]
        ['MARK', 'LIST', 'PUT', 'STOP']
    """
    stream = io.BytesIO(data)
    while (code := stream.read(1)) in _OPCODES:
        opcode = _OPCODES[code]
        argument = None
        if opcode.name == "STRING":
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


def load_restricted(data: bytes, admitted: Mapping[str, object]) -> object:
    """Unpickle with only the given names to call.

    Args:
        data: The pickle; Python 2 strings are read as latin1.
        admitted: For each ``"module.name"`` a pickle may ask for, its stand-in.

    Returns:
        What the pickle holds.

    Raises:
        ValueError: If the pickle asks for another name, uses an opcode that plain data
            needs not, or is malformed.

    Example:
        >>> import pickle
        >>> load_restricted(pickle.dumps({"a": [1, 2.5]}), {})
        {'a': [1, 2.5]}
    """
    tuples = 0
    for name, argument in walk(data):
        if name == "INST":
            raise ValueError(_unwanted(str(argument).replace(" ", ".")))
        if name not in PLAIN_OPCODES:
            raise ValueError(
                f"its opcode {name} is not one of plain data up to protocol 4."
            )
        tuples += name.startswith("TUPLE")
        if tuples > _MAX_TUPLES:
            raise ValueError(f"it makes more than {_MAX_TUPLES} tuples.")
    try:
        return _Unpickler(data, admitted).load()
    except ValueError:
        raise
    except Exception as error:  # a malformed pickle can raise nearly anything
        raise ValueError(f"it is malformed: {error}.") from error


def load_plain_pickle(path: Path) -> object:
    """Read a pickle of lists, dicts, strings, numbers and numeric arrays, no more.

    Args:
        path: The file, of any pickle protocol below 5, of Python 2 or 3.

    Returns:
        What the file holds, with a ``PickledArray`` for each array.

    Raises:
        ValueError: If the file is too large, not a pickle, or asks for anything else.
    """
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{path} must have at most {MAX_BYTES} bytes, got {size}.")
    try:
        return load_restricted(path.read_bytes(), _ARRAY_NAMES)
    except ValueError as error:
        raise ValueError(f"{path} is refused as a pickle: {error}") from error


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
    """A numeric array out of a pickle, as yet empty if its bytes never came.

    Attributes:
        values: The array, or None.
    """

    __slots__ = ("values",)

    def __init__(self):
        self.values: np.ndarray | None = None

    def __setstate__(self, state: object) -> None:
        """Take the numbers, after checking that they are all there.

        Raises:
            ValueError: If the state is not that of a numeric array.
        """
        match state:
            case (
                int(),
                tuple(shape),
                _DType(dtype=dtype),
                fortran,
                str() | bytes() as raw,
            ):
                raw = raw.encode("latin1") if isinstance(raw, str) else raw
            case _:
                raise ValueError("an array's state is not (version, shape, type, ...).")
        if not all(isinstance(size, int) and 0 <= size <= len(raw) for size in shape):
            raise ValueError("an array's shape does not fit its bytes.")
        if len(shape) > 8 or math.prod(shape) * dtype.itemsize != len(raw):
            raise ValueError(
                f"an array of shape {shape[:8]} and type {dtype} needs "
                f"{math.prod(shape[:8]) * dtype.itemsize} bytes, got {len(raw)}."
            )
        flat = np.frombuffer(raw, dtype)
        self.values = flat.reshape(shape, order="F" if fortran else "C")


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


class _Reconstruct:
    """Stands for NumPy's ``_reconstruct``."""

    __slots__ = ()

    def __call__(self, subtype: object, shape: object, kind: object) -> PickledArray:
        if not isinstance(subtype, _NDArray) or shape != (0,):
            raise ValueError("_reconstruct is called for something not an array.")
        return PickledArray()


class _MakeDType:
    """Stands for ``numpy.dtype``."""

    __slots__ = ()

    def __call__(self, spec: object, align: object = 0, copy: object = 0) -> _DType:
        if not isinstance(spec, str) or not _NUMBERS.fullmatch(spec):
            what = spec[:40] if isinstance(spec, str) else type(spec).__name__
            raise ValueError(f"arrays must hold plain numbers, got type {what!r}.")
        return _DType(np.dtype(spec))


class _Encode:
    """Stands for ``_codecs.encode``: how protocol 2 spells bytes."""

    __slots__ = ()

    def __call__(self, text: object, encoding: object) -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise ValueError("_codecs.encode is called for something not latin1 text.")
        return text.encode("latin1")


_ARRAY_NAMES: Mapping[str, object] = {
    "_codecs.encode": _Encode(),
    "numpy.dtype": _MakeDType(),
    "numpy.ndarray": _NDArray(),
    "numpy.core.multiarray._reconstruct": _Reconstruct(),
    "numpy._core.multiarray._reconstruct": _Reconstruct(),
}
