"""Simulated clients of several sources of pictures, where each source has pictures of every class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from secfpp.data.dealing import deal
from secfpp.data.federated import FederatedDataset, Split
from secfpp.data.label_shift import rotations
from secfpp.data.partitions.base import Partition, wrong
from secfpp.data.partitions.by_domain import ByDomain
from secfpp.errors import ConfigError, DataError, Problem
from secfpp.seeding import Seed, derive

PARTS = ("train", "validation", "test")
TEMPLATE = "a picture of {}"


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """How the pictures of several sources are shared out.

    Attributes:
        label_shift: share of triples of classes whose names go round, by another number of steps for each source,
            0..1; 0 leaves the names as they are.
        shots: training images per class and source.
        validation_shots: validation images per class and source.
        test_shots: test images per class and source.
        clients_per_domain: clients for each source.
        alpha: Dirichlet concentration of classes over clients, where the partition is by Dirichlet.
        partition: who holds what; ``by_domain`` deals each source to clients of its own.
    """

    label_shift: float = 0.0
    shots: int = 32
    validation_shots: int = 16
    test_shots: int = 16
    clients_per_domain: int = 5
    alpha: float = 0.3
    partition: Partition = field(default_factory=ByDomain)

    def __post_init__(self) -> None:
        if problems := self.problems():
            raise ConfigError(problems)

    def problems(self) -> list[Problem]:
        """All values that cannot work."""
        found = [
            Problem(f"data.{name}", getattr(self, name), "must be at least 1")
            for name in ("shots", "validation_shots", "test_shots", "clients_per_domain")
            if getattr(self, name) < 1
        ]
        if not 0 <= self.label_shift <= 1:
            found.append(Problem("data.label_shift", self.label_shift, "must be in 0..1"))
        if not self.alpha > 0:
            found.append(Problem("data.alpha", self.alpha, "must be positive"))
        return found + wrong(self.partition)

    @property
    def images(self) -> dict[str, int]:
        """Images per class and source of each part."""
        return {"train": self.shots, "validation": self.validation_shots, "test": self.test_shots}


def share_out(
    name: str,
    classes: Sequence[str],
    pictures: Mapping[str, Mapping[str, np.ndarray]],
    settings: SourceSettings,
    seed: int,
    facts: Mapping[str, object],
) -> FederatedDataset:
    """A data set of `clients_per_domain` clients for each source, their domain unless the partition mixes them.

    Args:
        name: of the data set.
        classes: names of the classes.
        pictures: source -> part -> uint8 [n_classes * n, height, width, 3], class by class, n as in `settings.images`.
        settings: how to share out.
        seed: of names, partition and nothing else.
        facts: for the report.
    """
    root = derive(seed, name)
    named = rotations(list(pictures), len(classes), settings.label_shift, derive(root, "label-shift"))
    sources = {
        source: {
            part: Split(own[part], np.repeat(named[source], n).astype(np.int64)) for part, n in settings.images.items()
        }
        for source, own in pictures.items()
    }
    clients, tests = deal(
        settings.partition,
        sources,
        len(classes),
        clients_per_domain=settings.clients_per_domain,
        alpha=settings.alpha,
        shots=settings.images,
        seed=root,
    )
    return FederatedDataset(name, tuple(classes), tuple(clients), tests, TEMPLATE, facts)


def choose(
    labels: np.ndarray, classes: Sequence[str], images: Mapping[str, int], source: str, seed: Seed
) -> dict[str, np.ndarray]:
    """Rows of each part, class by class, none in two parts.

    Args:
        labels: of a source's pictures, int64 [n].
        classes: their names.
        images: part -> pictures of each class.
        source: what it is called in errors.
        seed: decides which.

    Raises:
        DataError: too few pictures of a class; names it.
    """
    parts: dict[str, list[np.ndarray]] = {part: [] for part in images}
    needed = sum(images.values())
    settings = " and ".join("data.shots" if part == "train" else f"data.{part}_shots" for part in images)
    for label, name in enumerate(classes):
        rows = derive(seed, label).numpy().permutation(np.flatnonzero(labels == label))
        if len(rows) < needed:
            raise DataError(
                f"{source} has {len(rows)} pictures of {name!r}, but {settings} ask for {needed}: lower them"
            )
        ends = np.cumsum([*images.values()])
        for part, chosen in zip(parts, np.split(rows[:needed], ends[:-1]), strict=True):
            parts[part].append(chosen)
    return {part: np.concatenate(rows) for part, rows in parts.items()}
