"""A federated data set: clients with private images, and shared test images per domain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from secfpp.data.rules import require_sound
from secfpp.errors import ConfigError, DataError, Problem
from secfpp.grey_depth import GreyWindow
from secfpp.seeding import derive


@dataclass(frozen=True)
class Split:
    """Labelled images: `images` uint8 [n, height, width, 3], `labels` int64 [n]."""

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        for what, given in (("images", self.images), ("labels", self.labels)):
            if not isinstance(given, np.ndarray):
                raise DataError(f"{what} are {type(given).__name__}, not a NumPy array: give numpy.asarray({what})")
        if len(self.images) != len(self.labels):
            raise DataError(f"{len(self.images)} images but {len(self.labels)} labels: one label per image is needed")

    def __len__(self) -> int:
        return len(self.labels)

    def histogram(self, n_classes: int) -> np.ndarray:
        """Images per class, int64 [n_classes]."""
        return np.bincount(self.labels, minlength=n_classes)


@dataclass(frozen=True)
class ClientData:
    """One client's private data. `domain` and `group` are known to simulations only (oracle, metrics).

    Attributes:
        name: the client's name.
        domain: key of the test images that the client is measured on.
        train: training images.
        validation: validation images.
        group: what a grouping of clients should find, if that is not the domain; see `true_group`.
    """

    name: str
    domain: str
    train: Split
    validation: Split
    group: str = ""

    @property
    def true_group(self) -> str:
        """The clients it belongs with: those whose images mean the same."""
        return self.group or self.domain


@dataclass(frozen=True)
class FederatedDataset:
    """Clients, the common list of class names, and test images of each domain.

    Label c of every split means ``classes[c]``. `template` is a hand-written prompt that suits the
    images, with ``{}`` for the class name, e.g. ``"a photo of a {}"``. `facts` is anything JSON-ready that a
    report should say about the data. `newcomers` are clients that never take part in training; `hold_out` makes them.
    `grey_window` is what grey values of more than 8 bits were scaled by, if there were any.

    Raises:
        DataError: labels out of range, a domain without test images, a name given twice and the like; names the client,
            the image and the rule.
    """

    name: str
    classes: tuple[str, ...]
    clients: tuple[ClientData, ...]
    test: Mapping[str, Split]
    template: str = "a photo of a {}"
    facts: Mapping[str, object] = field(default_factory=dict)
    newcomers: tuple[ClientData, ...] = ()
    grey_window: GreyWindow | None = None

    def __post_init__(self) -> None:
        require_sound(self)

    @property
    def image_size(self) -> int:
        """Side in pixels of the images; the shorter one if they are not square."""
        height, width = self.clients[0].train.images.shape[1:3]
        return int(min(height, width))

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains, in the order of `test`."""
        return tuple(self.test)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the true groups of the clients, in order of first appearance."""
        return tuple(dict.fromkeys(client.true_group for client in self.clients))


def hold_out(dataset: FederatedDataset, share: float, seed: int) -> FederatedDataset:
    """The same data with a share of each true group's clients as newcomers, who never take part in training.

    Args:
        dataset: all clients; newcomers that it has already stay newcomers.
        share: of each group's clients, between 0 and 1; rounded to the nearest number, at least one.
        seed: decides who.

    Raises:
        ConfigError: `share` is not between 0 and 1.
        DataError: a group of which nobody would be left.
    """
    if not 0 < share < 1:
        raise ConfigError([Problem("share", share, "the share of clients held out must be between 0 and 1")])
    held: set[str] = set()
    for group in dataset.groups:
        members = sorted(client.name for client in dataset.clients if client.true_group == group)
        count = max(1, round(share * len(members)))
        if count == len(members):
            raise DataError(
                f"holding out {share:g} of the clients leaves none of the {len(members)} of group {group!r}: hold out "
                "fewer, or use data with more clients a group (data.clients_per_domain, or another data.layout)"
            )
        order = derive(seed, "hold-out", group).numpy().permutation(len(members))
        held |= {members[i] for i in order[:count]}
    return replace(
        dataset,
        clients=tuple(client for client in dataset.clients if client.name not in held),
        newcomers=(*dataset.newcomers, *(client for client in dataset.clients if client.name in held)),
    )
