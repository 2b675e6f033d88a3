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
from dataclasses import dataclass
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
        parts += (head, data if isinstance(data, bytes) else _array_bytes(data))
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
    arrays: dict[str, np.ndarray] = {}
    previous, place = b"", _HEADER.size
    for index in range(count):
        found = _parsed(_head_at(body, place))
        if index and found.raw <= previous:
            raise WireError(f"array names out of order: {found.raw!r} after {previous!r}")
        previous, start = found.raw, place + found.length
        if found.dtype is None:
            arrays[found.name], place = _text_at(body, start, found.name)
        else:
            arrays[found.name], place = _array_at(body, start, found), start + found.size
    if place < len(body):
        raise WireError(f"{len(body) - place} bytes after the last array")
    return arrays


def detach(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], int]:
    """What ``decode(encode(arrays))`` gives, by copying only, and how many bytes `encode` would give.

    Raises:
        WireError: exactly where `encode` raises it.
    """
    entries, size = _entries(arrays)
    copies = [_copy(data) for _, data in entries]
    return dict(zip(_ascending(tuple(arrays)), copies, strict=True)), size


def _copy(data: np.ndarray | bytes) -> np.ndarray:
    if isinstance(data, bytes):
        return np.array(data.decode())
    return data.copy() if data.dtype.isnative else data.astype(data.dtype.newbyteorder("="), "C")


@dataclass(frozen=True, slots=True)
class _Head:
    """What is told before an array's data.

    Attributes:
        raw: the name's bytes.
        name: the name.
        length: bytes of the head.
        dtype: None stands for a string, whose length comes next.
        shape: of the array.
        size: bytes of its data.
    """

    raw: bytes
    name: str
    length: int
    dtype: np.dtype[np.generic] | None = None
    shape: tuple[int, ...] = ()
    size: int = 0


def _head_at(body: memoryview, place: int) -> bytes:
    """The bytes of the head that starts at `place`."""
    try:
        end = place + 3 + body[place]
        end += _U32.size * body[end - 1]
        return bytes(body[place:end]) if end <= len(body) else bytes(_taken(body, place, end))
    except IndexError:
        raise WireError(f"message ends early: {len(body) - place} bytes are left where an array begins") from None


@lru_cache(maxsize=1 << 11)  # messages have few different ones
def _parsed(head: bytes) -> _Head:
    length = head[0]
    raw, code, ndim = head[1 : 1 + length], head[1 + length], head[2 + length]
    name = _text(raw, "an array name")
    if code == _STRING and ndim == 0:
        return _Head(raw, name, len(head))
    if code not in _DTYPES or ndim > MAX_NDIM:
        raise WireError(f"array {name!r} has type code {code} and {ndim} dimensions: not of this wire version")
    shape, dtype = _SHAPES[ndim].unpack(head[3 + length :]), _DTYPES[code]
    return _Head(raw, name, len(head), dtype, shape, _extent(name, shape, dtype))


def _taken(body: memoryview, start: int, end: int) -> memoryview:
    if end > len(body):
        raise WireError(f"message ends early: {end - start} bytes announced, {max(len(body) - start, 0)} left")
    return body[start:end]


def _text_at(body: memoryview, start: int, name: str) -> tuple[np.ndarray, int]:
    """A string, and where it ends."""
    begin = start + _U32.size
    end = begin + _U32.unpack(_taken(body, start, begin))[0]
    text = _text(bytes(_taken(body, begin, end)), f"string {name!r}")
    if text.endswith("\0"):
        raise WireError(f"string {name!r} ends with a NUL character, which no array can hold")
    return np.array(text), end


def _array_at(body: memoryview, start: int, head: _Head) -> np.ndarray:
    _taken(body, start, start + head.size)
    assert head.dtype is not None
    array: np.ndarray = np.ndarray(head.shape, head.dtype, body, start)
    if head.dtype.kind == "b" and head.size and array.view(np.uint8).max() > 1:
        raise WireError(f"array {head.name!r} holds booleans other than 0 and 1")
    if not head.dtype.isnative:
        return array.astype(head.dtype.newbyteorder("="))
    # A small array does not keep a whole message in memory. Behaved: aligned and writable.
    return array if head.size >= _PART and array.flags.behaved else array.copy()


def _entries(arrays: Mapping[str, np.ndarray]) -> tuple[list[tuple[bytes, np.ndarray | bytes]], int]:
    """All that comes before an array's data, and the data, by ascending names; and the size of the whole message."""
    if len(arrays) > MAX_ARRAYS:
        raise WireError(f"{len(arrays)} arrays in one message, at most {MAX_ARRAYS} fit: stack arrays of equal shape")
    entries = [_entry(name, arrays[name]) for name in _ascending(tuple(arrays))]
    size = _HEADER.size + _U32.size
    for head, data in entries:
        size += len(head) + (len(data) if isinstance(data, bytes) else data.nbytes)
    if size > MAX_MESSAGE:
        raise WireError(f"message of {size} bytes, at most {MAX_MESSAGE} are allowed: send it in several asks")
    return entries, size


@lru_cache(maxsize=1 << 8)  # messages have few different sets of names
def _ascending(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for _, name in sorted((_raw_name(name), name) for name in names))


def _raw_name(name: object) -> bytes:
    raw = _utf8(name, "an array name") if isinstance(name, str) else b""
    if not isinstance(name, str) or len(raw) > 255:
        raise WireError(f"array name {name!r}: a string of at most 255 UTF-8 bytes is needed")
    return raw


def _entry(name: str, value: object) -> tuple[bytes, np.ndarray | bytes]:
    """What comes before an array's data, and the data: the array, or a string's bytes."""
    if not isinstance(value, np.ndarray | np.generic):
        raise WireError(f"{name!r} is a {type(value).__name__}, not an array: wrap it in numpy.asarray")
    array = np.asarray(value)
    if array.dtype.kind == "U" and not array.ndim:
        text = _utf8(array.item(), f"string {name!r}")
        return _name_head(name) + bytes((_STRING, 0)) + _U32.pack(len(text)), text
    return _head(name, array.dtype, array.shape), array


@lru_cache(maxsize=1 << 10)
def _name_head(name: str) -> bytes:
    raw = _raw_name(name)
    return bytes((len(raw),)) + raw


@lru_cache(maxsize=1 << 11)
def _head(name: str, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> bytes:
    """What comes before an array's data."""
    code = _CODES.get(dtype)
    if code is None:
        raise WireError(
            f"array {name!r} has dtype {dtype} and shape {shape}: "
            "bool, integers, float32, float64 or a single string are allowed; convert it with astype"
        )
    if len(shape) > MAX_NDIM:
        raise WireError(f"array {name!r} has {len(shape)} dimensions, at most {MAX_NDIM} are allowed: reshape it")
    _extent(name, shape, dtype)
    return _name_head(name) + bytes((code, len(shape))) + _SHAPES[len(shape)].pack(*shape)


def _extent(name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> int:
    """An array's size in bytes; refuses one that overflows, also if that is hidden behind a dimension of 0."""
    size = math.prod(shape) * dtype.itemsize
    if (size or math.prod(max(side, 1) for side in shape) * dtype.itemsize) > MAX_MESSAGE:
        raise WireError(f"array {name!r} of shape {shape} is larger than a message ({MAX_MESSAGE} bytes)")
    return size


def _array_bytes(array: np.ndarray) -> memoryview:
    if array.dtype.kind == "b":
        array = np.asarray(array.view(np.uint8) != 0)  # memory may hold other true values than 1
    if array.flags.c_contiguous and array.dtype.str[0] != ">":
        return array.data
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data


def _utf8(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise WireError(f"{what} is not valid Unicode: {text!r}") from error


def _text(raw: bytes, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise WireError(f"{what} is not valid UTF-8: {raw!r}") from error
