"""Everybody alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from secfpp.data.partitions.base import Held, Partition, Pool, filled
from secfpp.seeding import derive


@dataclass(frozen=True)
class IID(Partition):
    """Images in random order, dealt evenly: numbers of images differ by at most one."""

    kind: ClassVar[str] = "iid"

    def split(self, pool: Pool) -> Held:
        """Shuffle and cut."""
        return filled(
            pool,
            {
                part: [
                    np.sort(own)
                    for own in np.array_split(derive(pool.seed, part).numpy().permutation(len(labels)), len(pool.names))
                ]
                for part, labels in pool.labels.items()
            },
        )
