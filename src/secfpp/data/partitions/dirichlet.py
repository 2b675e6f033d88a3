"""Classes spread by a Dirichlet distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from secfpp.data.partition import dirichlet_shares, split_by_shares
from secfpp.data.partitions.base import Held, Partition, Pool
from secfpp.seeding import derive


@dataclass(frozen=True)
class Dirichlet(Partition):
    """Each class's shares over clients are drawn from a Dirichlet distribution of concentration ``data.alpha``.

    Source: Hsu, Qi and Brown, arXiv 1909.06335. Who has less than the pool's minimum gets images of whoever has most.
    """

    kind: ClassVar[str] = "dirichlet"

    def split(self, pool: Pool) -> Held:
        """Deal by shares that are drawn once, for all parts."""
        shares = dirichlet_shares(pool.n_classes, len(pool.names), pool.alpha, pool.seed)
        return {
            part: split_by_shares(
                labels, shares, derive(pool.seed, part), minimum=pool.minimum.get(part, 1), names=pool.names
            )
            for part, labels in pool.labels.items()
        }
