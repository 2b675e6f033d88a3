"""What a partition is: a rule by which labelled images are dealt to clients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from secfpp.data.partition import split_by_shares
from secfpp.errors import DataError, Problem
from secfpp.seeding import Seed, derive

Held = dict[str, list[np.ndarray]]
"""Part -> of each client the indices of its images, int64, sorted; every image is held once."""


@dataclass(frozen=True)
class Pool:
    """Labelled images that are dealt together.

    Attributes:
        labels: part -> int64 [n], at least 0 and below `n_classes`; the parts follow the same rule.
        n_classes: number of classes.
        names: of the clients.
        seed: decides everything.
        alpha: Dirichlet concentration, for a partition that draws shares.
        minimum: part -> images that such a partition leaves to every client.
    """

    labels: Mapping[str, np.ndarray]
    n_classes: int
    names: Sequence[str]
    seed: Seed
    alpha: float = 0.3
    minimum: Mapping[str, int] = field(default_factory=dict)


class Partition(ABC):
    """Who holds which images.

    Attributes:
        mixes: whether the images of all domains are dealt together.
    """

    kind: ClassVar[str]
    mixes: ClassVar[bool] = True

    @abstractmethod
    def split(self, pool: Pool) -> Held:
        """Deal every image of every part to one client.

        Raises:
            ConfigError: settings that do not suit the number of classes or clients.
            DataError: a client that would have nothing; names the first one.
        """


def wrong(partition: object) -> list[Problem]:
    """What is wrong with a setting that should be a partition, as in Python somebody may give its name alone."""
    if isinstance(partition, Partition):
        return []
    return [Problem("data.partition", partition, "a partition such as secfpp.IID(); in TOML its name will do")]


def by_shares(pool: Pool, shares: np.ndarray) -> Held:
    """Images of each class in the shares [n_classes, n_clients], nobody left with nothing.

    Raises:
        DataError: a client that would have nothing; names the first one.
    """
    return filled(
        pool,
        {
            part: split_by_shares(labels, shares, derive(pool.seed, part), minimum=0, names=pool.names)
            for part, labels in pool.labels.items()
        },
    )


def filled(pool: Pool, held: Held) -> Held:
    """The same, if every client has an image of every part.

    Raises:
        DataError: names the first that has none.
    """
    for part, of in held.items():
        for name, own in zip(pool.names, of, strict=True):
            if not len(own):
                raise DataError(
                    f"client {name} cannot be filled: no image for {part} of {len(pool.labels[part])}, which this "
                    f"partition deals to {len(pool.names)} clients; lower data.clients_per_domain, or use more images"
                )
    return held
