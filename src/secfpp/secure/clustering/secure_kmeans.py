"""k-means on shares as a program: SecPC between a server that sees no descriptor and clients who hold shares of all."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np

from secfpp.crypto.arithmetic import Computation, Pool, Shared
from secfpp.crypto.field import Elements
from secfpp.crypto.material import Deal, Estimate
from secfpp.errors import ConfigError, DropoutError, LeakyProtocolWarning, Problem, ProtocolError, TamperError
from secfpp.protocol import wire
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import Arrays, ClientState, Program, step
from secfpp.secure import committee
from secfpp.secure.circuits.component import Circuit
from secfpp.secure.circuits.plan import Plan, estimated
from secfpp.secure.circuits.server import About, dealing
from secfpp.secure.clustering import distances
from secfpp.secure.clustering.descriptor import radius
from secfpp.secure.clustering.found import Found, Reveal
from secfpp.secure.clustering.layout import Layout
from secfpp.secure.clustering.plain_kmeans import KMeans
from secfpp.secure.clustering.searching import descriptor_in
from secfpp.secure.clustering.secpc import SecPC
from secfpp.secure.session import Joined, join


@dataclass(frozen=True)
class SecureKMeans(Circuit[Found], KMeans):
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
        threshold: ``standard`` (c >= 5 T + 1 + dropouts, 3 exchanges an iteration) or ``high`` (c >= 3 T + 1, 5 of
            them).
        dropouts: how many holders may go missing; None tolerates 5 of 16, and fewer of fewer.
        committee: most holders; of more clients, so many are drawn.

    Raises:
        ConfigError: values that cannot work, too few clients, or clusters that T holders could see through.
        DropoutError: too few clients or holders are left.
        TamperError: somebody shared something out of range, or changed a message.
    """

    kind: ClassVar[str] = "secure_kmeans"
    component: ClassVar[str] = "clusterer"
    needs_keys: ClassVar[bool] = True

    reveal: Literal["partition", "assignments", "distances"] = "partition"
    compare_bits: Literal[0, 20, 24] = 0
    threshold: Literal["standard", "high"] = "standard"
    dropouts: int | None = None
    committee: int = committee.LARGEST

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = []
        if self.compare_bits and self.threshold == "high":
            problems.append(Problem("clusterer.compare_bits", self.compare_bits, 'only with threshold = "standard"'))
        if self.compare_bits and self.reveal == "distances":
            problems.append(Problem("clusterer.compare_bits", self.compare_bits, 'not with reveal = "distances"'))
        if not 4 <= self.committee <= 100:
            problems.append(Problem("clusterer.committee", self.committee, "4 to 100"))
        if self.dropouts is not None and self.dropouts < 0:
            problems.append(Problem("clusterer.dropouts", self.dropouts, "must not be negative"))
        if problems:
            raise ConfigError(problems)

    @property
    def limit(self) -> int:
        """The largest degree that is opened, in multiples of T."""
        return 5 if self.threshold == "standard" else 3

    def collusion(self, clients: int) -> int:
        """T among `clients`.

        Raises:
            ConfigError: fewer clients than T = 1 takes, or a minimum cluster size of less than T + 2.
        """
        holders, needed = min(clients, self.committee), self.limit + 1 + (self.dropouts or 0)
        if holders < needed:
            allowed = f"at least {needed} to hold shares, or fewer clusterer.dropouts than {self.dropouts or 0}"
            short = ("clusterer.committee", self.committee) if self.committee < clients else ("clients", clients)
            raise ConfigError([Problem(*short, allowed if self.dropouts else f"at least {needed} to hold shares")])
        t = committee.clustering_threshold(holders, self.limit, self.dropouts)
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

    def security(self, n_clients: int) -> Mapping[str, object]:
        """What a report says of a run with so many clients."""
        holders = min(n_clients, self.committee)
        return {"reveal": self.reveal, "holders": holders, "threshold": self.collusion(n_clients)}

    def assign(self, cohort: Cohort, slot: str, previous: Assignment | None) -> Program[Assignment]:
        """See `Clusterer.assign`."""
        found, cohort = yield from self.find(cohort, slot)
        if found.labels is None:
            return Assignment(dict.fromkeys(cohort.clients, 0))
        return Assignment.from_labels(cohort.clients, found.labels.tolist())

    def find(self, cohort: Cohort, slot: str) -> Program[tuple[Found, Cohort]]:
        """All that becomes public, and who took part: like `assign`, for audits and tests."""
        self.require_some(len(cohort))
        if self._is_one(len(cohort)):
            return _ONE, cohort
        self._require_room(len(cohort), cohort.seed, cohort.round)
        if self.reveal == "distances":
            slices = self.slices(min(len(cohort), self.committee), self.collusion(len(cohort)))
            warnings.warn(
                f"{self.kind} with reveal = 'distances': {slices.width + 1} clients and the server together compute "
                "everybody's descriptor exactly; reveal = 'partition' gives the same groups without that",
                LeakyProtocolWarning,
                stacklevel=2,
            )

        def about(left: Cohort) -> Mapping[str, Any] | None:
            self._require_enough(cohort, left)
            if self._is_one(len(left)):
                return None
            threshold = self.collusion(len(left))
            return {"slot": slot, "seed": left.seed, "threshold": threshold, "settings": asdict(self)}

        if self.reveal == "distances":
            return (yield from self._measured(cohort, about))
        found, left = yield from self.compute(cohort, about, self.committee)
        if found is None:
            return _ONE, left
        if not found.plausible(len(left), radius(self.bits)):
            raise TamperError(None, "clusterer.proceed", "what was opened is no partition: a holder answered wrongly")
        return found, left

    def _measured(self, cohort: Cohort, about: About) -> Program[tuple[Found, Cohort]]:
        """See `secfpp.secure.clustering.distances`."""
        left, dealt = yield from dealing("clusterer", cohort, about, self.committee)
        if dealt is None:
            return _ONE, left
        slices = self.slices(len(dealt.holders), dealt.facts["threshold"])
        search = self.search(len(left), left.seed, left.round)
        return (yield from distances.lead(dealt, slices, search)), left

    def require(self, clients: int) -> None:
        """See `Clusterer.require`."""
        super().require(clients)
        if not self._is_one(clients):
            self._require_room(clients)

    def _is_one(self, clients: int) -> bool:
        """Whether there are too few for two clusters, so that nothing has to be computed."""
        return (self.k or self.k_max) == 1 or clients < (self.k or 2) * self.min_cluster_size

    def planned(self, facts: Mapping[str, Any]) -> Plan:
        """See `Circuit.planned`."""
        clients, holders = len(facts["clients"]), len(facts["holders"])
        return self.plan(clients, holders, facts["threshold"], facts["seed"], facts["round"])

    def plan(self, clients: int, holders: int, threshold: int, seed: int, round_: int) -> Plan:
        """The computation for so many clients and holders."""
        layout, run = Layout(self.dimensions, self.bits), _circuit(self, clients, threshold, seed, round_)
        made = Deal(holders, threshold, _estimate(self, clients, threshold, seed, round_).demand)
        return Plan(holders, threshold, self.limit, layout.width, run, layout.defects, clients, made)

    def slices(self, holders: int, threshold: int) -> distances.Slices:
        """How ``reveal="distances"`` cuts and codes descriptors."""
        tolerated = distances.tolerated(holders, threshold, self.limit, self.dropouts)
        return distances.Slices.plan(holders, threshold, tolerated, self.dimensions)

    def shared_by(self, joined: Joined, state: ClientState) -> Elements:
        """See `Circuit.shared_by`: the bits of the descriptor."""
        return Layout(self.dimensions, self.bits).encode(self._point(joined, state))

    def _point(self, joined: Joined, state: ClientState) -> np.ndarray:
        """The rounded descriptor, int16 [dimensions].

        Raises:
            ProtocolError: terms that this client does not agree to.
        """
        theirs, threshold = joined.fact("settings", dict), joined.fact("threshold", int)
        slot, seed = joined.fact("slot", str), joined.fact("seed", int)
        if theirs != asdict(self):
            other = {k: (theirs.get(k), v) for k, v in asdict(self).items() if theirs.get(k) != v}
            raise ProtocolError(f"the server clusters with other settings than this client agreed to: {other}")
        size, n = joined.fact("size", int), len(joined.clients)
        if threshold != self.collusion(n) or size != self.committee or n < self.min_cluster_size:
            raise ProtocolError(
                f"the server clusters {n} clients with up to {size} holders of shares and threshold {threshold}, which "
                "is not what this client agreed to"
            )
        return self.described(descriptor_in(state, slot), seed)

    @step
    def deal(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Share the descriptor with all holders, and randomness if this client is one of them."""
        if self.reveal != "distances":
            return super().deal(context, state, payload)
        joined = join(context, "clusterer", payload)
        point = self._point(joined, state)
        search = self.search(len(joined.clients), joined.fact("seed", int), joined.fact("round", int))
        slices = self.slices(len(joined.holders), joined.fact("threshold", int))
        return state, distances.deal(joined, slices, search, point)

    @step
    def measure(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """A holder's part of one exchange with ``reveal="distances"``."""
        return state, distances.measure(context, payload)

    def _require_enough(self, asked: Cohort, cohort: Cohort) -> None:
        """Refuse to go on with too few of those asked."""
        needed = self.min_cluster_size
        if len(asked) > len(cohort) >= needed:
            try:
                self.collusion(len(cohort))
            except ConfigError:
                needed = len(cohort) + 1
        if len(cohort) < needed:
            missing = sorted(set(asked.clients) - set(cohort.clients))
            raise DropoutError("clusterer.deal", needed, len(cohort), missing)

    def _require_room(self, n: int, seed: int = 0, round_: int = 0) -> None:
        """Refuse a search that deals or opens more than a message can hold; seed and round make a small difference."""
        threshold = self.collusion(n)
        if self.reveal == "distances":
            return
        holders, k = min(n, self.committee), self.k or min(self.k_max, n // self.min_cluster_size)
        group = self.restarts // self.finalists
        contest = self.finalists * group * (group - 1) // 2 if k > 1 else 0
        size = 8 * (self.restarts * n + 8 * contest) * (holders - 1) // holders  # far less than all of it
        if size <= wire.MAX_MESSAGE:
            plan = self.plan(n, holders, threshold, seed, round_)
            dealt = (holders - 1) * plan.deal.size + (n - 1) * plan.width
            opened = _estimate(self, n, threshold, seed, round_).opened + n**2  # all told to who stood by until the end
            size = 8 * max(dealt, opened)
        if size > wire.MAX_MESSAGE - (1 << 20):
            allowed = (
                f"fewer: with {n} clients a message to a holder would have {size >> 20} MiB or more, at most "
                f"{wire.MAX_MESSAGE >> 20} are allowed; or fix clusterer.k"
            )
            raise ConfigError([Problem("clusterer.restarts", self.restarts, allowed)])


_ONE = Found(None, 1, {}, {}, 0, {})


def _circuit(
    settings: SecureKMeans, n: int, threshold: int, seed: int, round_: int
) -> Callable[[Shared, Pool], Computation[Found]]:
    levels = (1 if settings.limit == 5 else 2) if not settings.compare_bits else 0
    bits = settings.compare_bits or None
    reveal: Reveal = "assignments" if settings.reveal == "assignments" else "partition"
    circuit = SecPC(settings.search(n, seed, round_), threshold, settings.limit, levels, bits, reveal)
    layout = Layout(settings.dimensions, settings.bits)
    return lambda inputs, pool: circuit.run(layout.points(inputs), pool)


@lru_cache(maxsize=4)  # clients that share a process ask for the same
def _estimate(settings: SecureKMeans, n: int, threshold: int, seed: int, round_: int) -> Estimate:
    width = Layout(settings.dimensions, settings.bits).width
    run = _circuit(settings, n, threshold, seed, round_)
    return estimated(run, (n, width), threshold, settings.limit)
