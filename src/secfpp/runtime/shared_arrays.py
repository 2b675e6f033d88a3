"""Arrays of many clients in one process, of which equal ones are there once, and large ones of very many on disk.

After a mean every client has the same base, of a hundred kilobytes where class sums are shared. Ten thousand copies of
it are a gigabyte. Before the mean each has its own.
"""

from __future__ import annotations

from weakref import WeakValueDictionary

import numpy as np

from secfpp.protocol.program import ClientState
from secfpp.shelf import Shelf

LEAST = 2048
"""Bytes from which on an array is worth looking for."""
_LOOKED_AT = 64


class SharedArrays:
    """Gives states with equal arrays the same array, which nobody can write to.

    It keeps no array alive by itself.

    Args:
        clients: how many states there are; where arrays like one, of so many clients, would take much memory, it is
            kept on disk.
    """

    def __init__(self, clients: int = 1) -> None:
        self._clients, self._shelf = clients, Shelf()
        self._known: WeakValueDictionary[tuple[object, ...], np.ndarray] = WeakValueDictionary()

    def of(self, state: ClientState) -> ClientState:
        """A state with the same bits, whose large arrays are shared with all states seen before that have them."""
        fresh = {
            slot: self._one(array)
            for slot, array in state.arrays.items()
            if array.nbytes >= LEAST and array.flags.writeable
        }
        return state.replace(**fresh) if fresh else state

    def _one(self, array: np.ndarray) -> np.ndarray:
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        some = content[:: max(1, len(content) // _LOOKED_AT)].tobytes()
        key = (array.dtype.str, array.shape, some)
        known = self._known.get(key)
        if known is not None and np.array_equal(content, known.reshape(-1).view(np.uint8)):
            return known
        kept = self._shelf.keep(content.view(array.dtype).reshape(array.shape), self._clients * array.nbytes)
        kept.flags.writeable = False
        self._known[key] = kept
        return kept
