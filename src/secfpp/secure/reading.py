"""What the terms of a protocol run say, as far as that is the same for everybody who reads them.

Of N clients it takes N hashes to see that a committee was drawn as it should be. A client does that once for each run;
clients that share a process, and so are told the same bytes, do it once for all of them. Nothing here is a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Any

from secfpp.errors import ProtocolError
from secfpp.protocol import wire
from secfpp.protocol.fields import parsed
from secfpp.protocol.program import Arrays, ClientId
from secfpp.secure.committee import Drawn, drawn_in
from secfpp.secure.key_lists import names_in

PROTOCOL_VERSION = 8
"""Raised with every change of what is computed or sent on shares; parties of different versions refuse each other."""
_TERMS = ("about", "holder_offers", "nonces")


@dataclass(frozen=True, eq=False)
class Terms:
    """Terms that were read; the same object for all who are told the same bytes in one process.

    Args:
        about: the agreed facts.
        digest: hash of all that terms say, 32 bytes.
        clients: the participants, sorted.
        holders: those who hold shares, sorted.
        drawn: how the holders were drawn; None if the server names them.
    """

    about: Mapping[str, Any]
    digest: bytes
    clients: tuple[ClientId, ...]
    holders: tuple[ClientId, ...]
    drawn: Drawn | None = field(repr=False)


@dataclass(frozen=True)
class _Told:
    """The arrays that are terms, compared by the hash of their bytes."""

    digest: bytes
    arrays: Arrays = field(compare=False, repr=False)


def read_terms(message: Arrays, step_name: str) -> Terms:
    """The terms that a message holds, beside which it may hold more.

    Raises:
        ProtocolError: another protocol version, or terms that no honest server sends.
        TamperError: randomness is left out of which holders were to be drawn.
    """
    told = {part: message[part] for part in _TERMS if part in message}
    return _read(_Told(sha256(wire.encode(told)).digest(), told), step_name)


@lru_cache(maxsize=4)  # clients that share a process are told the same
def _read(told: _Told, step_name: str) -> Terms:
    about = _facts(told.arrays, step_name)
    require_version(about["version"])
    about["clients"] = clients = names_in(about, step_name)
    holders = names_in({"clients": about["holders"]}, step_name)
    drawn = drawn_in(told.arrays, clients, about, step_name) if about["size"] > 0 else None
    if drawn is None and not set(holders) <= set(clients):
        raise ProtocolError(f"step {step_name!r}: holders that take no part")
    return Terms(about, told.digest, clients, holders, drawn)


def require_version(version: object) -> None:
    """Refuse another version of the protocol.

    Raises:
        ProtocolError: it is another.
    """
    if version != PROTOCOL_VERSION:
        raise ProtocolError(
            f"the server speaks version {version!r} of the secure protocol, this client {PROTOCOL_VERSION}: "
            "install the same release of secfpp everywhere"
        )


def _facts(agreed: Arrays, name: str) -> dict[str, Any]:
    """The agreed facts; those that the server always writes have the right type."""
    numbers, texts, lists = (
        ("version", "round", "attempt", "size", "draw"),
        ("component", "session", "offers"),
        ("holders", "listed"),
    )
    kinds = dict.fromkeys(numbers, int) | dict.fromkeys(texts, str) | dict.fromkeys(lists, list)
    try:
        facts = parsed(agreed["about"].item())
        if not isinstance(facts, dict) or not all(isinstance(facts[key], kind) for key, kind in kinds.items()):
            raise TypeError
        return facts
    except (KeyError, ValueError, TypeError) as error:
        raise ProtocolError(f"step {name!r}: terms that cannot be read") from error
