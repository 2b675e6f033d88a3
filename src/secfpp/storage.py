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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from secfpp.cachedir import VARIABLE
from secfpp.errors import DiskFullError


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
    with room_for(path, len(data)):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".draft")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
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


def roomy(shape: tuple[int, ...], folder: Path | None) -> np.ndarray:
    """Room for bytes, uint8 of this shape: in memory, or in a file in `folder` that ends with the array.

    Raises:
        DiskFullError: there is no room for it in `folder`.
        OSError: `folder` cannot be written.
    """
    if folder is None or 0 in shape:
        return np.empty(shape, dtype=np.uint8)
    size = math.prod(shape)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file, room_for(folder / "images", size):
        if size > shutil.disk_usage(folder).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        file.truncate(size)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk would otherwise kill the process that writes
        return np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)


def cached_arrays(path: Path, compute: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays stored in `path`, or what `compute` returns, stored for next time.

    The file carries a checksum: a damaged one is made again, also one that a power failure cut short. A folder that
    cannot be written costs time only: it is reported as a `RuntimeWarning`.
    """
    stored = _read(path)
    if stored is not None:
        return stored
    arrays = {name: np.array(value, order="C") for name, value in compute().items()}
    try:
        atomic_write(path, save(arrays, metadata={"sha256": _checksum(arrays)}), durable=False)
    except (OSError, DiskFullError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        warnings.warn(
            f"nothing is cached in {path.parent}: {reason}. Set {VARIABLE} to a writable folder",
            RuntimeWarning,
            stacklevel=2,
        )
    return arrays


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(repr((name, arrays[name].shape, arrays[name].dtype.str)).encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata of a safetensors file.

    Raises:
        OSError: no such file, or one that cannot be read.
        SafetensorError: a damaged one.
    """
    with safe_open(path, framework="numpy") as file:
        names: list[str] = list(file.keys())
        return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})


def write_record(path: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write arrays and anything that JSON can say beside them, atomically; ``about["format"]`` names the kind."""
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    atomic_write(path, save(contiguous, metadata={"secfpp": json.dumps(about)}))


def read_record(path: Path, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What `write_record` wrote.

    Raises:
        OSError: no such file, or one that cannot be read.
        SafetensorError: a damaged one.
        KeyError, TypeError, ValueError: no record, or one of another format than `kind`.
    """
    arrays, metadata = read_arrays(path)
    about: dict[str, Any] = json.loads(metadata["secfpp"])
    if about["format"] != kind:
        raise ValueError(f"format {about['format']!r}, not {kind!r}")
    return arrays, about


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays in `path`; None when there is no file or its content is damaged."""
    try:
        arrays, about = read_arrays(path)
    except (OSError, SafetensorError):
        return None
    return arrays if _checksum(arrays) == about.get("sha256") else None
