"""A search for groups by a server that sees no descriptor, and clients who hold shares of all."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from secfpp.crypto.field import Elements
from secfpp.errors import ConfigError, DropoutError, Problem, ProtocolError, TamperError
from secfpp.protocol import wire
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import ClientId, ClientState, Program
from secfpp.secure import committee
from secfpp.secure.circuits.component import Circuit
from secfpp.secure.circuits.plan import Plan, Security, carry
from secfpp.secure.clustering.found import Found
from secfpp.secure.clustering.layout import Layout
from secfpp.secure.clustering.placed import Placed
from secfpp.secure.clustering.placing import Placing, taking_part
from secfpp.secure.clustering.searching import Searching
from secfpp.secure.session import Joined, meet

DEAL, PROCEED = "clusterer.deal", "clusterer.proceed"
ONE = Found(None, 1, {}, {}, 0, {})
"""What comes out where nothing has to be computed."""


@dataclass(frozen=True)
class OnShares(Circuit[Any], Searching):
    """A search on shares: of groups for all, or of places for newcomers, as the terms say.

    Args:
        threshold: ``standard`` (c >= 5 T + 1 + dropouts, 3 exchanges an iteration) or ``high`` (c >= 3 T + 1, 5 of
            them).
        dropouts: how many holders may go missing; None tolerates 5 of 16, and fewer of fewer.
        committee: most holders; of more clients, so many are drawn.
        security: ``active``: a server that tells false values, with T holders who do whatever it likes, gets an abort
            and nothing else; c >= 6 T + 1 + dropouts (``high``: 4 T). ``passive``: holders believe what it tells.
    """

    component: ClassVar[str] = "clusterer"
    needs_keys: ClassVar[bool] = True

    threshold: Literal["standard", "high"] = "standard"
    dropouts: int | None = None
    committee: int = committee.LARGEST
    security: Security = "passive"

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = []
        if not 4 <= self.committee <= 100:
            problems.append(Problem("clusterer.committee", self.committee, "4 to 100"))
        if self.dropouts is not None and self.dropouts < 0:
            problems.append(Problem("clusterer.dropouts", self.dropouts, "must not be negative"))
        if problems:
            raise ConfigError(problems)

    @abstractmethod
    def layout(self, facts: Mapping[str, Any]) -> Layout:
        """How descriptors are shared, on these terms."""

    @abstractmethod
    def grouping(self, facts: Mapping[str, Any]) -> Plan:
        """The search for groups, on these terms."""

    @abstractmethod
    def point(self, joined: Joined, state: ClientState) -> np.ndarray:
        """The client's rounded descriptor, int16 [d].

        Raises:
            ProtocolError: terms that it does not agree to, beside those that `OnShares` looks at.
        """

    def announced(self, cohort: Cohort, slot: str) -> Program[tuple[Cohort, Mapping[str, Any]]]:
        """What clients tell of their descriptors before anything is shared, for the terms; and who is left."""
        yield from ()
        return cohort, {}

    @property
    def limit(self) -> int:
        """The largest degree that is opened, in multiples of T."""
        return 5 if self.threshold == "standard" else 3

    def collusion(self, clients: int) -> int:
        """T among `clients`.

        Raises:
            ConfigError: fewer clients than T = 1 takes, or a minimum cluster size of less than T + 2.
        """
        active = self.security == "active"
        holders, needed = min(clients, self.committee), self.limit + active + 1 + (self.dropouts or 0)
        if holders < needed:
            short = ("clusterer.committee", self.committee) if self.committee < clients else ("clients", clients)
            spare = holders - self.limit - active - 1
            instead = f", or clusterer.dropouts = {spare}" if self.dropouts and spare >= 0 else ""
            instead += ', or clusterer.security = "passive"' if active and spare == -1 else ""
            raise ConfigError([Problem(*short, f"at least {needed} to hold shares{instead}")])
        t = committee.clustering_threshold(holders, self.limit, self.dropouts, active=active)
        if self.min_cluster_size < t + 2:
            raise ConfigError(
                [
                    Problem(
                        "clusterer.min_cluster_size",
                        self.min_cluster_size,
                        f"at least {t + 2}: else {t} holders could take themselves out of a cluster's average",
                    )
                ]
            )
        return t

    def carry(self, clients: int, threshold: int) -> int:
        """See `secfpp.crypto.comparison.Comparator`, among so many clients."""
        return carry(min(clients, self.committee), threshold, self.limit, self.security)

    def is_one(self, clients: int) -> bool:
        """Whether there are too few for two clusters, so that nothing has to be computed."""
        return (self.k or self.k_max) == 1 or clients < (self.k or 2) * self.min_cluster_size

    def require_enough(self, asked: Cohort, left: Cohort) -> None:
        """Refuse to go on with too few of those asked.

        Raises:
            DropoutError: they are too few.
        """
        needed = self.min_cluster_size
        if len(asked) > len(left) >= needed:
            try:
                self.collusion(len(left))
            except ConfigError:
                needed = len(left) + 1
        if len(left) < needed:
            raise DropoutError(DEAL, needed, len(left), sorted(set(asked.clients) - set(left.clients)))

    def terms(self, left: Cohort, slot: str, task: Literal["group", "place"]) -> dict[str, Any]:
        """What those who are left of a cohort agree on."""
        threshold = self.collusion(len(left))
        return {"slot": slot, "seed": left.seed, "threshold": threshold, "settings": asdict(self), "task": task}

    def assign(self, cohort: Cohort, slot: str, previous: Assignment | None) -> Program[Assignment]:
        """See `Clusterer.assign`."""
        found, cohort = yield from self.find(cohort, slot)
        if found.labels is None:
            return Assignment(dict.fromkeys(cohort.clients, 0))
        return Assignment.from_labels(cohort.clients, found.labels.tolist())

    @abstractmethod
    def find(self, cohort: Cohort, slot: str) -> Program[tuple[Found, Cohort]]:
        """All that becomes public, and who took part: like `assign`, for audits and tests."""

    def grouped(
        self, cohort: Cohort, about: Callable[[Cohort], Mapping[str, Any] | None], radius: int
    ) -> Program[tuple[Found, Cohort]]:
        """The groups of those who are left of a cohort.

        Raises:
            TamperError: what was opened cannot be right.
        """
        found, left = yield from self.compute(cohort, about, self.committee)
        if found is None:
            return ONE, left
        if not found.plausible(len(left), radius, self.min_cluster_size):
            raise TamperError(None, PROCEED, "what was opened is no partition: a holder answered wrongly")
        return found, left

    def place(
        self, cohort: Cohort, slot: str, assignment: Assignment, newcomers: Iterable[ClientId]
    ) -> Program[Assignment]:
        """See `Clusterer.place`: which group each newcomer gets becomes public, nothing else."""
        new = frozenset(newcomers)
        asked = taking_part(cohort, assignment, new)
        if not self._placing(asked, assignment, new).undecided:
            return self._placing(asked, assignment, new).joined(asked.clients, assignment, None)
        self.collusion(len(asked))
        asked, known = yield from self.announced(asked, slot)

        def about(left: Cohort) -> Mapping[str, Any] | None:
            self.require_enough(asked, left)
            placing = self._placing(left, assignment, new)
            return {**self.terms(left, slot, "place"), **known, **placing.facts} if placing.undecided else None

        chosen, left = yield from self.compute(asked, about, self.committee)
        if chosen is not None and (chosen < 0).any():
            raise TamperError(None, PROCEED, "what was opened is no group: a holder answered wrongly")
        places = None if chosen is None else chosen.tolist()
        return self._placing(left, assignment, new).joined(left.clients, assignment, places)

    def _placing(self, cohort: Cohort, assignment: Assignment, newcomers: Iterable[ClientId]) -> Placing:
        return Placing.of(cohort.clients, assignment, newcomers, self.min_cluster_size, DEAL)

    def planned(self, facts: Mapping[str, Any]) -> Plan:
        """See `Circuit.planned`."""
        if facts["task"] == "group":
            return self.grouping(facts)
        layout, threshold = self.layout(facts), facts["threshold"]
        placing = Placing.read(facts, len(facts["clients"]), self.min_cluster_size)
        most = self.carry(len(facts["clients"]), threshold)
        circuit = Placed(placing, layout.longest, not self.by_agreement, most, self.limit)
        return Plan.of(
            lambda inputs, pool: circuit.run(layout.points(inputs), pool),
            layout.defects,
            clients=len(facts["clients"]),
            width=layout.width,
            holders=len(facts["holders"]),
            threshold=threshold,
            limit=self.limit,
            security=self.security,
        )

    def shared_by(self, joined: Joined, state: ClientState) -> Elements:
        """See `Circuit.shared_by`: the bits of the descriptor."""
        self.require_terms(joined)
        point = self.point(joined, state)
        meet(joined, self._grouped(joined))
        return self.layout(joined.about).encode(point)

    def _grouped(self, joined: Joined) -> Iterable[ClientId]:
        """Who is grouped; where newcomers are placed, who was before."""
        if joined.about["task"] == "group":
            return joined.clients
        return (client for client, group in zip(joined.clients, joined.about["groups"], strict=True) if group >= 0)

    def require_terms(self, joined: Joined) -> None:
        """Refuse terms that are not this client's settings.

        Raises:
            ProtocolError: they are not.
        """
        theirs, threshold = joined.fact("settings", dict), joined.fact("threshold", int)
        if theirs != asdict(self):
            other = {k: (theirs.get(k), v) for k, v in asdict(self).items() if theirs.get(k) != v}
            raise ProtocolError(f"the server clusters with other settings than this client agreed to: {other}")
        size, n = joined.fact("size", int), len(joined.clients)
        if threshold != self.collusion(n) or size != self.committee or n < self.min_cluster_size:
            raise ProtocolError(
                f"the server clusters {n} clients with up to {size} holders of shares and threshold {threshold}, which "
                "is not what this client agreed to"
            )
        if joined.fact("task", str) != "group":
            Placing.read(joined.about, n, self.min_cluster_size)

    def require_room(self, n: int, dimensions: int, seed: int, round_: int) -> None:
        """Refuse a search that deals or opens more than a message can hold.

        Args:
            n: clients.
            dimensions: numbers in a descriptor.
            seed: of the cohort, like `round_`; they make a small difference.
            round_: number of the round.

        Raises:
            ConfigError: it does not fit, and what would; or there are too few clients to hold shares.
        """
        from secfpp.secure.clustering import room  # which knows the kinds of searches

        holders, k = self.collusion(n) and min(n, self.committee), self.k or min(self.k_max, n // self.min_cluster_size)
        group = self.restarts // self.finalists
        contest = self.finalists * group * (group - 1) // 2 if k > 1 else 0
        size = 8 * (self.restarts * n + 8 * contest) * (holders - 1) // holders  # far less than all of it
        cost = None
        if size <= wire.MAX_MESSAGE:
            cost = room.cost_of(self, n, dimensions, seed, round_)
            if cost is None or room.fits_messages(cost):
                return
            size = cost.largest_message

        def fits(fewer: OnShares) -> bool:
            less = room.cost_of(fewer, n, dimensions, seed, round_)
            return less is None or room.fits_messages(less)

        needed = f" and one process that plays all parties {cost.memory >> 20} MiB of memory" if cost else ""
        least = room.most_restarts(self, fits)
        allowed = (
            f"fewer: with {n} clients a message to a holder would have {size >> 20} MiB{'' if cost else ' or more'}"
            f"{needed}, at most {wire.MAX_MESSAGE >> 20} MiB in a message are allowed; "
            + (f"{least} fit, or fix clusterer.k" if least else "not even one fits: lower clusterer.k_max")
        )
        raise ConfigError([Problem("clusterer.restarts", self.restarts, allowed)])
