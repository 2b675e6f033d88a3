"""Clients with channels between them, and what tests of these do to messages."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from secfpp.crypto.channel import Channel, Label, SessionKey, read_offer
from secfpp.crypto.roster import IdentityKey, Roster
from secfpp.errors import TamperError

CLIENTS = ("anna", "ben", "cleo")
CONTEXT = b"session 1"
LABEL = Label("aggregator", 3, 1, "share", b"transcript")
SECRET = b"a prompt nobody else may see"
CHANGES: list[dict[str, object]] = [
    {"component": "clusterer"},
    {"round": 4},
    {"attempt": 2},
    {"step": "sum"},
    {"transcript": b"another"},
    {"transcript": b""},
    {"round": 1, "attempt": 3},
]
"""What makes another label of `LABEL`."""


class Trio:
    """Three clients that agreed on a roster and on session keys."""

    def __init__(self) -> None:
        self.identity = {name: IdentityKey.generate() for name in CLIENTS}
        self.roster = Roster("trial", 1, {name: key.public for name, key in self.identity.items()})
        self.session = {name: SessionKey.generate() for name in CLIENTS}
        self.offers = {name: self.offer(name) for name in CLIENTS}
        self.publics = {name: read_offer(self.offers[name], name, self.roster, CONTEXT) for name in CLIENTS}
        self.channel = {name: self.open_channel(name) for name in CLIENTS}

    def offer(self, name: str) -> bytes:
        return self.session[name].offer(self.identity[name], self.roster, name, CONTEXT)

    def open_channel(self, name: str) -> Channel:
        return Channel(name, self.session[name], self.roster.digest, self.publics)


def refused(sender: str, step: str, attempt: Callable[[], object]) -> str:
    """The message of the TamperError that `attempt` must raise about `sender` in `step`."""
    with pytest.raises(TamperError) as caught:
        attempt()
    assert (caught.value.party, caught.value.step) == (sender, step)
    assert repr(sender) in str(caught.value) and repr(step) in str(caught.value)
    return str(caught.value)


def prefixed(*fields: bytes) -> bytes:
    return b"".join(struct.pack(">Q", len(field)) + field for field in fields)


def flipped(data: bytes, position: int, bit: int = 0) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1 << bit
    return bytes(changed)
