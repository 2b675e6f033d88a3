"""k-means on descriptors: what it has in common in the clear and on shares, and the one in the clear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from secfpp.errors import ConfigError, Problem
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.fields import integer_in, text_in
from secfpp.protocol.program import Arrays, ClientState, Replies, step
from secfpp.secure.clustering import kmeans
from secfpp.secure.clustering.descriptor import projection, quantise, radius
from secfpp.secure.clustering.in_clear import InClear, points_in
from secfpp.secure.clustering.search import Search
from secfpp.secure.clustering.searching import Searching, descriptor_in


@dataclass(frozen=True)
class KMeans(Searching):
    """What k-means on descriptors has in common, in the clear and on shares; both give the same partition.

    Descriptors go through a public projection and are rounded to integers. For each K the run of least inertia counts;
    K is the one of best BIC.

    Args:
        dimensions: of the projected descriptor; a shorter one is filled up with zeros.
        scale: factor before rounding; at 127 and 8 bits, a descriptor of length 1 fills the range and a
            longer one is shortened.
        bits: of a coordinate with its sign; also bounds the L2 norm, to ``2^(bits - 1) - 1``.
        pull: weight of a member beside its cluster's seed, see `secfpp.secure.clustering.kmeans`.
    """

    counts: ClassVar[tuple[str, ...]] = (*Searching.counts, "dimensions", "pull")
    by_agreement: ClassVar[bool] = False

    dimensions: int = 16
    scale: float = 127.0
    bits: int = 8
    pull: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
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

    def require_some(self, clients: int) -> None:
        """See `Searching.require_some`; and refuse too many for exact arithmetic.

        Raises:
            FieldRangeError: too many clients.
        """
        super().require_some(clients)
        kmeans.require_range(self.searched(clients), radius(self.bits), self.pull)

    def described(self, descriptor: np.ndarray, seed: int) -> np.ndarray:
        """The reduced and rounded descriptor, int16 [dimensions]."""
        descriptor = descriptor.astype(np.float64)
        reduced = descriptor @ projection(seed, descriptor.size, self.dimensions)
        return quantise(np.pad(reduced, (0, self.dimensions - reduced.size)), self.scale, radius(self.bits))


@dataclass(frozen=True)
class PlainKMeans(InClear, KMeans):
    """k-means by a server that sees the descriptors; one exchange. See `KMeans` for what is computed.

    Raises:
        ConfigError: values that cannot work, or a cohort smaller than one cluster.
        DropoutError: fewer clients than one cluster's answered.
        FieldRangeError: too many clients for exact arithmetic; nothing has been sent then.
    """

    kind: ClassVar[str] = "plain_kmeans"

    def points(self, replies: Replies) -> np.ndarray:
        """See `InClear.points`."""
        return points_in(replies, self.dimensions, radius(self.bits))

    def labels(self, replies: Replies, cohort: Cohort) -> np.ndarray:
        """See `InClear.labels`."""
        return self.partition(self.points(replies), cohort.seed, cohort.round)

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
        inner = kmeans.inner_products(points)
        labels = search.finished(inner)
        sizes = {(k, run): np.bincount(found, minlength=k).tolist() for (k, run), found in labels.items()}
        best = search.best(
            {run: (sizes[run], kmeans.inertia(inner, labels[run])) for run in labels if search.admits(sizes[run])}
        )
        return np.zeros(len(points), np.int64) if best is None else labels[best]

    @step
    def describe(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Reply the reduced and rounded descriptor, int16 [dimensions]."""
        descriptor = descriptor_in(state, text_in(payload, "slot"))
        return state, {"descriptor": self.described(descriptor, integer_in(payload, "seed"))}
