"""Files that are whole or absent, and arrays that are computed once."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from secfpp.cachedir import VARIABLE


def atomic_write(path: Path, data: bytes) -> None:
    """Write beside `path` with mode 0600, flush, then rename: a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".draft")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def cached_arrays(path: Path, compute: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays stored in `path`, or what `compute` returns, stored for next time.

    The file carries a checksum: a damaged one is made again. A folder that cannot be written
    costs time only: it is reported as a `RuntimeWarning`.
    """
    stored = _read(path)
    if stored is not None:
        return stored
    arrays = {name: np.array(value, order="C") for name, value in compute().items()}
    try:
        atomic_write(path, save(arrays, metadata={"sha256": _checksum(arrays)}))
    except OSError as error:
        warnings.warn(
            f"nothing is cached in {path.parent}: {error.strerror}. Set {VARIABLE} to a writable folder",
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
    contiguous = {name: np.array(array, order="C") for name, array in arrays.items()}
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
