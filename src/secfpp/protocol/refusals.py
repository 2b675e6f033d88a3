"""Refusals: what one party finds wrong with what another one sent, from a closed list.

A client whose step raises a `ProtocolError` replies its refusal instead, and counts as missing in that exchange; a
step that can go on without what is wrong adds its objections to its reply. The server refuses a client whose reply
no honest one sends. No text of a client is handed on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from secfpp.errors import ProtocolError
from secfpp.protocol.fields import parsed
from secfpp.protocol.program import Arrays, ClientId

BY_SERVER = ""
"""Who refuses, if it is the server: no client has this name."""
REASONS = ("protocol", "malformed", "tampering", "too few")
"""What a `ProtocolError`, a `WireError` or `ReplyError`, a `TamperError` and a `DropoutError` become."""
REFUSED, OBJECTS = "refused", "objects"
_MOST = 1000


@dataclass(frozen=True)
class Refusal:
    """One party's refusal of what another one sent.

    Attributes:
        by: who refuses; `BY_SERVER` for the server.
        party: whose message it is; empty if that cannot be told.
        reason: one of `REASONS`.
        round: the round.
        step: the step.
    """

    by: ClientId
    party: ClientId
    reason: str
    round: int
    step: str


def refusal(error: ProtocolError) -> Arrays:
    """The reply of a client that refuses."""
    return {REFUSED: _written([(error.party or "", error.reason)])}


def objections(found: Mapping[ClientId, str]) -> Arrays:
    """What is added to a reply: by party, the reason; nothing if there are none."""
    return {OBJECTS: _written(found.items())} if found else {}


def _written(found: Iterable[tuple[str, str]]) -> np.ndarray:
    return np.array(json.dumps([list(pair) for pair in found]))


def read(reply: Arrays, name: str, parties: Iterable[ClientId]) -> tuple[tuple[ClientId, str], ...]:
    """Parties, empty where nobody is named, and reasons that a client replied under `name`; none if it did not.

    Raises:
        ProtocolError: something else, or names that are not among `parties`.
    """
    text = reply.get(name)
    if text is None:
        return ()
    try:
        found = [(str(party), str(reason)) for party, reason in parsed(str(text.item()))]
    except (ValueError, TypeError) as error:
        raise ProtocolError("a refusal that cannot be read") from error
    known = {"", *parties}
    if len(found) > _MOST or any(party not in known or reason not in REASONS for party, reason in found):
        raise ProtocolError("a refusal of parties that do not exist, or for no known reason")
    return tuple(found)


def left_out(refusals: Iterable[Refusal], colluding: int) -> frozenset[ClientId]:
    """Whom a run goes on without: whom the server refused, or more clients than may be lying together did."""
    by: dict[ClientId, set[ClientId]] = {}
    for one in refusals:
        if one.party and one.party != one.by:
            by.setdefault(one.party, set()).add(one.by)
    return frozenset(party for party, who in by.items() if BY_SERVER in who or len(who) > colluding)
