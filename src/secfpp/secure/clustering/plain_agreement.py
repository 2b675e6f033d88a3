"""Groups by agreement: what it has in common in the clear and on shares, and the one in the clear."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from secfpp.errors import ConfigError, FieldRangeError, Problem, ProtocolError, ReplyError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.fields import text_in
from secfpp.protocol.program import Arrays, ClientState, Replies, step
from secfpp.secure.clustering import agreement, kmeans
from secfpp.secure.clustering.descriptor import quantise
from secfpp.secure.clustering.in_clear import InClear, points_in
from secfpp.secure.clustering.search import Search
from secfpp.secure.clustering.searching import Searching, descriptor_in


@dataclass(frozen=True)
class Agreement(Searching):
    """What grouping by agreement has in common, in the clear and on shares; both give the same partition.

    Descriptors are many small numbers that say how a client differs from everybody's mean, of variance about 1 if
    clients have nothing in common; they are rounded, and shortened if their mean square is above 6. In the slot
    ``SLOT.spread`` of everybody's state is the spread of a product of two of them if clients have nothing in common,
    rounding included: public, and the same for all. See `secfpp.secure.clustering.agreement` for what is computed.

    Args:
        largest: magnitude of a rounded number; beyond, it is cut off.
    """

    by_agreement: ClassVar[bool] = True

    largest: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.largest <= 127:
            raise ConfigError([Problem("clusterer.largest", self.largest, "1 to 127")])

    def radius(self, dimensions: int) -> int:
        """Largest L2 norm of a rounded descriptor."""
        return math.isqrt(dimensions * min(self.largest**2, 6) - 1) + 1

    def search(self, n: int, dimensions: int, seed: int, round_: int) -> Search:
        """The runs for `n` clients."""
        return Search.plan(
            n=n,
            dimensions=dimensions,
            radius=self.radius(dimensions),
            k=self.k,
            k_max=self.k_max,
            restarts=self.restarts,
            finalists=self.finalists,
            iterations=self.iterations,
            min_size=self.min_cluster_size,
            pull=1,
            seed=seed,
            round_=round_,
            self_products=False,
        )

    def prepare(self, clients: int, dimensions: int, seed: int) -> None:
        """See `Clusterer.prepare`: what partitions of noise reach, which does not depend on the round."""
        agreement.allowances(self.search(self.searched(clients), dimensions, 0, 0), 1.0)

    def require_shape(self, clients: int, dimensions: int) -> None:
        """Refuse too many clients, or numbers in a descriptor, for exact arithmetic.

        Raises:
            FieldRangeError: they are.
        """
        kmeans.require_range(self.searched(clients), self.radius(dimensions), 1, self_products=False)

    def described(self, descriptor: np.ndarray) -> np.ndarray:
        """The rounded descriptor, int16 [d]."""
        if not np.isfinite(descriptor).all():
            raise FieldRangeError("the descriptor is not finite: training diverged, lower the learning rate")
        clipped = np.clip(descriptor.astype(np.float64), -self.largest, self.largest)
        return quantise(clipped, 1.0, self.radius(descriptor.size))


@dataclass(frozen=True)
class PlainAgreement(InClear, Agreement):
    """Grouping by agreement by a server that sees the descriptors; one exchange. See `Agreement` for what is computed.

    Raises:
        ConfigError: values that cannot work, or a cohort smaller than one cluster.
        DropoutError: fewer clients than one cluster's answered.
        ProtocolError: clients whose descriptors differ in size, or that have other spreads.
        FieldRangeError: too many clients for exact arithmetic.
    """

    kind: ClassVar[str] = "plain_agreement"

    def points(self, replies: Replies) -> np.ndarray:
        """See `InClear.points`."""
        dimensions, _ = shape_in(replies)
        self.require_shape(len(replies), dimensions)
        return points_in(replies, dimensions, self.radius(dimensions))

    def labels(self, replies: Replies, cohort: Cohort) -> np.ndarray:
        """See `InClear.labels`."""
        return self.partition(self.points(replies), shape_in(replies)[1], cohort.seed, cohort.round)

    def partition(self, points: np.ndarray, spread: float, seed: int, round_: int) -> np.ndarray:
        """The chosen cluster of each point.

        Args:
            points: integers [n, d], at least `min_cluster_size` of them.
            spread: of a product of two points that have nothing in common.
            seed: the public seed.
            round_: number of the round; every round draws other seed points.

        Returns:
            Cluster numbers [n], those of the best run.
        """
        search = self.search(len(points), points.shape[1], seed, round_)
        inner, allowances = agreement.products(points), agreement.allowances(search, spread)
        labels = {
            (k, run): found
            for (k, run), found in search.finished(inner).items()
            if search.admits(np.bincount(found, minlength=k).tolist())
        }
        costs = {run: agreement.cost(inner, labels[run], run[0], allowances) for run in labels}
        best = min(costs, key=costs.__getitem__, default=None)  # the first of several
        return np.zeros(len(points), np.int64) if best is None else labels[best]

    @step
    def describe(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Reply the rounded descriptor, int16 [d], and the spread."""
        slot = text_in(payload, "slot")
        return state, {"descriptor": self.described(descriptor_in(state, slot)), **shape_of(state, slot)}


def shape_of(state: ClientState, slot: str) -> dict[str, np.ndarray]:
    """What a client tells of its descriptor: how many numbers it has, and the spread of products.

    Raises:
        ProtocolError: there is no spread.
    """
    dimensions, spread = descriptor_in(state, slot).size, state.arrays.get(f"{slot}.spread", np.array(0.0))
    if spread.shape != () or not 0 < float(spread) < math.inf or not dimensions:
        raise ProtocolError(f"this client has no positive number {slot + '.spread'!r}, the spread of products")
    return {"dimensions": np.array(dimensions), "spread": np.array(float(spread))}


def shape_in(replies: Replies) -> tuple[int, float]:
    """The number of numbers and the spread that all replies tell alike.

    Raises:
        ReplyError: one tells something else than most.
    """
    told = {client: _shape_told(client, reply) for client, reply in replies.items()}
    usual: tuple[int, float] = Counter(told.values()).most_common(1)[0][0]
    for client, shape in told.items():
        if shape != usual:
            raise ReplyError(
                client,
                f"tells of a descriptor of {shape}, most tell of {usual} (numbers, spread of products), which are "
                "public and the same for all",
            )
    return usual


def _shape_told(client: str, reply: Arrays) -> tuple[int, float]:
    dimensions, spread = (reply.get(name, np.zeros(1)) for name in ("dimensions", "spread"))
    right = dimensions.shape == spread.shape == () and dimensions.dtype == np.int64 and spread.dtype == np.float64
    if not right or dimensions < 1 or not 0 < spread < math.inf:
        raise ReplyError(client, "did not tell the size of its descriptor and the spread of products")
    return int(dimensions), float(spread)
