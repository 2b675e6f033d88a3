"""The server's side of one run of the secure mean: it hands envelopes on; see `secfpp.secure.means.secure_mean`.

Envelopes for several recipients travel as one array, uint8 [recipients, bytes], in the sorted order of the recipients.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from secfpp.errors import ProtocolError
from secfpp.protocol.fields import parsed
from secfpp.protocol.program import Arrays, Ask, ClientId

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

    def shares_for_holders(
        self, shared: Mapping[ClientId, Arrays], members: Sequence[ClientId], inclusion: np.ndarray
    ) -> dict[ClientId, Arrays]:
        """To each holder that answered: who is in the mean, and those clients' envelopes for it."""
        envelopes = _rows(shared, members, {m: len(others(m, self.holders)) for m in members}, "envelopes")
        return {
            holder: {
                "attempt": self.attempt,
                "inclusion": inclusion,
                "envelopes": _handed_on(envelopes, self.holders, holder),
            }
            for holder in self.holders
            if holder in shared
        }

    def echoes_for_holders(self, echoes: Mapping[ClientId, Arrays]) -> dict[ClientId, Arrays]:
        """To each holder that confirmed the inclusion: what the others say of it."""
        found = _rows(echoes, sorted(echoes), dict.fromkeys(echoes, len(self.holders) - 1), "echoes")
        return {
            holder: {
                "attempt": self.attempt,
                "holders": np.array(json.dumps(others(holder, found))),
                "echoes": _handed_on(found, self.holders, holder),
            }
            for holder in found
        }

    def sums_for_clients(
        self, sums: Mapping[ClientId, Arrays], clients: Sequence[ClientId], inclusion: np.ndarray
    ) -> dict[ClientId, Arrays]:
        """To each of `clients`: the sums sealed for it."""
        found = _rows(sums, sorted(sums), dict.fromkeys(sums, len(self.clients) - 1), "envelopes")
        return {
            client: {
                "attempt": self.attempt,
                "inclusion": inclusion,
                "holders": np.array(json.dumps(others(client, found))),
                "envelopes": _handed_on(found, self.clients, client),
            }
            for client in clients
        }

    def catch_up(
        self, sponsor: ClientId, shown: Mapping[ClientId, Arrays], late: Sequence[ClientId], first: bool = False
    ) -> Ask:
        """To each of `late`: the base that `sponsor` sealed for it; with the terms if it is told them `first` here."""
        envelopes = _rows(shown, [sponsor], {sponsor: len(late)}, "bases")[sponsor]
        common = {"attempt": self.attempt, "sponsor": np.array(sponsor), **(self.agreed if first else {})}
        return Ask(
            "aggregator.catch_up",
            {client: {**common, "base": row} for client, row in zip(late, envelopes, strict=True)},
        )

    def read_wrong(self, client: ClientId, reply: Arrays) -> dict[ClientId, str]:
        """The holders whose sums this client found wrong, and what was wrong with them.

        Raises:
            ProtocolError: it sent something else.
        """
        if "wrong" not in reply:
            return {}
        try:
            wrong = {str(holder): str(what) for holder, what in parsed(reply["wrong"].item()).items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise ProtocolError(f"client {client!r} sent a list of wrong sums that cannot be read") from error
        if not wrong.keys() <= set(self.holders):
            raise ProtocolError(f"client {client!r} says that sums of clients were wrong that are no holders")
        return wrong


def _handed_on(found: Mapping[ClientId, np.ndarray], recipients: Sequence[ClientId], to: ClientId) -> np.ndarray:
    """What the other senders have for the recipient `to`; each sent a row to all `recipients` but itself."""
    place = recipients.index(to)
    before = set(recipients[:place])
    return np.array([rows[place - (sender in before)] for sender, rows in found.items() if sender != to])


def _rows(
    replies: Mapping[ClientId, Arrays], senders: Sequence[ClientId], counts: Mapping[ClientId, int], key: str
) -> dict[ClientId, np.ndarray]:
    """Each sender's envelopes, checked for their number and for equal sizes.

    Raises:
        ProtocolError: other envelopes than an honest client sends.
    """
    found: dict[ClientId, np.ndarray] = {}
    width = None
    for sender in senders:
        array = replies[sender].get(key)
        if array is None or array.dtype != np.uint8 or array.ndim != 2 or len(array) != counts[sender]:
            shape = "nothing" if array is None else f"{array.dtype} {array.shape}"
            raise ProtocolError(
                f"client {sender!r} sent {shape} as its {key}, not {counts[sender]} envelopes; leave it out"
            )
        width = array.shape[1] if width is None else width
        if array.shape[1] != width:
            raise ProtocolError(
                f"client {sender!r} sent {key} of {array.shape[1]} bytes, {senders[0]!r} of {width}: one of them has "
                "another slot than the rest; leave it out of the cohort"
            )
        found[sender] = array
    return found
