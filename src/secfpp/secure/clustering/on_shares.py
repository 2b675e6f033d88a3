"""A search for groups by a server that sees no descriptor, and clients who hold shares of all."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from secfpp.crypto.arithmetic import Shared
from secfpp.crypto.field import Elements
from secfpp.errors import ConfigError, DropoutError, Problem, ProtocolError, TamperError
from secfpp.protocol import wire
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.fields import integer_in
from secfpp.protocol.program import Arrays, ClientId, ClientState, Program, step
from secfpp.secure import committee
from secfpp.secure.circuits import holder
from secfpp.secure.circuits.component import Circuit
from secfpp.secure.circuits.plan import Plan, Security, carry
from secfpp.secure.circuits.server import About
from secfpp.secure.clustering.assigning import (
    Centres,
    Sums,
    batch_plan,
    forget_batches,
    grouped_in,
    members_in,
    require_batch,
    require_sample,
    sample_plan,
)
from secfpp.secure.clustering.by_sample import DEAL, PROCEED, RETAIN, grouped_by_sample
from secfpp.secure.clustering.found import ONE, Found
from secfpp.secure.clustering.layout import Layout
from secfpp.secure.clustering.placed import Nearest, Placed
from secfpp.secure.clustering.placing import Placing, taking_part
from secfpp.secure.clustering.searching import Searching
from secfpp.secure.session import Joined, keep, kept, meet

Task = Literal["group", "place", "search", "assign"]
"""Groups for all; a place for newcomers; groups for a sample; a group of these for others."""


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

    def terms(self, left: Cohort, slot: str, task: Task) -> dict[str, Any]:
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
        self, asked: Cohort, cohort: Cohort, slot: str, known: Mapping[str, Any], radius: int
    ) -> Program[tuple[Found, Cohort]]:
        """The groups of those who are left of a cohort.

        Args:
            asked: the whole cohort.
            cohort: who is left of it so far.
            slot: what clients are grouped by.
            known: what terms say beside, of all.
            radius: largest length of a rounded descriptor.

        Raises:
            TamperError: what was opened cannot be right.
        """
        if self.searched(len(cohort)) < len(cohort):
            return (yield from grouped_by_sample(self, cohort, slot, known, radius))
        about = self.agreed(asked, slot, known)
        found, left = yield from self.compute(cohort, about, self.committee)
        if found is None:
            return ONE, left
        if not found.plausible(len(left), radius, self.min_cluster_size):
            raise TamperError(None, PROCEED, "what was opened is no partition: a holder answered wrongly")
        return found, left

    def agreed(self, asked: Cohort, slot: str, known: Mapping[str, Any]) -> About:
        """What those who are left of a cohort agree on to be grouped; nothing if they are too few for two groups."""

        def about(left: Cohort) -> Mapping[str, Any] | None:
            self.require_enough(asked, left)
            return None if self.is_one(len(left)) else {**self.terms(left, slot, "group"), **known}

        return about

    def place(
        self, cohort: Cohort, slot: str, assignment: Assignment, newcomers: Iterable[ClientId]
    ) -> Program[Assignment]:
        """See `Clusterer.place`: which group each newcomer gets becomes public, nothing else."""
        new = frozenset(newcomers)
        asked = taking_part(cohort, assignment, new, self.sample, self.min_cluster_size)
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
        if facts["task"] == "search":
            return sample_plan(self.grouping({**facts, "clients": facts["sample"]}), facts)
        layout, threshold = self.layout(facts), facts["threshold"]
        if facts["task"] == "assign":
            nothing = Shared(np.zeros((max(facts["groups"]) + 1, layout.dimensions), np.uint64), 1)
            return self._batch(facts, lambda: nothing)
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

    def _batch(self, facts: Mapping[str, Any], sums: Sums) -> Plan:
        layout, sizes = self.layout(facts), tuple(np.bincount(facts["groups"]).tolist())
        most = self.carry(len(facts["holders"]), facts["threshold"])
        nearest = Nearest(sizes, layout.longest, not self.by_agreement, most, self.limit)
        return batch_plan(nearest, layout, facts, self.security, sums)

    def plan_of(self, joined: Joined) -> Plan:
        """See `Circuit.plan_of`: of the groups that its search found, where others are assigned to them."""
        facts = joined.about
        if facts["task"] != "assign" or joined.party.name not in joined.holders:
            return super().plan_of(joined)
        forget_batches(joined)
        return self._batch(facts, lambda: kept(joined, facts["search"], Centres, PROCEED).take(facts, PROCEED))

    def deed(self, joined: Joined) -> str:
        """See `Circuit.deed`: one search in a round, of all or of a sample."""
        return super().deed(joined) + (f" {joined.about.get('batch')}" if joined.about.get("task") == "assign" else "")

    def task(self, joined: Joined) -> str:
        """See `Circuit.task`."""
        return "group" if (task := super().task(joined)) == "search" else task

    def bound(self, joined: Joined) -> object:
        """See `Circuit.bound`: of a sample and its groups, whoever takes part beside."""
        if joined.about["task"] not in ("search", "assign"):
            return None
        return {name: joined.about.get(name) for name in ("sample", "groups", "settings")}

    @step
    def retain(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Keep the sums of the groups of a sample that this holder has searched, or stood by for, and nothing else."""
        holding = kept(context, integer_in(payload, "attempt"), holder.Holding, RETAIN)
        joined: Joined = holding.joined
        if joined.about["task"] != "search":
            raise ProtocolError(f"step {RETAIN!r}: no sample was searched in attempt {joined.attempt}")
        self.take_part(context, payload, RETAIN)
        sample, told = tuple(joined.about["sample"]), payload.get("groups", np.zeros(0, np.int64))
        if told.shape != (len(sample),):
            raise ProtocolError(f"step {RETAIN!r}: {told.size} groups of a sample of {len(sample)}")
        groups = told.tolist()
        members = members_in(groups, self.min_cluster_size)
        self._require_found(holder.outcome(context, payload, RETAIN), groups)
        rows = np.searchsorted(joined.clients, sample)
        points = self.layout(joined.about).points(Shared(holder.inputs(context, payload, RETAIN)[rows], 1))
        keep(joined, Centres(joined.fact("slot", str), sample, tuple(groups), Shared.public(members) @ points))
        return state, {}

    def _require_found(self, found: object, groups: Sequence[int]) -> None:
        """Refuse other groups than those that this holder followed to their end, as it does where it verifies them.

        Raises:
            TamperError: they are others.
        """
        if isinstance(found, Found) and (
            found.labels is None or np.unique(found.labels, return_inverse=True)[1].tolist() != list(groups)
        ):
            raise TamperError(None, RETAIN, "clients are to be assigned to other groups than those that were found")

    def shared_by(self, joined: Joined, state: ClientState) -> Elements:
        """See `Circuit.shared_by`: the bits of the descriptor; of zeros, if it takes part as a holder only."""
        self.require_terms(joined)
        point, facts = self.point(joined, state), joined.about
        meet(joined, grouped_in(joined.agreed))
        wanted = facts[{"search": "sample", "assign": "newcomers"}.get(facts["task"], "clients")]
        return self.layout(facts).encode(point if joined.party.name in wanted else np.zeros_like(point))

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
        task = joined.fact("task", str)
        if task == "search":
            require_sample(joined.agreed, self.sample)
        elif task == "assign":
            require_batch(joined.agreed, self.min_cluster_size)
        elif task != "group":
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

        n = self.searched(n)
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
