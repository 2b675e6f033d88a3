"""The bytes of one message: named arrays, canonical, strictly parsed, without pickle.

Layout, all integers little-endian::

    magic "SFPP"  version u8  count u16
    count times, names strictly ascending by their UTF-8 bytes:
        name length u8, name (UTF-8)   type code u8   ndim u8   ndim times u32   data
    CRC-32 of everything before it, u32

The data of an array is its elements in C order. A string (0-d only) has its UTF-8 length, u32, in place of
the dimensions. Equal messages have equal bytes, and bytes that `encode` would not have produced are
refused. The checksum finds accidents; it is no protection against an adversary.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from secfpp.errors import WireError

MAGIC = b"SFPP"
VERSION = 1
MAX_MESSAGE = 1 << 28
"""Largest message, in bytes (256 MiB)."""
MAX_ARRAYS = 1024
"""Most arrays in a message."""
MAX_NDIM = 8
"""Most dimensions of an array."""

_PART = 1 << 12
_HEADER = struct.Struct("<4sBH")
_U32 = struct.Struct("<I")
_STRING = 12
_DTYPES: dict[int, np.dtype[np.generic]] = {
    code: np.dtype(name)
    for code, name in enumerate(
        ("bool", "<i1", "<i2", "<i4", "<i8", "<u1", "<u2", "<u4", "<u8", "<f4", "<f8"),
        start=1,
    )
}
_CODES = {dtype.newbyteorder(order): code for code, dtype in _DTYPES.items() for order in ("<", ">")}
_SHAPES = [struct.Struct(f"<{ndim}I") for ndim in range(MAX_NDIM + 1)]


def encode(arrays: Mapping[str, np.ndarray], *, checksum: bool = True) -> bytearray:
    """The message's bytes, freshly made; the order of `arrays` does not matter.

    Args:
        arrays: of the message.
        checksum: leave it out, as zeros, only of bytes that no other process reads.

    Raises:
        WireError: a value that is no array of a supported type (bool, integers, float32/64 of up to
            `MAX_NDIM` dimensions, or one 0-d string), or a message over the limits.
    """
    entries, size = _entries(arrays)
    parts: list[bytes | memoryview] = [_HEADER.pack(MAGIC, VERSION, len(entries))]
    for head, data in entries:
        parts += [head, data if isinstance(data, bytes) else _array_bytes(data)]
    message = bytearray().join([*parts, bytes(_U32.size)])
    if checksum:
        _U32.pack_into(message, size - _U32.size, zlib.crc32(memoryview(message)[: -_U32.size]))
    return message


def measure(arrays: Mapping[str, np.ndarray]) -> int:
    """How many bytes `encode` would give, without copying the data.

    Raises:
        WireError: exactly where `encode` raises it.
    """
    return _entries(arrays)[1]


def decode(data: bytes | bytearray, *, checksum: bool = True) -> dict[str, np.ndarray]:
    """The arrays of a message, sorted by name: writable, native byte order.

    They are fresh; only large ones may be parts of `data` itself if it is a bytearray, which then belongs to them.

    Args:
        data: the bytes.
        checksum: look at it; of bytes that this process has just made there is no need to.

    Raises:
        WireError: `data` is not exactly what `encode` gives for some message.
    """
    if len(data) > MAX_MESSAGE:
        raise WireError(f"message of {len(data)} bytes, at most {MAX_MESSAGE} are allowed")
    if len(data) < _HEADER.size + _U32.size:
        raise WireError(f"message of {len(data)} bytes is too short to be one")
    body = memoryview(data)[: -_U32.size]
    magic, version, count = _HEADER.unpack_from(body)
    if magic != MAGIC:
        raise WireError(f"message starts with {magic!r}, not {MAGIC!r}: not a message of this protocol")
    if version != VERSION:
        raise WireError(f"message has wire version {version}, this program reads {VERSION}: use equal releases")
    if checksum and zlib.crc32(body) != _U32.unpack_from(data, len(body))[0]:
        raise WireError("message is damaged: its checksum does not match")
    if count > MAX_ARRAYS:
        raise WireError(f"message announces {count} arrays, at most {MAX_ARRAYS} are allowed")
    reader = _Reader(body, _HEADER.size)
    arrays: dict[str, np.ndarray] = {}
    previous = b""
    for index in range(count):
        (length,) = reader.take(1)
        raw = bytes(reader.take(length))
        if index and raw <= previous:
            raise WireError(f"array names out of order: {raw!r} after {previous!r}")
        previous = raw
        name = _name(raw)
        arrays[name] = _read_array(reader, name)
    if reader.left:
        raise WireError(f"{reader.left} bytes after the last array")
    return arrays


def detach(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What ``decode(encode(arrays))`` gives, by copying only.

    Raises:
        WireError: exactly where `encode` raises it.
    """
    measure(arrays)
    return {name: _copy(np.asarray(arrays[name])) for name in sorted(arrays, key=str.encode)}


def _copy(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "U":
        return np.array(array.item())
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", subok=False)


class _Reader:
    """Takes bytes off the front of a body and never past its end."""

    def __init__(self, body: memoryview, position: int) -> None:
        self._body, self._position = body, position

    @property
    def left(self) -> int:
        return len(self._body) - self._position

    def take(self, count: int) -> memoryview:
        start, end = self._position, self._position + count
        if end > len(self._body):
            raise WireError(f"message ends early: {count} bytes announced, {self.left} left")
        self._position = end
        return self._body[start:end]


def _read_array(reader: _Reader, name: str) -> np.ndarray:
    code, ndim = reader.take(2)
    if code == _STRING and ndim == 0:
        (length,) = _U32.unpack(reader.take(_U32.size))
        text = _text(bytes(reader.take(length)), f"string {name!r}")
        if text.endswith("\0"):
            raise WireError(f"string {name!r} ends with a NUL character, which no array can hold")
        return np.array(text)
    dtype = _DTYPES.get(code)
    if dtype is None or ndim > MAX_NDIM:
        raise WireError(f"array {name!r} has type code {code} and {ndim} dimensions: not of this wire version")
    shape = _SHAPES[ndim].unpack(reader.take(_SHAPES[ndim].size))
    _check_extent(name, shape, dtype)
    raw = reader.take(math.prod(shape) * dtype.itemsize)
    if dtype.kind == "b" and raw.nbytes and np.frombuffer(raw, np.uint8).max() > 1:
        raise WireError(f"array {name!r} holds booleans other than 0 and 1")
    array = np.frombuffer(raw, dtype).reshape(shape)
    # A small array does not keep a whole message in memory. Behaved: aligned and writable.
    ready = array.nbytes >= _PART and array.flags.behaved and dtype.isnative
    return array if ready else array.astype(dtype.newbyteorder("="))


def _entries(arrays: Mapping[str, np.ndarray]) -> tuple[list[tuple[bytes, np.ndarray | bytes]], int]:
    """All that comes before an array's data, and the data, by ascending names; and the size of the whole message."""
    if len(arrays) > MAX_ARRAYS:
        raise WireError(f"{len(arrays)} arrays in one message, at most {MAX_ARRAYS} fit: stack arrays of equal shape")
    entries = [_entry(raw, name, arrays[name]) for raw, name in sorted((_raw_name(name), name) for name in arrays)]
    size = _HEADER.size + _U32.size
    for head, data in entries:
        size += len(head) + (len(data) if isinstance(data, bytes) else data.nbytes)
    if size > MAX_MESSAGE:
        raise WireError(f"message of {size} bytes, at most {MAX_MESSAGE} are allowed: send it in several asks")
    return entries, size


@lru_cache(maxsize=1 << 10)
def _raw_name(name: object) -> bytes:
    raw = _utf8(name, "an array name") if isinstance(name, str) else b""
    if not isinstance(name, str) or len(raw) > 255:
        raise WireError(f"array name {name!r}: a string of at most 255 UTF-8 bytes is needed")
    return raw


def _entry(raw: bytes, name: str, value: object) -> tuple[bytes, np.ndarray | bytes]:
    """What comes before an array's data, and the data: the array, or a string's bytes."""
    if not isinstance(value, np.ndarray | np.generic):
        raise WireError(f"{name!r} is a {type(value).__name__}, not an array: wrap it in numpy.asarray")
    array, start = np.asarray(value), bytes((len(raw),)) + raw
    if array.dtype.kind == "U" and not array.ndim:
        text = _utf8(array.item(), f"string {name!r}")
        return start + bytes((_STRING, 0)) + _U32.pack(len(text)), text
    code = _CODES.get(array.dtype)
    if code is None:
        raise WireError(
            f"array {name!r} has dtype {array.dtype} and shape {array.shape}: "
            "bool, integers, float32, float64 or a single string are allowed; convert it with astype"
        )
    if array.ndim > MAX_NDIM:
        raise WireError(f"array {name!r} has {array.ndim} dimensions, at most {MAX_NDIM} are allowed: reshape it")
    _check_extent(name, array.shape, array.dtype)
    return start + bytes((code, array.ndim)) + _SHAPES[array.ndim].pack(*array.shape), array


def _check_extent(name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    """Refuse sizes that overflow, also those hidden behind a dimension of 0."""
    if (math.prod(shape) or math.prod(max(side, 1) for side in shape)) * dtype.itemsize > MAX_MESSAGE:
        raise WireError(f"array {name!r} of shape {shape} is larger than a message ({MAX_MESSAGE} bytes)")


def _array_bytes(array: np.ndarray) -> memoryview:
    if array.dtype.kind == "b":
        array = np.asarray(array.view(np.uint8) != 0)  # memory may hold other true values than 1
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data


def _utf8(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise WireError(f"{what} is not valid Unicode: {text!r}") from error


@lru_cache(maxsize=1 << 10)  # messages have few different names
def _name(raw: bytes) -> str:
    return _text(raw, "an array name")


def _text(raw: bytes, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise WireError(f"{what} is not valid UTF-8: {raw!r}") from error
