"""k-means on shares as a program: SecPC between a server that sees no descriptor and clients who hold shares of all."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np

from secfpp.crypto.arithmetic import Computation, Pool, Shared
from secfpp.crypto.material import Estimate
from secfpp.errors import ConfigError, LeakyProtocolWarning, Problem
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import Arrays, ClientState, Program, step
from secfpp.secure.circuits import holder
from secfpp.secure.circuits.plan import Plan, estimated, sets_of
from secfpp.secure.circuits.server import About, dealing
from secfpp.secure.clustering import distances
from secfpp.secure.clustering.descriptor import radius
from secfpp.secure.clustering.found import ONE, Found, Reveal
from secfpp.secure.clustering.layout import Layout
from secfpp.secure.clustering.on_shares import OnShares
from secfpp.secure.clustering.plain_kmeans import KMeans
from secfpp.secure.clustering.searching import descriptor_in
from secfpp.secure.clustering.secpc import SecPC
from secfpp.secure.session import Joined


@dataclass(frozen=True)
class SecureKMeans(OnShares, KMeans):
    """`KMeans` on shares: the server and up to T holders together learn the partition and little more.

    That is, for every K which runs go on after the first iteration; of those the sizes of their clusters and, if none
    is too small, the inertia; and which pairs of clients are together in the winner. See docs/threat-model.md for the
    statement.

    Args:
        reveal: ``partition``; or ``assignments``, to open every iteration's assignments of every run too, which
            correlate with distances between clients: for research. ``distances`` is the paper's variant, which lets
            the server see all distances to all centres, and warns: see `secfpp.secure.clustering.distances`.
        compare_bits: 0 compares all bits, so that the result is that of `PlainKMeans`; 20 or 24 compare the leading
            ones, in one exchange less an iteration: near ties can go either way.

    Raises:
        ConfigError: values that cannot work, too few clients, or clusters that T holders could see through.
        DropoutError: too few clients or holders are left.
        TamperError: somebody shared something out of range, or changed a message.
    """

    kind: ClassVar[str] = "secure_kmeans"

    reveal: Literal["partition", "assignments", "distances"] = "partition"
    compare_bits: Literal[0, 20, 24] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = []
        if self.compare_bits and self.threshold == "high":
            problems.append(Problem("clusterer.compare_bits", self.compare_bits, 'only with threshold = "standard"'))
        if self.compare_bits and self.reveal == "distances":
            problems.append(Problem("clusterer.compare_bits", self.compare_bits, 'not with reveal = "distances"'))
        if self.security == "active" and self.reveal == "distances":
            problems.append(Problem("clusterer.security", self.security, '"passive" with reveal = "distances"'))
        if problems:
            raise ConfigError(problems)

    def protection(self, n_clients: int) -> Mapping[str, object]:
        """What a report says of a run with so many clients."""
        holders = min(n_clients, self.committee)
        threshold = self.collusion(n_clients)
        return {"reveal": self.reveal, "holders": holders, "threshold": threshold, "security": self.security}

    def find(self, cohort: Cohort, slot: str) -> Program[tuple[Found, Cohort]]:
        """See `OnShares.find`."""
        self.require_some(len(cohort))
        if self.is_one(len(cohort)):
            return ONE, cohort
        self.require_room(len(cohort), self.dimensions, cohort.seed, cohort.round)
        if self.reveal == "distances":
            slices = self.slices(min(len(cohort), self.committee), self.collusion(len(cohort)))
            warnings.warn(
                f"{self.kind} with reveal = 'distances': {slices.width + 1} clients and the server together compute "
                "everybody's descriptor exactly; reveal = 'partition' gives the same groups without that",
                LeakyProtocolWarning,
                stacklevel=2,
            )
            return (yield from self._measured(cohort, self.agreed(cohort, slot, {})))
        return (yield from self.grouped(cohort, cohort, slot, {}, radius(self.bits)))

    def _measured(self, cohort: Cohort, about: About) -> Program[tuple[Found, Cohort]]:
        """See `secfpp.secure.clustering.distances`."""
        left, dealt = yield from dealing("clusterer", cohort, about, self.committee, coins=False)
        if dealt is None:
            return ONE, left
        slices = self.slices(len(dealt.holders), dealt.facts["threshold"])
        search = self.search(len(left), left.seed, left.round)
        return (yield from distances.lead(dealt, slices, search)), left

    def require(self, clients: int) -> None:
        """See `Clusterer.require`."""
        super().require(clients)
        if not self.is_one(clients):
            self.require_room(clients, self.dimensions, 0, 0)

    def layout(self, facts: Mapping[str, Any]) -> Layout:
        """See `OnShares.layout`."""
        return Layout(self.dimensions, self.bits, radius(self.bits))

    def grouping(self, facts: Mapping[str, Any]) -> Plan:
        """See `OnShares.grouping`."""
        clients, holders = len(facts["clients"]), len(facts["holders"])
        return self.plan(clients, holders, facts["threshold"], facts["seed"], facts["round"])

    def plan(self, clients: int, holders: int, threshold: int, seed: int, round_: int) -> Plan:
        """The search for groups of so many clients with so many holders."""
        layout, circuit = self.layout({}), self.circuit(clients, threshold, seed, round_)

        def run(inputs: Shared, pool: Pool) -> Computation[Found]:
            return circuit.run(layout.points(inputs), pool)

        return Plan.of(
            run,
            layout.defects,
            clients=clients,
            width=layout.width,
            holders=holders,
            threshold=threshold,
            limit=self.limit,
            security=self.security,
            estimate=_estimate(self, clients, threshold, seed, round_),
        )

    def circuit(self, clients: int, threshold: int, seed: int, round_: int) -> SecPC:
        """What is computed on points."""
        levels = (1 if self.limit == 5 else 2) if not self.compare_bits else 0
        reveal: Reveal = "assignments" if self.reveal == "assignments" else "partition"
        search = self.search(clients, seed, round_)
        return SecPC(search, self.carry(clients, threshold), self.limit, levels, self.compare_bits or None, reveal)

    def slices(self, holders: int, threshold: int) -> distances.Slices:
        """How ``reveal="distances"`` cuts and codes descriptors."""
        tolerated = distances.tolerated(holders, threshold, self.limit, self.dropouts)
        return distances.Slices.plan(holders, threshold, tolerated, self.dimensions)

    def point(self, joined: Joined, state: ClientState) -> np.ndarray:
        """See `OnShares.point`."""
        return self.described(descriptor_in(state, joined.fact("slot", str)), joined.fact("seed", int))

    @step
    def deal(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Share the descriptor with all holders, and randomness if this client is one of them."""
        joined = self.joined(context, payload)
        own = self.shared_by(joined, state)
        if self.reveal != "distances" or joined.about["task"] != "group":
            return state, holder.deal(joined, self.plan_of(joined), own)
        search = self.search(len(joined.clients), joined.fact("seed", int), joined.fact("round", int))
        slices = self.slices(len(joined.holders), joined.fact("threshold", int))
        return state, distances.deal(joined, slices, search, self.point(joined, state))

    @step
    def measure(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """A holder's part of one exchange with ``reveal="distances"``."""
        return state, distances.measure(context, payload)


@lru_cache(maxsize=4)  # clients that share a process ask for the same
def _estimate(settings: SecureKMeans, n: int, threshold: int, seed: int, round_: int) -> Estimate:
    run = settings.circuit(n, threshold, seed, round_).run
    sets = sets_of(min(n, settings.committee), threshold, settings.limit, settings.security)
    estimate = estimated(run, (n, settings.dimensions), threshold, settings.limit, len(sets))
    estimate.decisive += 1  # the partition, which is not opened of nothing but zeros
    return estimate
