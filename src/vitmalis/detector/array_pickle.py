"""Pickles of numeric arrays, such as detectron2's weights, read without running any of their code.

The `pickle` module is not used: it imports what a file names and calls it with arguments of the file's choice. Here a
small stack machine knows the instructions that build numbers, text, containers and arrays, and refuses all others.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vitmalis.errors import UserError

_NUMERIC = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")
"""Names of the dtypes that are admitted: no objects, structures, strings, dates or complex numbers."""

_MAX_DIMENSIONS = 32
_MARK = object()


class _Refused(Exception):
    """The file asks for something that is no numeric array."""


class PickledArray:
    """An array of the file; it has no values until the file has given them.

    Attributes:
        values: the array in this machine's byte order; None where the file gave none.
    """

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: np.ndarray | None = None


class _Dtype:
    """A numeric dtype under construction: its name comes first, its byte order afterwards."""

    __slots__ = ("dtype",)

    def __init__(self, name: object) -> None:
        if not isinstance(name, str) or not _NUMERIC.fullmatch(name):
            raise _Refused(f"an array of type {_shown(name)}")
        self.dtype = np.dtype(name)


class _Name(str):
    """Name of a class or function of the file, `module.name`; nothing is imported."""


class _ArrayMachine:
    """Executes a pickle's instructions on plain values.

    Args:
        size_bytes: size of the file. Bytes and arrays that it makes may not be larger in all, so that a small file
            that uses one value very often needs no large memory.
    """

    def __init__(self, size_bytes: int) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._left = {"bytes": size_bytes, "arrays": size_bytes}

    def run(self, file: BinaryIO) -> Any:
        """Execute all instructions; returns the value that the pickle holds."""
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name not in _INSTRUCTIONS:
                raise _Refused(f"the instruction {opcode.name}")
            _INSTRUCTIONS[opcode.name](self, argument)
        (value,) = self._stack
        return value

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def name(self, argument: str) -> None:
        self.push(_Name(argument.replace(" ", ".", 1)))

    def stack_name(self, _: None) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(module, str) or not isinstance(name, str):
            raise _Refused("a name that is no text")
        self.push(_Name(f"{module[:80]}.{name[:80]}"))

    def make_tuple(self, length: int) -> None:
        values = [self._stack.pop() for _ in range(length)]
        self.push(tuple(reversed(values)))

    def since_mark(self) -> list[Any]:
        values = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def make_dict(self, values: list[Any]) -> None:
        self.push({})
        self.set_items(values)

    def append(self, values: list[Any]) -> None:
        self._top(list).extend(values)

    def set_items(self, values: list[Any]) -> None:
        names = values[::2]
        if not all(isinstance(name, str | int) for name in names):  # a nested tuple takes for ever to hash
            raise _Refused("a dictionary with keys that are neither text nor numbers")
        self._top(dict).update(zip(names, values[1::2], strict=True))

    def _top(self, kind: type) -> Any:
        if not isinstance(self._stack[-1], kind):
            raise _Refused(f"a {kind.__name__} instruction on a {type(self._stack[-1]).__name__}")
        return self._stack[-1]

    def remember(self, index: int | None) -> None:
        self._memo[len(self._memo) if index is None else index] = self._stack[-1]

    def recall(self, index: int) -> None:
        self.push(self._memo[index])

    def call(self, _: None) -> None:
        """Do what the named function would do with these arguments; only the functions of arrays are known."""
        arguments, name = self._stack.pop(), self._stack.pop()
        if not isinstance(name, _Name):
            raise _Refused("a call of something without a name")
        match str(name), arguments:
            case "numpy.dtype", (code, *_):
                self.push(_Dtype(code))
            case (
                ("numpy.core.multiarray._reconstruct" | "numpy._core.multiarray._reconstruct"),
                ("numpy.ndarray", *_),
            ):
                self.push(PickledArray())
            case "_codecs.encode", (str(text), "latin1"):  # how protocol 2 holds bytes
                self.push(self._accounted("bytes", text.encode("latin1")))
            case "__builtin__.bytes", ():  # and no bytes
                self.push(b"")
            case "collections.OrderedDict", ():
                self.push({})
            case _:
                raise _Refused(f"a call of {_shown(name)}")

    def build(self, _: None) -> None:
        """Give the value under the top its state, which is the top."""
        state = self._stack.pop()
        match self._stack[-1], state:
            case _Dtype() as made, (int(), ("<" | ">" | "|" | "=") as order, None, None, None, *_):
                made.dtype = made.dtype.newbyteorder(order)
            case PickledArray() as made, (int(), tuple(shape), _Dtype() as kind, bool(fortran), str() | bytes() as raw):
                data = raw.encode("latin1") if isinstance(raw, str) else raw  # Python 2 had no bytes
                made.values = _array(shape, kind.dtype, fortran, self._accounted("arrays", data))
            case dict(), _:  # attributes of an OrderedDict, such as the version of a state dict
                pass
            case made, _:
                raise _Refused(f"a state of {type(made).__name__}")

    def _accounted(self, kind: str, data: bytes) -> bytes:
        self._left[kind] -= len(data)
        if self._left[kind] < 0:
            raise _Refused("more data than the file has")
        return data


def _array(shape: tuple[Any, ...], dtype: np.dtype, fortran: bool, data: bytes) -> np.ndarray:
    if len(shape) > _MAX_DIMENSIONS or not all(type(length) is int and 0 <= length < 2**48 for length in shape):
        raise _Refused("an array of an impossible shape")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise _Refused(f"an array of shape {shape} in {len(data)} bytes")
    values = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return values.astype(dtype.newbyteorder("="))


def _shown(value: object) -> str:
    """A text as it is, anything else by its type: the text of containers in containers has no bound."""
    return value[:80] if isinstance(value, str) else type(value).__name__


_CONSTANTS = (
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "NONE",
)  # fmt: skip

_INSTRUCTIONS: dict[str, Callable[[_ArrayMachine, Any], object]] = {
    **dict.fromkeys(_CONSTANTS, _ArrayMachine.push),
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _ArrayMachine.remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _ArrayMachine.recall),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": lambda machine, _: machine.push(_MARK),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "TUPLE1": lambda machine, _: machine.make_tuple(1),
    "TUPLE2": lambda machine, _: machine.make_tuple(2),
    "TUPLE3": lambda machine, _: machine.make_tuple(3),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "DICT": lambda machine, _: machine.make_dict(machine.since_mark()),
    "LIST": lambda machine, _: machine.push(machine.since_mark()),
    "APPEND": lambda machine, _: machine.append([machine._stack.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.set_items([machine._stack.pop(-2), machine._stack.pop()]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "GLOBAL": _ArrayMachine.name,
    "STACK_GLOBAL": _ArrayMachine.stack_name,
    "REDUCE": _ArrayMachine.call,
    "BUILD": _ArrayMachine.build,
}


def read_array_pickle(path: Path) -> Any:
    """Read a pickle of nested containers of numbers, text and numeric arrays.

    Returns:
        Its value; arrays are `PickledArray`s.

    Raises:
        UserError: the file cannot be read, is broken, or asks for anything else.
    """
    try:
        with path.open("rb") as file:
            return _ArrayMachine(path.stat().st_size).run(file)
    except Exception as error:  # a hostile or broken pickle can raise anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"model weights '{path}' are refused: a pickle may hold numeric arrays alone ({reason})"
        ) from error
