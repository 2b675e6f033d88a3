"""Files that are whole or absent, and arrays that are computed once."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from secfpp.cachedir import VARIABLE
from secfpp.errors import CacheWarning, DiskFullError
from secfpp.paging import array_in, file_map, large, pieces

_DTYPES = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "F16": np.dtype("<f2"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "F32": np.dtype("<f4"),
    "C64": np.dtype("<c8"),
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "U64": np.dtype("<u8"),
}
"""Number types by their names in safetensors files, where arrays of later ones come first."""


def atomic_write(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write beside `path` with mode 0600, then rename: a reader sees the old file or the whole new one.

    Args:
        path: of the file.
        data: its content.
        durable: wait until it is on the disk, so that this holds after a power failure too.

    Raises:
        DiskFullError: there is no room for it.
        OSError: it cannot be written for another reason.
    """
    _write(path, [data], len(data), durable)


def _write(path: Path, content: Iterable[bytes | memoryview], size: int, durable: bool) -> None:
    """See `atomic_write`; of content that comes in pieces, `size` bytes in all."""
    with room_for(path, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".draft")
        try:
            with os.fdopen(handle, "wb") as file:
                for piece in content:
                    file.write(piece)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(draft, path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise


@contextmanager
def room_for(path: Path, size: int) -> Iterator[None]:
    """Write `size` bytes to `path` in the ``with`` block.

    Raises:
        DiskFullError: the block found no room for them, on the disk or in the user's share of it.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        missing = size - shutil.disk_usage(folder).free
        short = f"{missing if missing > 0 else size:,} bytes more are needed"
        raise DiskFullError(f"no room left in {folder} for {path.name}: {short} ({error.strerror})") from error


def roomy(shape: tuple[int, ...], folder: Path | None, dtype: np.dtype = _DTYPES["U8"]) -> np.ndarray:
    """Room for an array, of bytes by default: in memory, or in a file in `folder` that ends with the array.

    Raises:
        DiskFullError: there is no room for it in `folder`.
        OSError: `folder` cannot be written.
    """
    if folder is None or 0 in shape:
        return np.empty(shape, dtype)
    size = math.prod(shape) * dtype.itemsize
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file, room_for(folder / "images", size):
        if size > shutil.disk_usage(folder).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        file.truncate(size)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk would otherwise kill the process that writes
        return array_in(file_map(file.fileno(), size, writable=True), shape, dtype)


def cached_arrays(
    path: Path, compute: Callable[[], Mapping[str, np.ndarray]], *, mapped: bool = False
) -> dict[str, np.ndarray]:
    """The arrays stored in `path`, or what `compute` returns, stored for next time.

    The file carries a checksum: a damaged one is made again, also one that a power failure cut short. A folder that
    cannot be written costs time only: it is reported as a `CacheWarning`. `mapped` as for `read_arrays`.
    """
    stored = _read(path, mapped)
    if stored is not None:
        return stored
    arrays = {name: np.asarray(value, order="C") for name, value in compute().items()}
    try:
        _write_arrays(path, arrays, {"sha256": _checksum(arrays)}, durable=False)
    except (OSError, DiskFullError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        warnings.warn(
            f"nothing is cached in {path.parent}: {reason}. Set {VARIABLE} to a writable folder",
            CacheWarning,
            stacklevel=2,
        )
    return arrays


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(repr((name, arrays[name].shape, arrays[name].dtype.str)).encode())
        for piece in pieces(arrays[name]):
            digest.update(piece)
    return digest.hexdigest()


def read_arrays(path: Path, *, mapped: bool = False) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata of a safetensors file.

    Args:
        path: of the file.
        mapped: leave the arrays of a large file where they are: they cannot be written to, and are read when they are
            used.

    Raises:
        OSError: no such file, or one that cannot be read.
        SafetensorError: a damaged one.
    """
    with path.open("rb"):  # which says what is wrong in fewer words
        pass
    with safe_open(path, framework="numpy") as file:
        about = dict(file.metadata() or {})
        if mapped and large(path.stat().st_size):
            return _arrays_in(path), about
        names: list[str] = list(file.keys())
        return {name: file.get_tensor(name) for name in names}, about


def _arrays_in(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a sound safetensors file, which stay in it."""
    with path.open("rb") as file:
        start = int.from_bytes(file.read(8), "little")
        head = json.loads(file.read(start))
        held = file_map(file.fileno(), 0, writable=False)
    head.pop("__metadata__", None)
    return {
        name: array_in(held, tuple(own["shape"]), _DTYPES[own["dtype"]], 8 + start + own["data_offsets"][0])
        for name, own in head.items()
    }


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, str], durable: bool) -> None:
    """Write a safetensors file, see `atomic_write`, of which only a piece is in memory at a time.

    The library's own writer tells of a full disk in a text only, and gives back no memory of mapped arrays while it
    writes.

    Raises:
        SafetensorError: a number type that such files do not have.
    """
    head, ordered = _laid_out(arrays, about)
    size = len(head) + sum(array.nbytes for array in ordered)
    _write(path, chain([head], *map(pieces, ordered)), size, durable)


def arrays_bytes(arrays: Mapping[str, np.ndarray], about: Mapping[str, str]) -> bytes:
    """The content of a safetensors file; the same arrays and metadata are the same bytes.

    Raises:
        SafetensorError: a number type that such files do not have.
    """
    head, ordered = _laid_out(arrays, about)
    return b"".join([head, *(array.tobytes() for array in ordered)])


def _laid_out(arrays: Mapping[str, np.ndarray], about: Mapping[str, str]) -> tuple[bytes, list[np.ndarray]]:
    """What a safetensors file begins with, and the arrays in their order there.

    It is what the library's own writer makes, but that metadata are in the order of `about`, and there in any.

    Raises:
        SafetensorError: a number type that such files do not have.
    """
    kinds = {dtype: (place, name) for place, (name, dtype) in enumerate(_DTYPES.items())}
    little = {name: array.astype(array.dtype.newbyteorder("<"), copy=False) for name, array in arrays.items()}
    for name, array in little.items():
        if array.dtype not in kinds:
            raise SafetensorError(f"{name}: a safetensors file cannot hold {array.dtype}")
    order = sorted(little, key=lambda name: (-kinds[little[name].dtype][0], name))
    head: dict[str, Any] = {"__metadata__": dict(about)}
    end = 0
    for name in order:
        array, start, end = little[name], end, end + little[name].nbytes
        kind = kinds[array.dtype][1]
        head[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, [little[name] for name in order]


def write_record(path: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write arrays and anything that JSON can say beside them, atomically; ``about["format"]`` names the kind."""
    _write_arrays(path, arrays, {"secfpp": json.dumps(about)}, durable=True)


def read_record(path: Path, kind: str, *, mapped: bool = False) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What `write_record` wrote; `mapped` as for `read_arrays`.

    Raises:
        OSError: no such file, or one that cannot be read.
        SafetensorError: a damaged one.
        KeyError, TypeError, ValueError: no record, or one of another format than `kind`.
    """
    arrays, metadata = read_arrays(path, mapped=mapped)
    about: dict[str, Any] = json.loads(metadata["secfpp"])
    if about["format"] != kind:
        raise ValueError(f"format {about['format']!r}, not {kind!r}")
    return arrays, about


def _read(path: Path, mapped: bool) -> dict[str, np.ndarray] | None:
    """The arrays in `path`; None when there is no file or its content is damaged."""
    try:
        arrays, about = read_arrays(path, mapped=mapped)
    except (OSError, SafetensorError):
        return None
    return arrays if _checksum(arrays) == about.get("sha256") else None
