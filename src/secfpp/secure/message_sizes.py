"""Bytes of messages, from public numbers alone; see `secfpp.protocol.wire` and `secfpp.secure.session`."""

from __future__ import annotations

from secfpp.crypto.channel import OFFER_BYTES
from secfpp.secure.key_lists import SIZES

ELEMENT = 8
"""Bytes of a field element."""
COMMITMENT, NONCE = SIZES["commitment"], SIZES["nonce"]


def array(name: int, dimensions: int, size: int) -> int:
    """Bytes of an array in a message: see `secfpp.protocol.wire`."""
    return 1 + name + 2 + 4 * dimensions + size


def message(*arrays: int) -> int:
    """Bytes of a message of arrays that take so many."""
    return 11 + sum(arrays)


def greeting(drawn: bool) -> int:
    """Bytes that a client sends in key agreement."""
    hello = message(array(5, 1, OFFER_BYTES), array(10, 1, COMMITMENT))
    return hello + (message(array(5, 1, NONCE)) if drawn else 0)


def keys(n: int, holders: int, holder: bool = True) -> int:
    """Bytes of keys, and of randomness that draws `holders`, that a client receives; of all if it is a `holder`."""
    total = (holders + n * holder) * OFFER_BYTES
    return total + (COMMITMENT + n * NONCE if n > holders else 0)
