"""The first half of a secure mean on the server's side: clients share their updates, and prove that they are clipped.

Clients do so in batches, and holders take in one batch after the other, each one exchange behind the one before it. So
neither messages with envelopes nor what the server keeps of them grow with the number of clients. A holder keeps a
share of each client, which it adds when it is told whose updates count.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from secfpp.protocol.program import Ask, ClientId, Program
from secfpp.secure.means.updates import Base, agreed_base, base_in

if TYPE_CHECKING:
    from secfpp.secure.means.relay import Relay, Rows

SHARE, TAKE = "aggregator.share", "aggregator.take"
MOST = 512
"""Most clients of a batch."""
LARGEST = 1 << 26
"""Bytes of envelopes in a message to a holder (64 MiB), of one client at least."""


def batches_of(clients: Sequence[ClientId], holders: Sequence[ClientId]) -> list[tuple[ClientId, ...]]:
    """All clients in batches of about equal size, each sorted; holders are in the first one."""
    if len(clients) <= MOST:
        return [tuple(clients)]
    known = set(holders)
    rest = iter([*sorted(holders), *(client for client in clients if client not in known)])
    return [tuple(sorted(islice(rest, size))) for size in sizes_of(len(clients))]


def sizes_of(clients: int) -> list[int]:
    """How many clients are in each batch."""
    width = _width(clients)
    return [min(width, clients - start) for start in range(0, clients, width)]


def batch_of(client: ClientId, clients: Sequence[ClientId], holders: Sequence[ClientId]) -> int:
    """The number of the batch that a client is in, of those that `batches_of` gives."""
    if len(clients) <= MOST or client in holders:
        return 0
    place = len(holders) + bisect_left(clients, client) - bisect_left(holders, client)
    return place // _width(len(clients))


def _width(clients: int) -> int:
    """How many clients a batch has, but for the last one."""
    return -(-clients // -(-clients // MOST))


def portions(clients: Sequence[ClientId], *kinds: Rows) -> Iterator[tuple[ClientId, ...]]:
    """Consecutive clients whose envelopes for one holder fit a message."""
    rest, most = iter(clients), portion_of(sum(next(iter(rows.values())).shape[1] for rows in kinds if rows))
    while portion := tuple(islice(rest, most)):
        yield portion


def portion_of(width: int) -> int:
    """How many clients' envelopes of together `width` bytes fit a message."""
    return max(LARGEST // max(width, 1), 1)


@dataclass
class Intake:
    """What has been taken in so far.

    Attributes:
        relay: of the run.
        known: the base that the last mean left, if the server knows it.
        colluding: how many may tell a false one together.
        told: who shared an update, and of which base.
        good: whose shares holders have, and found to be of a clipped update if that is asked.
        holders: those who have all of these.
        left: what nobody was given yet, where holders get it together with the list of who is in the mean.
    """

    relay: Relay
    known: Base | None
    colluding: int
    told: dict[ClientId, Base] = field(default_factory=dict)
    good: set[ClientId] = field(default_factory=set)
    holders: tuple[ClientId, ...] = ()
    left: Rows = field(default_factory=dict)

    @property
    def batches(self) -> list[tuple[ClientId, ...]]:
        """See `batches_of`."""
        return batches_of(self.relay.clients, self.relay.holders)

    @property
    def present(self) -> Base | None:
        """The base that all should go on from, see `agreed_base`."""
        return agreed_base(self.told, self.colluding, self.known)

    @property
    def members(self) -> tuple[ClientId, ...]:
        """Whose updates can be in the mean, sorted."""
        present = self.present
        return tuple(sorted(client for client in self.good if self.told[client] == present))

    def shared(self, number: int) -> Program[tuple[tuple[ClientId, ...], Rows]]:
        """Let a batch share: whose update may count, as far as can be told by then, and everybody's envelopes."""
        batches = self.batches
        asked = batches[number]
        replies = yield Ask(SHARE, {client: self.relay.terms_for(client) for client in asked})
        found, rows = replies.readable(base_in), self.relay.rows(replies, "envelopes", self.relay.holders)
        told = {client: base for client, base in found.items() if client in rows}
        self.told |= told
        if not number:
            self.holders = tuple(holder for holder in self.relay.holders if holder in told)
        present = agreed_base(told, self.colluding, self.known)
        if len(batches) > 1 and (self.known is None or self.known not in told.values()):
            return tuple(told), rows  # others may tell of another base
        return tuple(client for client, base in told.items() if base == present), rows

    def keep(self, holders: Sequence[ClientId], good: Sequence[ClientId]) -> None:
        """Note whose shares these holders have; who lacks them can no longer take part."""
        self.holders = tuple(holder for holder in self.holders if holder in holders)
        self.good |= set(good)


def handed_over(intake: Intake, number: int) -> Program[None]:
    """Let a batch share, and hand the shares to holders; of an only batch with the list of who is in the mean."""
    clients, rows = yield from intake.shared(number)
    relay = intake.relay
    if len(intake.batches) == 1 and len(list(portions(clients, rows))) <= 1:
        intake.left = rows
        intake.good |= set(clients)
        return
    for portion in portions(clients, rows):
        common = {"attempt": relay.attempt, "clients": np.array(json.dumps(portion))}
        sealed = {"envelopes": {client: rows[client] for client in portion}}
        took = yield Ask(TAKE, {h: {**common, **relay.for_holder(h, sealed)} for h in intake.holders})
        intake.keep(list(took), portion)
