"""The server's side of one run of the secure mean: it hands envelopes on; see `secfpp.secure.means.secure_mean`.

Envelopes travel as rows of one array, see `secfpp.secure.envelopes`. What is sealed for all recipients alike travels
once, beside a small envelope for each (`Channel.seal_for_all`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import compress

import numpy as np

from secfpp.errors import ProtocolError, ReplyError
from secfpp.protocol.fields import parsed
from secfpp.protocol.program import Arrays, Ask, ClientId, Program, Replies
from secfpp.secure.envelopes import others, rows_of
from secfpp.secure.means.updates import Base
from secfpp.secure.session import in_short

AGREE, SUM, RECEIVE = (f"aggregator.{step}" for step in ("agree", "sum", "receive"))


@dataclass(frozen=True)
class Inclusion:
    """Whose updates are in the mean, and from which base they count.

    Attributes:
        base: that all of them have.
        digest: hash of the message that says all this.
        chosen: of the clients, in sorted order, whose: bool [clients].
    """

    base: Base
    digest: bytes
    chosen: np.ndarray = field(compare=False, repr=False)

    @staticmethod
    def write(included: Iterable[ClientId], base: Base, clients: Sequence[ClientId]) -> np.ndarray:
        """The message that says so, to all of `clients`: a bit for each."""
        chosen = set(included)
        bits = np.packbits([client in chosen for client in clients]).tobytes().hex()
        return np.array(json.dumps({"included": bits, "version": base.version, "base": base.digest}, sort_keys=True))

    @classmethod
    def read(cls, message: np.ndarray | None, clients: int, least: int, step: str) -> Inclusion:
        """What `write` wrote, for so many clients.

        Raises:
            ProtocolError: it is not that, or names fewer than `least`.
        """
        try:
            text = str(message.item()) if message is not None else ""
            facts = parsed(text)
            bits = np.frombuffer(bytes.fromhex(facts["included"]), np.uint8)
            base = Base(int(facts["version"]), str(facts["base"]))
        except (ValueError, TypeError, KeyError) as error:
            raise ProtocolError(f"step {step!r}: a list of included clients that cannot be read") from error
        chosen = np.unpackbits(bits, count=clients).astype(bool) if len(bits) == -(-clients // 8) else None
        if chosen is None or not np.array_equal(np.packbits(chosen), bits):
            raise ProtocolError(f"step {step!r}: the included clients are not clients of this run, a bit for each")
        if (found := int(chosen.sum())) < least:
            raise ProtocolError(f"step {step!r}: a mean of {found} updates, this client insists on {least}")
        return cls(base, sha256(text.encode()).digest(), chosen)

    def among(self, clients: Sequence[ClientId]) -> tuple[ClientId, ...]:
        """The included ones of all `clients`."""
        return tuple(compress(clients, self.chosen))


Rows = Mapping[ClientId, np.ndarray]
"""By sender: its envelopes, uint8 [recipients, bytes]."""


@dataclass(frozen=True)
class ForAll:
    """What each sender sealed for all others alike: its body, uint8 [bytes], and an envelope for each of them."""

    bodies: Rows = field(default_factory=dict)
    envelopes: Rows = field(default_factory=dict)


class Relay:
    """The server's side of one run: it hands envelopes on.

    Args:
        agreed: the terms.
    """

    def __init__(self, agreed: Arrays) -> None:
        facts = parsed(agreed["about"].item())
        self.agreed, self._short = agreed, in_short(agreed)
        self.attempt = np.array(facts["attempt"])
        self.clients, self.holders = tuple(facts["clients"]), tuple(facts["holders"])

    def terms_for(self, client: ClientId) -> Arrays:
        """The terms as this client needs them."""
        return self.agreed if client in self.holders else self._short

    def rows(self, replies: Replies, key: str, to: Sequence[ClientId]) -> dict[ClientId, np.ndarray]:
        """Each sender's envelopes for all others of `to`, of one size; who sent something else is refused."""
        known = set(to)

        def read(client: ClientId, reply: Arrays) -> np.ndarray:
            return rows_of(client, reply, key, len(to) - (client in known))

        return replies.alike(read, lambda rows: f"{key} of {rows.shape[1]} bytes")

    def for_all(self, replies: Replies, to: Sequence[ClientId]) -> ForAll:
        """What each sender sealed for all others of `to` alike; who sent something else is refused."""

        def read(client: ClientId, reply: Arrays) -> np.ndarray:
            body = reply.get("body")
            if body is None or body.dtype != np.uint8 or body.ndim != 1:
                raise ReplyError(client, "sent no sealed body")
            return body

        envelopes = self.rows(replies, "envelopes", to)
        bodies = replies.alike(read, lambda body: f"a body of {body.size} bytes")
        both = [client for client in envelopes if client in bodies]
        return ForAll({client: bodies[client] for client in both}, {client: envelopes[client] for client in both})

    def for_holder(self, holder: ClientId, sealed: Mapping[str, Rows]) -> dict[str, np.ndarray]:
        """What clients sealed for a holder, of each kind."""
        places = _places(self.holders)
        return {key: _handed_on(rows, places, holder) for key, rows in sealed.items()}

    def echoes_for_holders(self, echoes: Rows) -> dict[ClientId, Arrays]:
        """To each holder that confirmed the inclusion: what the others say of it."""
        places = _places(self.holders)
        return {
            holder: {
                "attempt": self.attempt,
                "holders": np.array(json.dumps(others(holder, echoes))),
                "echoes": _handed_on(echoes, places, holder),
            }
            for holder in echoes
        }

    def sums_for_clients(
        self, sums: ForAll, clients: Sequence[ClientId], inclusion: np.ndarray
    ) -> dict[ClientId, Arrays]:
        """To each of `clients`: the sealed sums, and what opens them."""
        common = {
            "attempt": self.attempt,
            "inclusion": inclusion,
            "holders": np.array(json.dumps(list(sums.envelopes))),
            "bodies": np.stack(list(sums.bodies.values())),
        }
        places = _places(self.clients)
        return {client: {**common, "envelopes": _handed_on(sums.envelopes, places, client)} for client in clients}

    def catch_up(
        self, sponsor: ClientId, shown: Replies, late: Sequence[ClientId], present: Base, first: bool = False
    ) -> Program[None]:
        """To each of `late`: the `present` base that `sponsor` sealed for them; with the terms if told `first` here."""
        if sponsor not in shown or "body" not in shown[sponsor]:
            return
        reply = Replies({sponsor: shown[sponsor]}, refuse=shown.refuse)
        sealed = self.for_all(reply, (sponsor, *late))
        common = {
            "attempt": self.attempt,
            "sponsor": np.array(sponsor),
            "version": np.array(present.version),
            "digest": np.array(present.digest),
            **(self.terms_for("") if first else {}),
        }
        for body, rows in zip(sealed.bodies.values(), sealed.envelopes.values(), strict=True):
            told = {**common, "body": body}
            yield Ask("aggregator.catch_up", {c: {**told, "envelope": row} for c, row in zip(late, rows, strict=True)})


def _places(recipients: Sequence[ClientId]) -> Mapping[ClientId, int]:
    return {recipient: place for place, recipient in enumerate(recipients)}


def _handed_on(found: Rows, places: Mapping[ClientId, int], to: ClientId) -> np.ndarray:
    """What the other senders have for the recipient `to`; each sent a row to all recipients but itself."""
    place = places[to]
    chosen = [rows[place - (places.get(sender, place) < place)] for sender, rows in found.items() if sender != to]
    return np.array(chosen, np.uint8).reshape(len(chosen), -1 if chosen else 0)
