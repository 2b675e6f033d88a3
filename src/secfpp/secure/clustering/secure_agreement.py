"""Groups by agreement on shares as a program."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from secfpp.crypto.material import Estimate
from secfpp.errors import ConfigError, DropoutError, ProtocolError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.fields import text_in
from secfpp.protocol.program import Arrays, Ask, ClientState, Joint, Program, step
from secfpp.secure.circuits.plan import Plan, estimated, sets_of
from secfpp.secure.clustering import agreement
from secfpp.secure.clustering.agreed import Agreed
from secfpp.secure.clustering.found import ONE, Found
from secfpp.secure.clustering.layout import Layout
from secfpp.secure.clustering.on_shares import OnShares
from secfpp.secure.clustering.plain_agreement import Agreement, shape_in, shape_of
from secfpp.secure.clustering.searching import descriptor_in
from secfpp.secure.session import Joined, greet, greeted

ANNOUNCE = "clusterer.announce"
MANY = 64
"""Of more clients, digits are combined in one exchange more an iteration, for a quarter fewer openings in all."""
_FEW = 64
"""Numbers in a descriptor that are taken for granted as long as it is not known how many there are."""


@dataclass(frozen=True)
class SecureAgreement(OnShares, Agreement):
    """`Agreement` on shares: the server and up to T holders together learn the partition and little more.

    That is, how many numbers a descriptor has and the spread of products, and which pairs of clients are together in
    the best run, but not what it costs, nor anything of others. See docs/threat-model.md for the statement.

    Raises:
        ConfigError: values that cannot work, too few clients, or clusters that T holders could see through.
        DropoutError: too few clients or holders are left.
        ProtocolError: clients whose descriptors differ in size, or that have other spreads.
        TamperError: somebody shared something out of range, or changed a message.
        FieldRangeError: too many clients for exact arithmetic.
    """

    kind: ClassVar[str] = "secure_agreement"

    def protection(self, n_clients: int) -> Mapping[str, object]:
        """What a report says of a run with so many clients."""
        holders = min(n_clients, self.committee)
        threshold = self.collusion(n_clients)
        return {"reveal": "partition", "holders": holders, "threshold": threshold, "security": self.security}

    def require(self, clients: int) -> None:
        """See `Clusterer.require`."""
        super().require(clients)
        if not self.is_one(clients):
            self.require_room(clients, _FEW, 0, 0)

    def prepare(self, clients: int, dimensions: int, seed: int) -> None:
        """See `Agreement.prepare`; and how much shared randomness the search takes."""
        super().prepare(clients, dimensions, seed)
        if not self.is_one(clients):
            with suppress(ConfigError):  # too few to hold shares, which is said when groups are to be found
                _estimate(self, Size(self.searched(clients), dimensions, self.collusion(clients), seed, 1))

    def find(self, cohort: Cohort, slot: str) -> Program[tuple[Found, Cohort]]:
        """See `OnShares.find`."""
        self.require_some(len(cohort))
        if self.is_one(len(cohort)):
            return ONE, cohort
        self.require(len(cohort))
        asked, known = yield from self.announced(cohort, slot)
        self.require_room(len(cohort), known["dimensions"], cohort.seed, cohort.round)
        return (yield from self.grouped(cohort, asked, slot, known, self.radius(known["dimensions"])))

    def announced(self, cohort: Cohort, slot: str) -> Program[tuple[Cohort, Mapping[str, Any]]]:
        """See `OnShares.announced`; one exchange, together with that of keys if there are none."""
        ask = Ask(ANNOUNCE, {client: {"slot": np.array(slot)} for client in cohort.clients})
        if set(cohort.clients) <= set(cohort.keys):
            told = yield ask
            left = cohort.subset(told)
        else:
            replies = yield Joint({"keys": greet(cohort), "announce": ask})
            told = replies.joint["announce"]
            left = greeted(cohort.subset(told), replies.joint["keys"])
        if not left.clients:
            raise DropoutError(ANNOUNCE, self.min_cluster_size, 0, cohort.clients)
        dimensions, spread = shape_in(told)
        self.require_shape(len(cohort), dimensions)
        return left, {"dimensions": dimensions, "spread": spread}

    @step
    def announce(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Reply how many numbers the descriptor has, and the spread of products; both are public."""
        return state, shape_of(state, text_in(payload, "slot"))

    def point(self, joined: Joined, state: ClientState) -> np.ndarray:
        """See `OnShares.point`."""
        slot = joined.fact("slot", str)
        own = {name: value.item() for name, value in shape_of(state, slot).items()}
        theirs = {"dimensions": joined.fact("dimensions", int), "spread": joined.fact("spread", float)}
        if theirs != own:
            raise ProtocolError(f"the server clusters descriptors of {theirs}, this client has one of {own}")
        return self.described(descriptor_in(state, slot))

    def layout(self, facts: Mapping[str, Any]) -> Layout:
        """See `OnShares.layout`."""
        dimensions = facts["dimensions"]
        return Layout(dimensions, self.largest.bit_length() + 1, self.radius(dimensions))

    def grouping(self, facts: Mapping[str, Any]) -> Plan:
        """See `OnShares.grouping`."""
        size = Size(len(facts["clients"]), facts["dimensions"], facts["threshold"], facts["seed"], facts["round"])
        return self.plan(size, len(facts["holders"]), facts["spread"])

    def plan(self, size: Size, holders: int, spread: float | None = None) -> Plan:
        """The search for groups among so many holders; without a spread, one that costs as much."""
        circuit, layout = self.circuit(size, spread), self.layout({"dimensions": size.dimensions})
        return Plan.of(
            lambda inputs, pool: circuit.run(layout.points(inputs), pool),
            layout.defects,
            clients=size.clients,
            width=layout.width,
            holders=holders,
            threshold=size.threshold,
            limit=self.limit,
            security=self.security,
            estimate=_estimate(self, size),
        )

    def circuit(self, size: Size, spread: float | None = None) -> Agreed:
        """What is computed on points; without a spread, nothing is allowed for noise."""
        search = self.search(size.clients, size.dimensions, size.seed, size.round)
        allowances = {} if spread is None else agreement.allowances(search, spread)
        levels = 1 if self.limit == 5 and size.clients <= MANY else 2
        carry = self.carry(size.clients, size.threshold)
        return Agreed(search, carry, self.limit, levels, allowances=allowances)


@dataclass(frozen=True)
class Size:
    """What a search costs depends on this; `round` and `seed` make a small difference."""

    clients: int
    dimensions: int
    threshold: int
    seed: int = 0
    round: int = 0


@lru_cache(maxsize=4)  # clients that share a process ask for the same
def _estimate(settings: SecureAgreement, size: Size) -> Estimate:
    run, shape = settings.circuit(size).run, (size.clients, size.dimensions)
    holders = min(size.clients, settings.committee)
    sets = sets_of(holders, size.threshold, settings.limit, settings.security)
    return estimated(run, shape, size.threshold, settings.limit, len(sets))
