"""Files in memory by pages: what was read of them goes back to the system, so that it does not add up.

A page that goes back is still at hand while the system has room for it, and read again from the file where it is not.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from typing import TypeVar
from weakref import WeakSet

import numpy as np

IN_MEMORY = 1 << 26
"""Bytes of one kind, of all clients together, that are kept in memory (64 MiB); more are kept in files."""
PIECE = 1 << 23
"""Bytes of a file that are looked at before memory is given back."""
T = TypeVar("T")
_MAPS: WeakSet[mmap.mmap] = WeakSet()


def large(size: int) -> bool:
    """Whether so many bytes are better kept in a file."""
    return size > IN_MEMORY


def file_map(file: int, size: int, *, writable: bool) -> mmap.mmap:
    """The first `size` bytes of an open file, given by its number; the file may be closed then."""
    found = mmap.mmap(file, size, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)
    _MAPS.add(found)
    return found


def array_in(held: mmap.mmap, shape: tuple[int, ...], dtype: np.dtype, start: int = 0) -> np.ndarray:
    """What the file has from byte `start` on, as an array; it may be written to if the file may."""
    array: np.ndarray = np.ndarray(shape, dtype, buffer=held, offset=start)
    return array


def give_back() -> None:
    """Give back what is in memory of all files; it costs next to nothing where there are none."""
    if hasattr(mmap, "MADV_DONTNEED"):
        for held in list(_MAPS):
            held.madvise(mmap.MADV_DONTNEED)


def paged(items: Iterable[T], every: int = 16) -> Iterator[T]:
    """The items one by one; after every so many, and after the last, memory is given back."""
    for number, item in enumerate(items, start=1):
        yield item
        if number % every == 0:
            give_back()
    give_back()


def pieces(array: np.ndarray) -> Iterator[memoryview]:
    """The bytes of an array in C order, some at a time."""
    content = np.asarray(array, order="C").reshape(-1).view(np.uint8)
    return paged((content[at : at + PIECE].data for at in range(0, len(content), PIECE)), every=1)
