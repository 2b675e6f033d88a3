"""The membership game: of each client's images a random half is trained on, and attackers ask of which half one is.

Members and others are thus alike in all but having been trained on; an attacker may know all of them, their labels, and
whose they are (N. Carlini et al., arXiv 2112.03570, section III).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from torch import Tensor

from secfpp.algorithms.training import ClientContext
from secfpp.data.federated import ClientData, FederatedDataset, Split
from secfpp.errors import DataError
from secfpp.privacy.events import Event
from secfpp.privacy.ledger import RunLedger
from secfpp.seeding import Seed, derive

LEAST_IMAGES = 4
"""Fewest images of a client that halves can be made of."""


@dataclass(frozen=True)
class Game:
    """One deal of the game.

    Attributes:
        dataset: the data that are trained on.
        pools: every image of each client, members or not.
        members: which of them are trained on, bool [n] for each client.
    """

    dataset: FederatedDataset
    pools: Mapping[str, Split]
    members: Mapping[str, np.ndarray]

    @classmethod
    def deal(cls, dataset: FederatedDataset, seed: int) -> Game:
        """Draw the half of each client's training images that is trained on; validation and test images stay.

        Raises:
            DataError: a client with too few images.
        """
        for client in dataset.clients:
            if len(client.train) < LEAST_IMAGES:
                raise DataError(
                    f"client {client.name!r} has {len(client.train)} training images: an audit trains on one half of "
                    f"them and needs {LEAST_IMAGES}; leave the client out or give it more"
                )
        pools = {client.name: client.train for client in dataset.clients}
        members = {name: half(len(pool), derive(seed, "membership", name)) for name, pool in pools.items()}
        clients = tuple(replace(c, train=part(c.train, members[c.name])) for c in dataset.clients)
        return cls(replace(dataset, clients=clients, newcomers=()), pools, members)


def half(count: int, seed: Seed) -> np.ndarray:
    """A random half of `count` images, rounded down: bool [count]."""
    chosen = np.zeros(count, dtype=bool)
    chosen[seed.numpy().permutation(count)[: count // 2]] = True
    return chosen


def halves(count: int, shadows: int, seed: Seed) -> np.ndarray:
    """Random halves, each second one what the one before left: an image is in every second one; bool [shadows, count].

    Raises:
        ValueError: an odd number, or none.
    """
    if shadows < 2 or shadows % 2:
        raise ValueError(f"{shadows} shadow prompts: an even number from 2 on, so that each image is in half of them")
    first = np.stack([half(count, derive(seed, number)) for number in range(shadows // 2)])
    return np.stack([first, ~first], axis=1).reshape(shadows, count)


def part(split: Split, chosen: np.ndarray) -> Split:
    """Some images of a split."""
    return Split(split.images[chosen], split.labels[chosen])


class Repeatable:
    """Randomness of a seed where clients take secret randomness: for noise that an attacker makes for itself.

    Args:
        seed: what it follows from.
    """

    def __init__(self, seed: Seed) -> None:
        self._generator = seed.numpy()

    def random_bytes(self, count: int) -> bytes:
        """`count` bytes, others each time."""
        return self._generator.bytes(count)


@dataclass(frozen=True)
class Uncharged(RunLedger):
    """A ledger in which nothing is written: what shadows make under noise is never released."""

    def charge(self, event: Event, clients: Iterable[str], round_: int) -> float:
        """Nothing is charged."""
        return 0.0


@dataclass(frozen=True)
class Shadow(ClientContext):
    """A client as an attacker imagines it: with other training images, and other batches, of the same pool.

    Attributes:
        known: features of these images, float32 [n, projection].
    """

    known: Tensor | None = None

    @cached_property
    def features(self) -> Tensor:
        """Features of the training images, float32 [n, projection]."""
        assert self.known is not None
        return self.known

    @classmethod
    def of(
        cls,
        client: ClientContext,
        pool: Split,
        features: Tensor,
        chosen: np.ndarray,
        number: int,
        ledger: RunLedger | None = None,
    ) -> Shadow:
        """A client that trains on the `chosen` images of its pool.

        Args:
            client: whom it stands for.
            pool: all its images.
            features: of them, float32 [n, projection].
            chosen: bool [n].
            number: of the shadow; decides the batches that it draws, and its noise.
            ledger: of all shadows of the client, if its method asks for one.
        """
        noise = derive(client.seed, client.client, "shadow noise", number)
        data = ClientData(
            client.client, client.data.domain, part(pool, chosen), client.data.validation, client.data.group
        )
        return cls(
            client=f"{client.client}/shadow-{number}",
            data=data,
            group=client.group,
            backbone=client.backbone,
            tokens=client.tokens,
            seed=client.seed,
            start=client.start,
            template=client.template,
            party=client.party and replace(client.party, entropy=Repeatable(noise), session=None),
            ledger=ledger,
            known=features[chosen],
        )
