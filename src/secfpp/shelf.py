"""Where arrays of many clients are kept: in memory, or on disk where all of them together would take too much of it.

Files are in the cache, belong to their owner only and have no name: each ends with the last array in it, or with the
process, however that ends.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from secfpp.cachedir import VARIABLE, cache_root
from secfpp.errors import CacheWarning, DiskFullError
from secfpp.paging import large, paged
from secfpp.storage import roomy

_ALIGNED = 64  # bytes
_FILE = 1 << 26  # bytes that small arrays share


class Shelf:
    """Keeps arrays of clients, small ones of which many share a file."""

    def __init__(self) -> None:
        self._room = np.empty(0, np.uint8)
        self._used = 0

    def keep(self, array: np.ndarray, total: int) -> np.ndarray:
        """The array itself; or a copy of it on disk, with the same bits, if `total` bytes of such arrays are much."""
        size = array.nbytes
        if not size or not large(total):
            return array
        if self._used + size > len(self._room):
            self._room, self._used = room((max(size, _FILE),), np.dtype(np.uint8), total), 0
        place = self._room[self._used : self._used + size]
        place[:] = np.asarray(array, order="C").reshape(-1).view(np.uint8)
        self._used += -(-size // _ALIGNED) * _ALIGNED
        return place.view(array.dtype).reshape(array.shape)


def room(shape: tuple[int, ...], dtype: np.dtype, total: int) -> np.ndarray:
    """Room for an array: on disk if `total` bytes of such arrays are much, and the disk has room; else in memory."""
    if large(total):
        try:
            return roomy(shape, cache_root(), dtype)
        except (OSError, DiskFullError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            warnings.warn(
                f"{total:,} bytes are kept in memory: {reason}. Set {VARIABLE} to a folder that has room for them",
                CacheWarning,
                stacklevel=3,
            )
    return np.empty(shape, dtype)


def together(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays one after the other as one, see `room`."""
    total = sum(part.nbytes for part in parts)
    rows = Rows(sum(len(part) for part in parts), total)
    for part in paged(parts):
        rows.add(part)
    return rows.array


class Rows:
    """An array whose rows come in parts.

    Args:
        count: how many there will be.
        total: bytes that all of them take; if not given, as the first part has it.
    """

    def __init__(self, count: int, total: int | None = None) -> None:
        self._count, self._total, self._filled = count, total, 0
        self.array = np.empty(0)

    def add(self, part: np.ndarray) -> None:
        """The next rows, all of one shape and number type."""
        if not self._filled:
            total = self._count * part[:1].nbytes if self._total is None else self._total
            self.array = room((self._count, *part.shape[1:]), part.dtype, total)
        np.concatenate([part], out=self.array[self._filled : self._filled + len(part)])  # of this very shape
        self._filled += len(part)
