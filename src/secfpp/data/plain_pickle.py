"""Pickles that hold data and nothing else, read without running them.

The opcodes are taken apart by `pickletools`, which executes none. A small machine then carries out those that build
tuples, lists, dicts, texts, bytes, numbers and NumPy arrays; whatever else a pickle asks for ends the reading. No name
in a file is ever looked up: the few that describe arrays are recognised as texts.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from secfpp.errors import DataError

_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_BUFFER_MODULES = ("numpy.core.numeric", "numpy._core.numeric")
_PLAIN = (str, bytes, bytearray, int, float, complex, bool, type(None), np.ndarray)
_KEYS = (str, bytes, int, float, bool, type(None))
_PUSHED = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_FRESH: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict}
_IGNORED = {"PROTO", "FRAME", "READONLY_BUFFER"}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}


class _NotPlainError(Exception):
    """Something that is no plain data."""


class _Mark:
    """Where the items of a container begin on the stack."""


@dataclass(frozen=True)
class _Name:
    """A name that a pickle mentions; never looked up."""

    module: str
    name: str


@dataclass(eq=False)
class _Unbuilt:
    """An array or number type whose state is yet to come, and where it is remembered."""

    start: Any
    places: list[int] = field(default_factory=list)


def read_plain_pickle(file: Path) -> Any:
    """What a pickle holds, of any protocol; texts of Python 2 are read as Latin-1.

    Args:
        file: a pickle, or an array as ``numpy.save`` writes it, object arrays too.

    Returns:
        Tuples, lists, dicts, texts, bytes, numbers and NumPy arrays, in each other.

    Raises:
        DataError: no such file, a damaged one, or one that holds, or would do, anything else.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from error
    try:
        return loads_plain(content)
    except _NotPlainError as error:
        raise DataError(
            f"{file}: holds {error}: only tuples, lists, dicts, texts, bytes, numbers and NumPy arrays are read from "
            "a pickle, as anything else could run code; get the file from its maker again, or save it as these"
        ) from error
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, MemoryError, AttributeError) as error:
        raise DataError(f"{file}: not a pickle, or damaged ({error}): get it again") from error


def loads_plain(content: bytes) -> Any:
    """As `read_plain_pickle`, of the file's content."""
    if content.startswith(np.lib.format.MAGIC_PREFIX):
        return _saved_array(content)
    return _Machine().run(content)


def _saved_array(content: bytes) -> np.ndarray:
    from io import BytesIO

    file = BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"NumPy format {version}")
    shape, fortran, dtype = read(file)
    if dtype.kind == "O":
        array: np.ndarray = _Machine().run(content[file.tell() :])
        return array
    return _array(_checked(dtype), shape, content[file.tell() :], fortran)


class _Machine:
    """A stack and a memory, as pickles expect them."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.unbuilt = 0

    def run(self, content: bytes) -> Any:
        """The value that the pickle leaves."""
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                break
            self._step(opcode.name, argument)
        (value,) = self.stack
        if self.unbuilt:
            raise _NotPlainError("an unfinished array")
        _require_plain(value)
        return value

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _PUSHED:
            stack.append(_PUSHED[name])
        elif name in _FRESH:
            stack.append(_FRESH[name]())
        elif name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
            self._remember(len(self.memo) if name == "MEMOIZE" else argument)
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            module, named = argument.split(" ", 1) if name == "GLOBAL" else (stack.pop(-2), stack.pop())
            stack.append(_named(module, named))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(self._reduced(function, arguments))
        elif name == "BUILD":
            self._build(stack.pop())
        elif name not in _IGNORED:
            self._container(name)

    def _container(self, name: str) -> None:
        stack = self.stack
        if name == "MARK":
            stack.append(_Mark())
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            n = int(name[-1])
            stack[-n:] = [tuple(stack[-n:])]
        elif name == "TUPLE":
            stack.append(tuple(self._marked()))
        elif name == "LIST":
            stack.append(self._marked())
        elif name == "DICT":
            stack.append({})
            self._set(self._marked(1))
        elif name == "APPEND":
            self._extend([stack.pop()])
        elif name == "APPENDS":
            self._extend(self._marked())
        elif name == "SETITEM":
            self._set([stack.pop(-2), stack.pop()])
        elif name == "SETITEMS":
            self._set(self._marked())
        elif name in ("POP", "POP_MARK", "DUP"):
            raise ValueError(f"the opcode {name}, which no program writes")
        else:
            raise _NotPlainError(f"an object (opcode {name})")

    def _marked(self, above: int = 0) -> list[Any]:
        """The items since the last mark, taken off the stack; `above` of them stay."""
        end = len(self.stack) - above
        start = max(i for i in range(end) if isinstance(self.stack[i], _Mark))
        items = self.stack[start + 1 : end]
        del self.stack[start:end]
        return items

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise _NotPlainError("an object that is no list")
        self.stack[-1].extend(items)

    def _set(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict):
            raise _NotPlainError("an object that is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, _KEYS):
                raise _NotPlainError(f"a dict with {type(key).__name__} as key")
            self.stack[-1][key] = value

    def _remember(self, place: int) -> None:
        self.memo[place] = top = self.stack[-1]
        if isinstance(top, _Unbuilt):
            top.places.append(place)

    def _reduced(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise _NotPlainError("a call")
        match function.name:
            case "dtype":
                self.unbuilt += 1
                return _Unbuilt(_checked(np.dtype(_text(arguments[0]))))
            case "_reconstruct":
                self.unbuilt += 1
                return _Unbuilt(None)
            case "scalar":
                return np.frombuffer(_bytes(arguments[1]), _dtype(arguments[0]), 1)[0].item()
            case "_frombuffer":
                data, dtype, shape, order = arguments
                return _array(_dtype(dtype), shape, bytes(data), order == "F")
            case "encode":
                return _text(arguments[0]).encode("latin-1")
            case "bytes" if not arguments:  # how protocols before 3 write no bytes at all
                return b""
        raise _NotPlainError(f"a call of {function.module}.{function.name}")

    def _build(self, state: Any) -> None:
        """Give an array or number type its state, wherever it is remembered."""
        top = self.stack[-1]
        if not isinstance(top, _Unbuilt) or not isinstance(state, tuple):
            raise _NotPlainError("an object with a state")
        built: Any
        if top.start is None:
            _, shape, dtype, fortran, data = state
            built = _array(_dtype(dtype), shape, data, fortran)
        else:
            built = top.start.newbyteorder(state[1]) if state[1] in ("<", ">") else top.start
        self.unbuilt -= 1
        self.stack[-1] = built
        self.memo.update(dict.fromkeys(top.places, built))


def _named(module: Any, name: Any) -> _Name:
    known = {
        "_reconstruct": _ARRAY_MODULES,
        "scalar": _ARRAY_MODULES,
        "_frombuffer": _BUFFER_MODULES,
        "ndarray": ("numpy",),
        "dtype": ("numpy",),
        "encode": ("_codecs",),
        "bytes": ("__builtin__", "builtins"),
    }
    if module not in known.get(name, ()):
        raise _NotPlainError(f"the name {module}.{name}")
    return _Name(module, name)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{type(value).__name__} where a text belongs")
    return value


def _bytes(value: Any) -> bytes:
    """The data of an array; Python 2 wrote them as a text."""
    return value.encode("latin-1") if isinstance(value, str) else bytes(value)


def _dtype(value: Any) -> np.dtype[Any]:
    if not isinstance(value, np.dtype):
        raise ValueError("an array without a number type")
    return value


def _checked(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind not in "biufcSUO" or (dtype.hasobject and dtype.kind != "O"):
        raise _NotPlainError(f"an array of {dtype}")
    return dtype


def _array(dtype: np.dtype[Any], shape: Any, data: Any, fortran: Any) -> np.ndarray:
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ValueError(f"an array of shape {shape!r}")
    count = math.prod(shape)
    order: Literal["F", "C"] = "F" if fortran else "C"
    array: np.ndarray
    if dtype.kind == "O":
        if not isinstance(data, list) or len(data) != count:
            raise ValueError("an array of objects without as many objects")
        flat = np.empty(count, dtype=object)
        flat[:] = data
        array = flat.reshape(shape, order=order)
        return array
    content = _bytes(data)
    if len(content) != count * dtype.itemsize:
        raise ValueError(f"{len(content)} bytes for an array of {dtype} of shape {shape}")
    array = np.frombuffer(content, dtype).reshape(shape, order=order)
    return array


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def _require_plain(value: Any) -> None:
    """Refuse whatever is not plain data, at any depth.

    Raises:
        _NotPlainError: names its kind.
    """
    waiting, seen = [value], set[int]()
    while waiting:
        each = waiting.pop()
        if isinstance(each, (tuple, list, dict)) or (_is_array(each) and each.dtype.kind == "O"):
            if id(each) not in seen:
                seen.add(id(each))
                waiting.extend(each.values() if isinstance(each, dict) else each.flat if _is_array(each) else each)
        elif not isinstance(each, _PLAIN):
            raise _NotPlainError(f"a bare {type(each).__name__.strip('_').lower()}")
