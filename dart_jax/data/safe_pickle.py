"""Read a pickle of plain values and numpy scalars, and nothing else.

Unpickling may call whatever the file names. This reader allows three globals, those with which a
numpy scalar is written, and replaces them by classes of its own: no function of numpy or of any
other library is ever called, and scalars become `int`, `float`, `bool` and `str`.
"""

import io
import pickle
import pickletools
import struct
from pathlib import Path

_STRUCT_CODES = {
    "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q",
    "u1": "B", "u2": "H", "u4": "I", "u8": "Q", "f4": "f", "f8": "d",
}  # fmt: skip
_UTF32 = {"<": "utf-32-le", ">": "utf-32-be"}


class UnsafePickle(ValueError):
    """The pickle asks for something other than plain values; the message says for what."""


class UnreadablePickle(ValueError):
    """The file is truncated, damaged or no pickle at all."""


class _Dtype:
    """Stands in for `numpy.dtype`: remembers kind, size and byte order."""

    __slots__ = ("byteorder", "code")

    def __init__(self, code: str, *_align_and_copy: object) -> None:
        if code not in _STRUCT_CODES and not (isinstance(code, str) and code.startswith("U")):
            raise UnsafePickle(f"a numpy value of dtype {code!r}, where number or text belongs")
        self.code = code
        self.byteorder = "<"

    def __setstate__(self, state: tuple) -> None:
        # (version, byte order, subarray, names, fields, item size, alignment, flags, ...)
        self.byteorder = ">" if state[1] == ">" else "<"


class _Scalar:
    """Stands in for numpy's scalar constructor; calling it returns the plain value.

    It is a class, since a pickle may write to a function's attributes but not to this one's.
    """

    __slots__ = ()

    def __new__(cls, dtype: _Dtype, data: bytes) -> object:
        if dtype.code in _STRUCT_CODES:
            return struct.unpack(dtype.byteorder + _STRUCT_CODES[dtype.code], data)[0]
        # numpy fills a text up to its width with zeros.
        return data.decode(_UTF32[dtype.byteorder]).rstrip("\0")

    def __setstate__(self, state: object) -> None:
        raise UnsafePickle("a numpy scalar with state of its own")


_ALLOWED = {
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "scalar"): _Scalar,
    ("numpy._core.multiarray", "scalar"): _Scalar,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _ALLOWED:
            raise UnsafePickle(f"it names {module}.{name}")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: object) -> object:
        raise UnsafePickle(f"it names the persistent object {pid!r}")


def _check_opcodes(data: bytes) -> None:
    """Refuse opcodes that `_Unpickler` alone would not notice, before any of them runs."""
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name.startswith("EXT"):
            # A code that was seen before in this process is looked up without find_class.
            raise UnsafePickle(f"it names the registered extension {argument}")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > len(data):
            # The memo is allocated up to its highest index: a few bytes could claim gigabytes.
            raise ValueError(f"memo index {argument}")


def load(path: Path) -> object:
    """Read a pickle file as plain Python values.

    Args:
        path: The file, of pickle protocol 3 or later where it holds numpy scalars.

    Raises:
        UnsafePickle: It names anything but a numpy number or text scalar; says file and name.
        UnreadablePickle: Truncated or damaged.
        FileNotFoundError: No such file.
    """
    data = Path(path).read_bytes()
    try:
        _check_opcodes(data)
        return _Unpickler(io.BytesIO(data)).load()
    except UnsafePickle as error:
        raise UnsafePickle(
            f"{path}: refused: {error}; only plain values and numpy scalars are read, "
            "so fetch the file again from its source"
        ) from error
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        OverflowError,
        struct.error,
    ) as error:
        # These are raised for bytes that are no pickle, by the documentation and by trial.
        raise UnreadablePickle(
            f"{path}: not a readable pickle ({error}); fetch the file again from its source"
        ) from error
