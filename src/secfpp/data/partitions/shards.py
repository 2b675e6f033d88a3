"""Shards of sorted images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from secfpp.data.partitions.base import Held, Partition, Pool, by_shares
from secfpp.errors import ConfigError, DataError, Problem
from secfpp.seeding import derive


@dataclass(frozen=True)
class Shards(Partition):
    """Training images, sorted by class, are cut into shards of equal size, of which each client gets as many.

    Source: McMahan et al., arXiv 1602.05629, section 3. The other parts follow the training images' mix of classes.

    Attributes:
        shards: of each client.
    """

    kind: ClassVar[str] = "shards"
    shards: int = 2

    def __post_init__(self) -> None:
        if self.shards < 1:
            raise ConfigError([Problem("data.partition.shards", self.shards, "each client needs at least 1")])

    def split(self, pool: Pool) -> Held:
        """Cut, and deal the shards at random."""
        counts = np.bincount(pool.labels["train"], minlength=pool.n_classes)
        n_clients, total = len(pool.names), int(counts.sum())
        if total < n_clients * self.shards:
            raise DataError(
                f"client {pool.names[total // self.shards]} cannot be filled: {total} training images make no "
                f"{n_clients} x {self.shards} shards; lower data.partition.shards or data.clients_per_domain"
            )
        cuts = np.arange(n_clients * self.shards + 1) * total // (n_clients * self.shards)
        last = counts.cumsum()
        first = last - counts
        inside = np.minimum(last[:, None], cuts[1:]) - np.maximum(first[:, None], cuts[:-1])
        order = derive(pool.seed, "shards").numpy().permutation(n_clients * self.shards).reshape(n_clients, -1)
        held = inside.clip(0)[:, order].sum(2)
        return by_shares(pool, np.where(counts[:, None] > 0, held / counts.clip(1)[:, None], 1 / n_clients))
