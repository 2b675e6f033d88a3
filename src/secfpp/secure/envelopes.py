"""Sealed envelopes as messages hold them; the server hands them on.

What one client seals for several travels as one array, uint8 [recipients, bytes], in the sorted order of the
recipients, itself left out. What several senders have for one recipient is `packed`: one after the other in an order
that both know, and how long each is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from secfpp.crypto.channel import ENVELOPE_OVERHEAD
from secfpp.errors import ProtocolError, ReplyError
from secfpp.protocol.program import Arrays, ClientId

ENVELOPES = "envelopes"
"""The name of the array, unless a message holds several kinds."""


def others(client: ClientId, group: Iterable[ClientId]) -> tuple[ClientId, ...]:
    """`group` without `client`."""
    return tuple(other for other in group if other != client)


def rows_of(client: ClientId, reply: Arrays, key: str, count: int) -> np.ndarray:
    """The `key` of a client's reply: what it sealed for `count` others, uint8 [recipients, bytes].

    Raises:
        ReplyError: it is not that.
    """
    array = reply.get(key)
    envelopes = array is not None and array.dtype == np.uint8 and array.ndim == 2 and len(array) == count
    if array is None or not envelopes or (count and array.shape[1] <= ENVELOPE_OVERHEAD):
        shape = "nothing" if array is None else f"{array.dtype} {array.shape}"
        raise ReplyError(client, f"sent {shape} as its {key}, not {count} envelopes")
    return array


def packed(name: str, found: Mapping[ClientId, np.ndarray], senders: Sequence[ClientId]) -> dict[str, np.ndarray]:
    """What some of `senders` have for one recipient, each uint8 [bytes] and not empty, as a message holds it."""
    sizes = np.array([found[sender].size if sender in found else 0 for sender in senders], np.uint32)
    rows = [found[sender] for sender in senders if sender in found]
    return {name: np.concatenate(rows) if rows else np.zeros(0, np.uint8), _sizes(name): sizes}


def unpacked(name: str, message: Arrays, senders: Sequence[ClientId], step_name: str) -> dict[ClientId, np.ndarray]:
    """Undoes `packed`; nothing if the message holds none.

    Raises:
        ProtocolError: it is not that.
    """
    data, sizes = message.get(name), message.get(_sizes(name))
    if data is None and sizes is None:
        return {}
    if (
        data is None
        or sizes is None
        or data.dtype != np.uint8
        or data.ndim != 1
        or sizes.dtype != np.uint32
        or sizes.shape != (len(senders),)
        or int(sizes.sum(dtype=np.uint64)) != data.size
    ):
        raise ProtocolError(f"step {step_name!r}: {name} that do not come as {len(senders)} senders sealed them")
    ends = np.cumsum(sizes, dtype=np.int64).tolist()
    places = zip(senders, [0, *ends], ends, strict=False)
    return {sender: data[start:end] for sender, start, end in places if end > start}


def handed_out(
    sealed: dict[ClientId, np.ndarray], senders: Sequence[ClientId], recipients: Sequence[ClientId]
) -> dict[ClientId, dict[str, np.ndarray]]:
    """What each of `recipients` is told of what all `senders` sealed for them, `packed`.

    Args:
        sealed: by sender, for all recipients but itself; emptied, since it is large.
        senders: all of them, in the order that recipients know.
        recipients: sorted.
    """
    sizes = np.array([sealed[sender].shape[1] for sender in senders], np.uint32)
    found = {}
    for recipient in recipients:
        own = np.where([sender == recipient for sender in senders], np.uint32(0), sizes)
        found[recipient] = {ENVELOPES: np.empty(own.sum(dtype=np.int64), np.uint8), _sizes(ENVELOPES): own}
    ends = dict.fromkeys(recipients, 0)
    for sender in senders:
        rows = sealed.pop(sender)
        for recipient, row in zip(others(sender, recipients), rows, strict=True):
            start = ends[recipient]
            ends[recipient] = start + row.size
            found[recipient][ENVELOPES][start : start + row.size] = row
    return found


def _sizes(name: str) -> str:
    return f"sizes.{name}"
