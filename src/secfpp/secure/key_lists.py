"""Keys of several clients in one message: arrays with a row per client, in the sorted order of the clients."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any

import numpy as np

from secfpp.crypto.channel import OFFER_BYTES
from secfpp.errors import ProtocolError, ReplyError, TamperError
from secfpp.protocol.fields import parsed
from secfpp.protocol.program import Arrays, ClientId

SIZES = {"offer": OFFER_BYTES, "commitment": 32, "nonce": 16}
"""Bytes of what a client tells in key agreement; a message holds the ``offers`` of several, uint8 [clients, bytes]."""


def as_array(data: bytes) -> np.ndarray:
    """Bytes as uint8 [bytes]."""
    return np.frombuffer(data, np.uint8)


def as_bytes(array: np.ndarray | None) -> bytes:
    """Undoes `as_array`; nothing gives no bytes."""
    return b"" if array is None or array.dtype != np.uint8 else array.tobytes()


def ascending(names: Sequence[str]) -> bool:
    """Whether names are sorted and none is there twice."""
    return all(map(operator.lt, names, names[1:]))


def names_in(message: Mapping[str, Any], step_name: str) -> tuple[ClientId, ...]:
    """The list `clients` of a message (JSON) or of facts, sorted and without repeats.

    Raises:
        ProtocolError: it is not that.
    """
    try:
        listed = message["clients"]
        names = _kept_once(tuple(map(str, parsed(listed.item()) if isinstance(listed, np.ndarray) else listed)))
    except (KeyError, ValueError, TypeError) as error:
        raise ProtocolError(f"step {step_name!r}: a list of clients that cannot be read") from error
    if not names or not ascending(names):
        raise ProtocolError(f"step {step_name!r}: a list of clients that is not sorted, or names one twice")
    return names


@lru_cache(maxsize=16)  # clients that share a process are told the same names
def _kept_once(names: tuple[ClientId, ...]) -> tuple[ClientId, ...]:
    return names


def rows_in(
    message: Arrays, part: str, clients: Sequence[ClientId], step_name: str, array: str = ""
) -> dict[ClientId, bytes]:
    """What a message holds of the keys of `clients`, by client, in an `array`, by default that of everybody.

    Raises:
        ProtocolError: it is not there, or not for as many clients.
    """
    array = array or f"{part}s"
    found = message.get(array)
    if found is None or found.dtype != np.uint8 or found.shape != (len(clients), SIZES[part]):
        raise ProtocolError(f"step {step_name!r}: the {array} of {len(clients)} clients are missing")
    rows, size = found.tobytes(), SIZES[part]
    return dict(zip(clients, [rows[start : start + size] for start in range(0, len(rows), size)], strict=True))


def everybodys(
    message: Arrays, clients: Sequence[ClientId], held: Mapping[ClientId, bytes], digest: str, step_name: str
) -> dict[ClientId, bytes]:
    """The session keys of all `clients`, which holders of shares need.

    Args:
        message: holds them.
        clients: all of them.
        held: keys of holders, as everybody was told of them.
        digest: hash of all keys, as everybody was told of it.
        step_name: for errors.

    Raises:
        ProtocolError: they are not there.
        TamperError: they are others.
    """
    offers = rows_in(message, "offer", clients, step_name)
    same = all(offers.get(holder) == offer for holder, offer in held.items())
    if not same or sha256(message["offers"].tobytes()).hexdigest() != digest:
        raise TamperError(None, step_name, "the keys are not those that everybody was told of")
    return offers


def stacked(keys: Mapping[ClientId, Arrays], clients: Sequence[ClientId], part: str) -> np.ndarray:
    """One part of the keys of `clients`, uint8 [clients, bytes].

    Raises:
        ProtocolError: keys that no honest client sends.
    """
    for client in clients:
        array = keys[client].get(part)
        if array is None or array.dtype != np.uint8 or array.shape != (SIZES[part],):
            raise ReplyError(client, f"sent no {part} of {SIZES[part]} bytes")
    return np.stack([keys[client][part] for client in clients])
