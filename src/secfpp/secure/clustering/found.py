"""What becomes public of a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from secfpp.secure.clustering.kmeans import INERTIA_SCALE

Reveal = Literal["partition", "assignments"]


@dataclass(frozen=True)
class Found:
    """The public outcome.

    Attributes:
        labels: cluster of each point, numbered by first members; None if no run was admissible.
        k: clusters.
        sizes: of the clusters of each run (K, number) that went on, in an order that says nothing; empty if they stay
            secret.
        inertia: of each admissible one of them, in units of 1 / `INERTIA_SCALE`.
        undecided: assignments that a comparison of fewer bits left as they were, see `SecPC.bits`.
        assignments: with ``reveal="assignments"``, those of each run's iterations; one of a run that did not go on.
        whole: whether the pairs that were opened are those of a partition.
    """

    labels: np.ndarray | None
    k: int
    sizes: dict[tuple[int, int], tuple[int, ...]]
    inertia: dict[tuple[int, int], int]
    undecided: int
    assignments: dict[tuple[int, int], list[np.ndarray]]
    whole: bool = True

    def plausible(self, n: int, radius: int, min_size: int) -> bool:
        """Whether this may come of `n` points no longer than `radius`: most wrong answers of holders lead elsewhere."""
        largest, rounding = INERTIA_SCALE * n * radius**2, (n * radius) ** 2 // 2 + 1  # see kmeans.reciprocal
        if not all(-rounding <= inertia <= largest + rounding for inertia in self.inertia.values()):
            return False
        if not self.whole or not all(min(sizes) >= 0 and sum(sizes) == n for sizes in self.sizes.values()):
            return False
        if self.labels is None:
            return True
        counted = np.sort(np.bincount(self.labels)).tolist()
        if not self.sizes:
            return bool(counted[0] >= min_size)
        return any(k == self.k and sorted(sizes) == counted for (k, _), sizes in self.sizes.items())


ONE = Found(None, 1, {}, {}, 0, {})
"""What comes out where nothing has to be computed, or nothing is found."""
