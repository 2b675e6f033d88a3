"""The server's side of one run of the secure mean: it hands envelopes on; see `secfpp.secure.means.secure_mean`.

Envelopes for several recipients travel as one array, uint8 [recipients, bytes], in the sorted order of the recipients.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from secfpp.errors import ProtocolError, ReplyError
from secfpp.protocol.fields import parsed
from secfpp.protocol.program import Arrays, Ask, ClientId, Program, Replies
from secfpp.secure.means.updates import Base

AGREE, SUM, RECEIVE = (f"aggregator.{step}" for step in ("agree", "sum", "receive"))


def others(client: ClientId, group: Iterable[ClientId]) -> tuple[ClientId, ...]:
    """`group` without `client`."""
    return tuple(other for other in group if other != client)


@dataclass(frozen=True)
class Inclusion:
    """Whose updates are in the mean: those of `included` (sorted), which count from the base of `version`."""

    included: tuple[ClientId, ...]
    version: int
    digest: bytes

    @staticmethod
    def write(included: Sequence[ClientId], version: int) -> np.ndarray:
        """The message that says so."""
        return np.array(json.dumps({"included": list(included), "version": version}, sort_keys=True))

    @classmethod
    def read(cls, message: np.ndarray | None, weights: Mapping[ClientId, int], least: int, step: str) -> Inclusion:
        """What `write` wrote.

        Raises:
            ProtocolError: it is not that, names clients without a weight, or fewer than `least`.
        """
        try:
            text = str(message.item()) if message is not None else ""
            facts = parsed(text)
            included, version = tuple(map(str, facts["included"])), int(facts["version"])
        except (ValueError, TypeError, KeyError) as error:
            raise ProtocolError(f"step {step!r}: a list of included clients that cannot be read") from error
        if list(included) != sorted(set(included)) or not set(included) <= weights.keys():
            raise ProtocolError(f"step {step!r}: the included clients are not clients of this run, each once, sorted")
        if len(included) < least:
            raise ProtocolError(f"step {step!r}: a mean of {len(included)} updates, this client insists on {least}")
        return cls(included, version, sha256(text.encode()).digest())


Rows = Mapping[ClientId, np.ndarray]
"""By sender: its envelopes, uint8 [recipients, bytes]."""


class Relay:
    """The server's side of one run: it hands envelopes on.

    Args:
        agreed: the terms.
    """

    def __init__(self, agreed: Arrays) -> None:
        facts = parsed(agreed["about"].item())
        self.agreed = agreed
        self.attempt = np.array(facts["attempt"])
        self.clients, self.holders = tuple(facts["clients"]), tuple(facts["holders"])

    def rows(self, replies: Replies, key: str, to: Sequence[ClientId]) -> dict[ClientId, np.ndarray]:
        """Each sender's envelopes for all others of `to`, of one size; who sent something else is refused."""

        def read(client: ClientId, reply: Arrays) -> np.ndarray:
            array, count = reply.get(key), len(others(client, to))
            if array is None or array.dtype != np.uint8 or array.ndim != 2 or len(array) != count:
                shape = "nothing" if array is None else f"{array.dtype} {array.shape}"
                raise ReplyError(client, f"sent {shape} as its {key}, not {count} envelopes")
            return array

        return replies.alike(read, lambda rows: f"{key} of {rows.shape[1]} bytes")

    def for_holder(self, holder: ClientId, sealed: Mapping[str, Rows]) -> dict[str, np.ndarray]:
        """What clients sealed for a holder, of each kind."""
        return {key: _handed_on(rows, self.holders, holder) for key, rows in sealed.items()}

    def echoes_for_holders(self, echoes: Rows) -> dict[ClientId, Arrays]:
        """To each holder that confirmed the inclusion: what the others say of it."""
        return {
            holder: {
                "attempt": self.attempt,
                "holders": np.array(json.dumps(others(holder, echoes))),
                "echoes": _handed_on(echoes, self.holders, holder),
            }
            for holder in echoes
        }

    def sums_for_clients(
        self, sums: Rows, clients: Sequence[ClientId], inclusion: np.ndarray
    ) -> dict[ClientId, Arrays]:
        """To each of `clients`: the sums sealed for it."""
        return {
            client: {
                "attempt": self.attempt,
                "inclusion": inclusion,
                "holders": np.array(json.dumps(others(client, sums))),
                "envelopes": _handed_on(sums, self.clients, client),
            }
            for client in clients
        }

    def catch_up(
        self, sponsor: ClientId, shown: Replies, late: Sequence[ClientId], present: Base, first: bool = False
    ) -> Program[None]:
        """To each of `late`: the `present` base as `sponsor` sealed it for it; with the terms if told `first` here."""
        if sponsor not in shown or "bases" not in shown[sponsor]:
            return
        envelopes = self.rows(Replies({sponsor: shown[sponsor]}, refuse=shown.refuse), "bases", (sponsor, *late))
        common = {
            "attempt": self.attempt,
            "sponsor": np.array(sponsor),
            "version": np.array(present.version),
            "digest": np.array(present.digest),
            **(self.agreed if first else {}),
        }
        for rows in envelopes.values():
            yield Ask("aggregator.catch_up", {c: {**common, "base": row} for c, row in zip(late, rows, strict=True)})


def _handed_on(found: Rows, recipients: Sequence[ClientId], to: ClientId) -> np.ndarray:
    """What the other senders have for the recipient `to`; each sent a row to all `recipients` but itself."""
    place = recipients.index(to)
    before = set(recipients[:place])
    return np.array([rows[place - (sender in before)] for sender, rows in found.items() if sender != to])
