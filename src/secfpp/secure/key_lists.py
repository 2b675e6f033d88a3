"""Everybody's keys in one message: arrays with a row per client, in the sorted order of the clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from secfpp.crypto.channel import OFFER_BYTES
from secfpp.errors import ProtocolError, ReplyError
from secfpp.protocol.fields import parsed
from secfpp.protocol.program import Arrays, ClientId

SIZES = {"offer": OFFER_BYTES, "commitment": 32, "nonce": 32}
"""Bytes of what a client tells in key agreement; a message holds ``offers`` of several, uint8 [clients, bytes]."""


def as_array(data: bytes) -> np.ndarray:
    """Bytes as uint8 [bytes]."""
    return np.frombuffer(data, np.uint8)


def as_bytes(array: np.ndarray | None) -> bytes:
    """Undoes `as_array`; nothing gives no bytes."""
    return b"" if array is None or array.dtype != np.uint8 else array.tobytes()


def names_in(message: Mapping[str, Any], step_name: str) -> tuple[ClientId, ...]:
    """The list `clients` of a message (JSON) or of facts, sorted and without repeats.

    Raises:
        ProtocolError: it is not that.
    """
    try:
        listed = message["clients"]
        names = tuple(map(str, parsed(listed.item()) if isinstance(listed, np.ndarray) else listed))
    except (KeyError, ValueError, TypeError) as error:
        raise ProtocolError(f"step {step_name!r}: a list of clients that cannot be read") from error
    if not names or list(names) != sorted(set(names)):
        raise ProtocolError(f"step {step_name!r}: a list of clients that is not sorted, or names one twice")
    return names


def rows_in(message: Arrays, part: str, clients: Sequence[ClientId], step_name: str) -> dict[ClientId, bytes]:
    """What a message holds of everybody's keys, by client.

    Raises:
        ProtocolError: it is not there, or not for as many clients.
    """
    array = message.get(f"{part}s")
    if array is None or array.dtype != np.uint8 or array.shape != (len(clients), SIZES[part]):
        raise ProtocolError(f"step {step_name!r}: the {part}s of {len(clients)} clients are missing")
    rows, size = array.tobytes(), SIZES[part]
    return {client: rows[place * size : (place + 1) * size] for place, client in enumerate(clients)}


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
