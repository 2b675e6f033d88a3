"""k-means on descriptors: what it has in common in the clear and on shares, and the one in the clear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from secfpp.errors import ConfigError, DropoutError, Problem, ProtocolError
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.fields import integer_in, text_in
from secfpp.protocol.program import Arrays, Ask, ClientState, Program, Replies, step
from secfpp.secure.clustering import kmeans
from secfpp.secure.clustering.clusterer import Clusterer, require_at_least_one
from secfpp.secure.clustering.descriptor import projection, quantise, radius
from secfpp.secure.clustering.search import Search
from secfpp.settings import check_types


@dataclass(frozen=True)
class KMeans(Clusterer):
    """What k-means on descriptors has in common, in the clear and on shares; both give the same partition.

    Descriptors go through a public projection and are rounded to integers. The exact integer Lloyd of
    `secfpp.secure.clustering.kmeans` runs from `restarts` random choices of seed points for each K, public ones that
    depend on the cohort's seed and round only. After the first iteration `finalists` of them go on, see
    `Search.winners`. For each K the run of least inertia counts, among those whose clusters all have
    `min_cluster_size` members; K is the one of best BIC. If no run has such clusters, there is one cluster.

    Args:
        k: fixes K; None chooses among 1..k_max.
        k_max: largest K tried.
        dimensions: of the projected descriptor; a shorter one is filled up with zeros.
        scale: factor before rounding; at 127 and 8 bits, a descriptor of length 1 fills the range and a
            longer one is shortened.
        bits: of a coordinate with its sign; also bounds the L2 norm, to ``2^(bits - 1) - 1``.
        restarts: runs per K that begin.
        finalists: how many of them go on after the first iteration; all of fewer.
        iterations: of Lloyd, in each of those.
        min_cluster_size: fewest members of a cluster.
        pull: weight of a member beside its cluster's seed, see `secfpp.secure.clustering.kmeans`.
    """

    k: int | None = None
    k_max: int = 8
    dimensions: int = 16
    scale: float = 127.0
    bits: int = 8
    restarts: int = 192
    finalists: int = 8
    iterations: int = 2
    min_cluster_size: int = 4
    pull: int = 1

    def __post_init__(self) -> None:
        check_types(self, "clusterer")
        require_at_least_one(
            self, "k", "k_max", "dimensions", "restarts", "finalists", "iterations", "min_cluster_size", "pull"
        )
        problems = []
        if not 2 <= self.bits <= 16:
            problems.append(Problem("clusterer.bits", self.bits, "2 to 16"))
        elif radius(self.bits) <= self.dimensions**0.5 / 2:
            problems.append(Problem("clusterer.dimensions", self.dimensions, f"too many for {self.bits} bits"))
        if not 0 < self.scale < float("inf"):
            problems.append(Problem("clusterer.scale", self.scale, "a positive number"))
        if problems:
            raise ConfigError(problems)

    def search(self, n: int, seed: int, round_: int) -> Search:
        """The runs for `n` clients."""
        return Search.plan(
            n=n,
            dimensions=self.dimensions,
            radius=radius(self.bits),
            k=self.k,
            k_max=self.k_max,
            restarts=self.restarts,
            finalists=self.finalists,
            iterations=self.iterations,
            min_size=self.min_cluster_size,
            pull=self.pull,
            seed=seed,
            round_=round_,
        )

    def require(self, clients: int) -> None:
        """See `Clusterer.require`."""
        self.require_some(clients)
        if self.k is not None and self.k * self.min_cluster_size > clients:
            allowed = f"at most {clients // self.min_cluster_size}: {clients} clients in clusters of "
            raise ConfigError([Problem("clusterer.k", self.k, f"{allowed}{self.min_cluster_size} or more")])

    def require_some(self, clients: int) -> None:
        """Refuse fewer than one cluster's, or too many for exact arithmetic; whoever drops out, others are one cluster.

        Raises:
            ConfigError: a cohort smaller than one cluster.
            FieldRangeError: too many clients.
        """
        smallest = self.min_cluster_size
        if clients < smallest:
            allowed = f"at most the {clients} clients of a round"
            raise ConfigError([Problem("clusterer.min_cluster_size", smallest, allowed)])
        kmeans.require_range(clients, radius(self.bits), self.pull)

    def described(self, descriptor: np.ndarray, seed: int) -> np.ndarray:
        """The reduced and rounded descriptor, int16 [dimensions]."""
        descriptor = descriptor.astype(np.float64)
        reduced = descriptor @ projection(seed, descriptor.size, self.dimensions)
        return quantise(np.pad(reduced, (0, self.dimensions - reduced.size)), self.scale, radius(self.bits))


@dataclass(frozen=True)
class PlainKMeans(KMeans):
    """k-means by a server that sees the descriptors; one exchange. See `KMeans` for what is computed.

    Raises:
        ConfigError: values that cannot work, or a cohort smaller than one cluster.
        DropoutError: fewer clients than one cluster's answered.
        FieldRangeError: too many clients for exact arithmetic; nothing has been sent then.
    """

    kind: ClassVar[str] = "plain_kmeans"

    def assign(self, cohort: Cohort, slot: str, previous: Assignment | None) -> Program[Assignment]:
        """See `Clusterer.assign`."""
        self.require_some(len(cohort))
        ask = {"slot": np.array(slot), "seed": np.array(cohort.seed)}
        replies = yield Ask("clusterer.describe", dict.fromkeys(cohort.clients, ask))
        if len(replies) < self.min_cluster_size:
            raise DropoutError("clusterer.describe", self.min_cluster_size, len(replies), replies.missing)
        points = self._points(replies)
        return Assignment.from_labels(list(replies), self.partition(points, cohort.seed, cohort.round).tolist())

    def partition(self, points: np.ndarray, seed: int, round_: int) -> np.ndarray:
        """The chosen cluster of each point.

        Args:
            points: integers [n, d], at least `min_cluster_size` of them.
            seed: the public seed.
            round_: number of the round; every round draws other seed points.

        Returns:
            Cluster numbers [n], those of the best run.
        """
        search = self.search(len(points), seed, round_)
        going_on = search.winners({k: kmeans.seed_costs(points, seeds) for k, seeds in search.seeds.items()})
        labels = {
            (k, run): found
            for k, runs in going_on.items()
            for run, found in zip(
                runs.tolist(), kmeans.lloyd(points, search.seeds[k][runs], self.iterations, self.pull), strict=True
            )
        }
        sizes = {(k, run): np.bincount(found, minlength=k).tolist() for (k, run), found in labels.items()}
        best = search.best(
            {run: (sizes[run], kmeans.inertia(points, labels[run])) for run in labels if search.admits(sizes[run])}
        )
        return np.zeros(len(points), np.int64) if best is None else labels[best]

    @step
    def describe(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Reply the reduced and rounded descriptor, int16 [dimensions]."""
        descriptor = descriptor_in(state, text_in(payload, "slot"))
        return state, {"descriptor": self.described(descriptor, integer_in(payload, "seed"))}

    def _points(self, replies: Replies) -> np.ndarray:
        """The descriptors of all replies, int64 [n, d], checked."""
        points: list[np.ndarray] = []
        for client, reply in replies.items():
            point = reply.get("descriptor")
            if point is None or point.dtype != np.int16 or point.shape != (self.dimensions,):
                raise ProtocolError(f"client {client!r} sent no int16 descriptor of {self.dimensions} numbers")
            point = point.astype(np.int64)
            if int(point @ point) > radius(self.bits) ** 2:
                raise ProtocolError(f"client {client!r} sent a descriptor longer than {radius(self.bits)}")
            points.append(point)
        return np.stack(points)


def descriptor_in(state: ClientState, slot: str) -> np.ndarray:
    """The client's own descriptor, a vector.

    Raises:
        ProtocolError: there is none of this name.
    """
    if slot not in state or state[slot].ndim != 1:
        raise ProtocolError(f"this client has no vector {slot!r} to be clustered by")
    return state[slot]
