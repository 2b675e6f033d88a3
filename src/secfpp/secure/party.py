"""A client's secrets: its identity and the roster, and in memory only the keys of the present round."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from secfpp.crypto.channel import Channel, SessionKey
from secfpp.crypto.roster import IdentityKey, Roster
from secfpp.errors import ProtocolError
from secfpp.protocol.program import ClientId
from secfpp.secure.ledger import Ledger
from secfpp.seeding import Entropy, SystemEntropy


@dataclass
class Party:
    """A client's secrets and what it keeps in memory for one round.

    Args:
        name: the client.
        identity: its long-lived key.
        roster: the keys of all clients, agreed before the run.
        entropy: where its secret randomness comes from.
        ledger: its rounds, and what it did in the present one.
        least_colluding: how many holders, at least, may work together with the server in what it takes part in; T.
        session: the present round's keys.
    """

    name: ClientId
    identity: IdentityKey = field(repr=False)
    roster: Roster
    entropy: Entropy = field(default_factory=SystemEntropy, repr=False)
    ledger: Ledger = field(default_factory=Ledger)
    least_colluding: int = 0
    session: RoundKeys | None = field(default=None, repr=False)


@dataclass
class RoundKeys:
    """One round's keys; `running` is what protocol runs keep between steps, by attempt.

    `shown` is a hash of the commitments for which this client showed its nonce, `peers` the offers of others that were
    found to be signed by them, `channel` is to all of those, `met` are the clients that this one is grouped with.
    """

    name: str
    key: SessionKey
    nonce: bytes = field(repr=False)
    offer: bytes
    shown: bytes | None = None
    peers: dict[ClientId, bytes] = field(default_factory=dict)
    channel: Channel | None = None
    joined: set[int] = field(default_factory=set)
    running: dict[int, Any] = field(default_factory=dict, repr=False)
    met: frozenset[ClientId] = frozenset()


def parties_in_memory(names: Iterable[ClientId], run: str = "simulation") -> dict[ClientId, Party]:
    """Fresh identities and their roster, for clients that share a process."""
    keys = {name: IdentityKey.generate() for name in sorted(names)}
    roster = Roster(run, 1, {name: key.public for name, key in keys.items()})
    return {name: Party(name, key, roster) for name, key in keys.items()}


def party_of(context: object) -> Party:
    """The party in a client's context.

    Raises:
        ProtocolError: the context has none.
    """
    party = getattr(context, "party", None)
    if not isinstance(party, Party):
        raise ProtocolError(
            "this client has no keys: secure steps need a context with a Party, see secfpp.secure.session"
        )
    return party
