"""What comparing fewer bits changes: assignments and partitions beside those of exact comparison.

Usage: python benchmarks/micro/fast_mode.py

The circuit is evaluated by one party that sees everything, with the randomness of three dealers (T = 2), which gives
the results that holders would get from shares. For each number of clients there are cohorts with six clear groups and
cohorts without any. Printed are the share of assignments (of a client, in an iteration of a run) that differ from exact
k-means, how many stayed as they were because no cluster or several had no defeat, and how many partitions differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from secfpp.crypto.arithmetic import Computation, Shared, Square, inverse_square_root
from secfpp.crypto.field import PrimeField
from secfpp.crypto.randomness import Stream
from secfpp.secure.clustering import kmeans
from secfpp.secure.clustering.descriptor import quantise
from secfpp.secure.clustering.found import Found
from secfpp.secure.clustering.plain_kmeans import PlainKMeans
from secfpp.secure.clustering.secpc import SecPC
from secfpp.seeding import SystemEntropy

COHORTS = 10
SETTINGS = PlainKMeans(restarts=8)


@dataclass
class Pool:
    """Secret randomness in the clear."""

    stream: Stream
    threshold: int = 2
    limit: int = 5

    def uniform(self, shape: tuple[int, ...]) -> Shared:
        """Uniform elements."""
        return Shared(self.stream.elements(shape), 1)

    def integers(self, bits: int, shape: tuple[int, ...]) -> Shared:
        """Sums of T + 1 integers."""
        parts = [self.stream.integers(bits, shape) for _ in range(self.threshold + 1)]
        return Shared(PrimeField.sum(parts, shape), 1)

    def permutations(self, size: int, count: int) -> Sequence[Shared]:
        """T + 1 permutation matrices."""
        eye = np.eye(size, dtype=np.uint64)
        return [Shared(eye[self.stream.permutations(count, size)], 1) for _ in range(self.threshold + 1)]


def evaluated(computation: Computation[Found]) -> Found:
    """The result, every opened value being what the single party holds."""
    values: Any = None
    try:
        while True:
            wanted = next(computation) if values is None else computation.send(values)
            values = [inverse_square_root(v.values) if isinstance(v, Square) else v.values for v in wanted]
    except StopIteration as stop:
        found: Found = stop.value
        return found


def cohort(n: int, groups: int, rng: np.random.Generator) -> np.ndarray:
    """Descriptors [n, dimensions] in so many groups."""
    centres = rng.normal(size=(groups, SETTINGS.dimensions)) * (0.15 if groups > 1 else 0.0)
    points = centres[np.arange(n) % groups] + rng.normal(size=(n, SETTINGS.dimensions)) * (0.03 if groups > 1 else 0.15)
    return np.stack([quantise(point, SETTINGS.scale, 127) for point in points]).astype(np.int64)


def partition(labels: np.ndarray | None) -> list[int]:
    """Labels by first members."""
    return [] if labels is None else [int(np.flatnonzero(labels == label)[0]) for label in labels]


def measure(n: int, groups: int, bits: int) -> tuple[float, int, int]:
    """Share of assignments that differ, undecided ones, and partitions that differ."""
    differing = total = undecided = partitions = 0
    for number in range(COHORTS):
        points = cohort(n, groups, np.random.default_rng(1000 * n + 10 * groups + number))
        search, inner = SETTINGS.search(n, number, 0), kmeans.inner_products(points)
        circuit = SecPC(search, 2, 5, 0, bits, "assignments")
        pool = Pool(Stream.fresh(SystemEntropy()))
        found = evaluated(circuit.run(Shared(PrimeField.lift(points), 1), pool))
        for (k, run), iterations in found.assignments.items():
            for iteration, labels in enumerate(iterations, 1):
                exact = kmeans.lloyd(inner, search.seeds[k][run : run + 1], iteration, search.pull)[0]
                differing += int((labels != exact).sum())
                total += n
        undecided += found.undecided
        exact_partition = SETTINGS.partition(points, number, 0)
        exact_labels = None if len(set(exact_partition.tolist())) == 1 and found.labels is None else exact_partition
        partitions += partition(found.labels) != partition(exact_labels)
    return differing / total, undecided, partitions


def main() -> None:
    print(f"{'clients':>7} {'groups':>6} {'bits':>4} {'differing':>10} {'undecided':>9} {'partitions':>10}")
    for n in (24, 40, 100):
        for groups in (6, 1):
            for bits in (20, 24):
                share, undecided, partitions = measure(n, groups, bits)
                print(f"{n:7} {groups:6} {bits:4} {share:10.2e} {undecided:9} {partitions:7}/{COHORTS}")


if __name__ == "__main__":
    main()
