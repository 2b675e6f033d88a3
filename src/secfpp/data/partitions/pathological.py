"""Few classes for each client."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from secfpp.data.partitions.base import Held, Partition, Pool, by_shares
from secfpp.errors import ConfigError, DataError, Problem
from secfpp.seeding import derive


@dataclass(frozen=True)
class Pathological(Partition):
    """Each client holds few classes: all images of them, or an even share where several clients hold a class.

    Source: McMahan et al., arXiv 1602.05629; with classes that nobody shares, FedOTP (arXiv 2403.00041) and DP-FPL
    (arXiv 2501.13904). No class is ever without a client.

    Attributes:
        classes: of each client, which then share classes; 0 divides the classes, so that no two clients have one in
            common.
        fixed: a seed by which classes are divided, whatever the run's seed. It does what the code of both papers does
            where no class is repeated, with 2023: numbers of classes are shuffled by Python's own generator, each
            client has the rounded quotient of them, the last one the rest. If not given, classes are divided by the
            run's seed, as evenly as possible.
    """

    kind: ClassVar[str] = "pathological"
    classes: int = 0
    fixed: int | None = None

    def __post_init__(self) -> None:
        if self.classes < 0:
            raise ConfigError([Problem("data.partition.classes", self.classes, "classes of a client: at least 0")])
        if self.fixed is not None and self.classes:
            allowed = (
                f"divides the classes, and data.partition.classes = {self.classes} has clients share them: "
                'set data.partition.fixed = "none", or data.partition.classes = 0'
            )
            raise ConfigError([Problem("data.partition.fixed", self.fixed, allowed)])

    def split(self, pool: Pool) -> Held:
        """Give classes to clients, and deal each class evenly."""
        return by_shares(pool, evenly(self.classes_of(pool), pool.n_classes))

    def classes_of(self, pool: Pool) -> list[np.ndarray]:
        """The classes of each client.

        Raises:
            ConfigError: `classes` is more than there are, or so few that classes would be dropped.
            DataError: fewer classes than clients, where they are divided; names the first client left without one.
        """
        n_clients = len(pool.names)
        if self.classes:
            self._require_all(pool.n_classes, n_clients)
            return _in_turn(pool.n_classes, n_clients, self.classes, derive(pool.seed, "classes").numpy())
        if self.fixed is None:
            found = np.array_split(derive(pool.seed, "classes").numpy().permutation(pool.n_classes), n_clients)
        else:
            order = list(range(pool.n_classes))
            random.Random(self.fixed).shuffle(order)
            step = round(pool.n_classes / n_clients)
            found = np.split(np.array(order), [min(step * i, pool.n_classes) for i in range(1, n_clients)])
        for name, own in zip(pool.names, found, strict=True):
            if not len(own):
                raise DataError(
                    f"client {name} cannot be filled: {pool.n_classes} classes, divided among {n_clients} clients, "
                    "leave none for it; set data.partition.classes = 2 (clients then share classes), or lower "
                    "data.clients_per_domain" + ("" if self.fixed is None else ", or leave out data.partition.fixed")
                )
        return found

    def _require_all(self, n_classes: int, n_clients: int) -> None:
        if self.classes > n_classes:
            allowed = f"there are {n_classes} classes; give each client at most as many"
        elif self.classes * n_clients < n_classes:
            allowed = (
                f"{n_clients} clients of so many classes leave {n_classes - self.classes * n_clients} of {n_classes} "
                f"classes without a client: set at least {-(-n_classes // n_clients)}, or 0 to divide them"
            )
        else:
            return
        raise ConfigError([Problem("data.partition.classes", self.classes, allowed)])


def _in_turn(n_classes: int, n_clients: int, k: int, rng: np.random.Generator) -> list[np.ndarray]:
    """`k` different classes for each client; all classes are held by nearly as many clients.

    Classes that fewest clients hold come first, in random order, so that all are held once before any is held twice.
    """
    holders = np.zeros(n_classes, dtype=np.int64)
    found = []
    for _ in range(n_clients):
        order = rng.permutation(n_classes)
        chosen = order[np.argsort(holders[order], kind="stable")[:k]]
        holders[chosen] += 1
        found.append(chosen)
    return found


def evenly(classes: list[np.ndarray], n_classes: int) -> np.ndarray:
    """Shares [n_classes, n_clients] where those who hold a class have as much of it; every class has a holder."""
    held = np.zeros((n_classes, len(classes)))
    for client, own in enumerate(classes):
        held[own, client] = 1
    shares: np.ndarray = held / held.sum(1, keepdims=True)
    return shares
